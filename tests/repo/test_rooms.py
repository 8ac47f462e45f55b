"""Rules about the tree: who may import whom, and what gets installed."""

import ast
import importlib
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from tiny.places import ROOT

RUNTIME = ROOT / "edge_et"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
FOLDERS = PROJECT["tool"]["setuptools"]["package-dir"]
TOOLS = sorted(name for name in FOLDERS if name != "edge_et")

# The way of the data. A module imports its own room, the doors of the rooms before it, and the
# ground.
GROUND = (
    "cpu_flags",
    "errors",
    "cancellation",
    "deprecation",
    "foreign_errors",
    "native_threads",
    "native_handle",
    "native_libraries",
    "plain_values",
    "options",
    "keywords",
    "sensors",
    "threads",
    "available_memory",
    "results",
)
ROOMS = (
    "store",
    "bundle",
    "weights",
    "image",
    "llm",
    "generation",
    "stages",
    "pipeline",
    "batch",
    "ray",
    "camera",
    "checkup",
    "serve",
    "cli",
)
DOORS = {
    "onnxruntime": "image/vision_tower.py",
    "llama_cpp": "llm/engines/llama_cpp.py",
    "ik_llama_cpp": "llm/engines/ik_llama_cpp.py",
    "gguf": "weights/tensors.py",
    "llguidance": "generation/json_grammar.py",
    "pillow_heif": "image/heif.py",
    "av": "camera/rtsp.py",
    "cv2": "camera/background.py",
    "pyarrow": "batch/parquet.py",
    "ray": "ray/library.py",
}

LOOK_AROUND = {
    "onnxruntime",
    "llama_cpp",
    "ik_llama_cpp",
    "openvino",
    "openvino_genai",
    "openvino_tokenizers",
}

EXPORT_ROOMS = ("checkpoint", "chat", "families", "vision", "llm", "building")


def modules(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*.py") if "build" not in p.relative_to(ROOT).parts)


def imports(path: Path) -> Iterator[tuple[ast.stmt, str]]:
    """Yield every import of a module: the statement, and the dotted name of a module."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((node, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            yield node, node.module or ""


def rooms(folder: Path) -> set[str]:
    return {path.parent.name for path in folder.glob("*/__init__.py")}


def test_every_module_stands_in_a_room() -> None:
    assert rooms(RUNTIME) == {*ROOMS, "errors"}
    ground = {path.stem for path in RUNTIME.glob("*.py")}
    assert ground == {*GROUND, "__init__", "__main__"} - {"errors"}


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_says_what_it_takes_gives_and_exports(room: str) -> None:
    tree = ast.parse((RUNTIME / room / "__init__.py").read_text())
    said = ast.get_docstring(tree) or ""
    if room != "cli":  # a program has streams and an exit status instead
        assert "In: " in said
        assert "Out:" in said
        assert "not known here" in " ".join(said.split()) or "is opened here" in said
        module = importlib.import_module(f"edge_et.{room}")
        for name in module.__all__:
            assert getattr(module, name) is not None


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_doors_of_rooms_before_it(room: str) -> None:
    before = {f"edge_et.{name}" for name in (*GROUND, *ROOMS[: ROOMS.index(room)])}
    for path in modules(RUNTIME / room):
        for _, name in imports(path):
            if not name.startswith("edge_et") or name.startswith(f"edge_et.{room}."):
                continue
            if room == "cli" and (name == "edge_et" or name.startswith(tuple(TOOLS))):
                continue
            assert name in before, f"{path.relative_to(ROOT)} imports {name}"


@pytest.mark.parametrize("name", GROUND)
def test_the_ground_stands_on_nothing_above(name: str) -> None:
    allowed = {f"edge_et.{other}" for other in GROUND[: GROUND.index(name)]}
    package = RUNTIME / name
    for path in modules(package) if package.is_dir() else [RUNTIME / f"{name}.py"]:
        for _, imported in imports(path):
            own = imported.startswith(f"edge_et.{name}.")
            assert own or not imported.startswith("edge_et") or imported in allowed


@pytest.mark.parametrize("tool", TOOLS)
def test_tools_come_in_by_the_doors(tool: str) -> None:
    inner = {f"edge_et.{room}." for room in ROOMS}
    for path in modules(ROOT / FOLDERS[tool]):
        for _, name in imports(path):
            assert not name.startswith(tuple(inner)), f"{path.relative_to(ROOT)} imports {name}"


@pytest.mark.parametrize("room", EXPORT_ROOMS)
def test_rooms_of_export_stand_on_one_another(room: str) -> None:
    index = EXPORT_ROOMS.index(room)
    later = tuple(f"edge_et.export.{other}" for other in EXPORT_ROOMS[index + 1 :])
    for path in modules(ROOT / "export" / room):
        for _, name in imports(path):
            assert not name.startswith(later), f"{path.relative_to(ROOT)} imports {name}"


def asked_for(path: Path) -> Iterator[str]:
    """Yield what a module imports by `import_library`, with dotted names cut to the package."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_library"):
            (name,) = node.args
            yield ast.literal_eval(name).partition(".")[0] if isinstance(name, ast.Constant) else ""


