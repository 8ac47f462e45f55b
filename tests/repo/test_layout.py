"""Rules about the tree: who may import whom, and what gets installed."""

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RUNTIME = ROOT / "edge_et"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
FOLDERS = PROJECT["tool"]["setuptools"]["package-dir"]
TOOLS = sorted(name for name in FOLDERS if name != "edge_et")

# The way of the data; a module imports only what stands before it.
ORDER = (
    "errors",
    "files",
    "memory",
    "snapshots",
    "options",
    "manifest",
    "bundle",
    "image",
    "tiling",
    "packing",
    "vision",
    "tokenizer",
    "prompt",
    "kv",
    "native_log",
    "decoder",
    "prefixes",
    "evaluator",
    "llama",
    "context",
    "llm",
    "cost",
    "sampling",
    "lookup",
    "loops",
    "blocked_words",
    "deadline",
    "results",
    "encoder",
    "writing",
    "marker",
    "answering",
    "thinking",
    "overlap",
    "stages",
    "hints",
    "request",
    "course",
    "turns",
    "pipeline",
    "profile",
    "opening",
    "loading",
)
NATIVE = {"onnxruntime": "vision", "llama_cpp": "llama"}


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


def stages() -> list[Path]:
    return [path for path in modules(RUNTIME) if path.parent == RUNTIME and path.stem in ORDER]


def test_every_module_has_its_place() -> None:
    known = {*ORDER, "__init__", "__main__"}
    assert {path.stem for path in modules(RUNTIME) if path.parent == RUNTIME} == known


@pytest.mark.parametrize("path", stages(), ids=lambda path: path.stem)
def test_modules_import_only_what_comes_before(path: Path) -> None:
    before = ORDER[: ORDER.index(path.stem)]
    for _, name in imports(path):
        package, _, module = name.partition(".")
        if package == "edge_et":
            assert module in before, f"{path.stem} imports {name}"


@pytest.mark.parametrize("library", NATIVE)
def test_a_native_library_has_one_door(library: str) -> None:
    users = set()
    for path in modules(RUNTIME):
        at_import_time = ast.parse(path.read_text()).body
        for statement, name in imports(path):
            if name.partition(".")[0] == library:
                users.add(path.stem)
                assert ast.dump(statement) not in map(ast.dump, at_import_time)
    assert users == {NATIVE[library]}


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
                "gguf",
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