@pytest.mark.parametrize("library", DOORS)
def test_a_native_library_has_one_door(library: str) -> None:
    users = set()
    for path in modules(RUNTIME):
        at_import_time = ast.parse(path.read_text()).body
        statements = [node for node, name in imports(path) if name.partition(".")[0] == library]
        for statement in statements:
            assert ast.dump(statement) not in map(ast.dump, at_import_time)
        if statements or library in asked_for(path):
            users.add(path.relative_to(RUNTIME).as_posix())
    assert users == {DOORS[library]}


@pytest.mark.parametrize("folder", [*FOLDERS.values(), "models", "scripts"])
def test_who_looks_around_when_loaded_is_imported_by_import_library(folder: str) -> None:
    """What these libraries look for in their environment is in place then."""
    for path in modules(ROOT / folder):
        for _, name in imports(path):
            library = name.partition(".")[0]
            assert library not in LOOK_AROUND, f"{path.relative_to(ROOT)} imports {name}"


def test_no_call_into_an_engine_bypasses_its_door() -> None:
    """Whoever calls llama.cpp names one of its functions or constants."""
    native = re.compile(r"\b(llama|ggml)_[a-z_]+\(|\b(LLAMA|GGML)_[A-Z]+")
    doors = RUNTIME / "llm" / "engines"
    for name in ("llama_cpp", "ik_llama_cpp"):
        assert native.search((RUNTIME / DOORS[name]).read_text())
    for path in modules(RUNTIME):
        # The log is told to listen.
        if path.parent != doors and path != RUNTIME / "llm" / "native_log.py":
            assert not native.search(path.read_text()), path.relative_to(ROOT)
            if path != RUNTIME / "llm" / "__init__.py":  # for the tools, which measure with it
                assert "load_library" not in path.read_text(), path.relative_to(ROOT)


def test_the_runtime_knows_no_tools() -> None:
    for path in modules(RUNTIME):
        if path.parent.name == "cli":
            continue
        for _, name in imports(path):
            assert not name.startswith(tuple(TOOLS)), f"{path} imports {name}"


def test_the_runtime_needs_no_training_library() -> None:
    for path in modules(RUNTIME):
        for _, name in imports(path):
            assert name.partition(".")[0] not in {
                "torch",
                "transformers",
                "optimum",
                "onnx",
            }


def test_every_package_of_the_tree_is_installed() -> None:
    found = set()
    for name, folder in FOLDERS.items():
        for init in (ROOT / folder).rglob("__init__.py"):
            inner = init.parent.relative_to(ROOT / folder).parts
            found.add(".".join((name, *inner)))
    assert sorted(PROJECT["tool"]["setuptools"]["packages"]) == sorted(found)


def test_modules_stay_small() -> None:
    sizes = {
        str(path.relative_to(ROOT)): len(path.read_text().splitlines())
        for folder in FOLDERS.values()
        for path in modules(ROOT / folder)
    }
    assert {name: size for name, size in sizes.items() if size > 400} == {}
