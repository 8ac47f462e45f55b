import importlib.util
import logging
import os
import re
import subprocess
import sys
import types
from pathlib import Path

import pytest
from tiny.watched import bare_environment

from edge_et.native_libraries import SPIN_COUNT, TELEMETRY, import_library

MODULES = {"llama": "llama_cpp.llama_cpp", "prebuilt": "ik_llama_cpp._ctypes_api"}
NAMES = {"llama": "llama.cpp", "prebuilt": "ik_llama.cpp"}

LOAD = """
import os
from edge_et.native_libraries import import_library
import_library({!r})
print(os.environ.get("GOMP_SPINCOUNT"))
"""
MAPPED = """
print(*{line.split()[-1] for line in open('/proc/self/maps') if 'libgomp' in line})
"""
AS_TORCH_DOES = "import ctypes; ctypes.CDLL({!r}, ctypes.RTLD_GLOBAL)\n"


def run(code: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code]
    variables = bare_environment(folder, **environment)
    return subprocess.run(command, env=variables, capture_output=True, text=True, check=True)


@pytest.fixture(scope="module", params=list(MODULES))
def engine(request: pytest.FixtureRequest) -> str:
    if importlib.util.find_spec(MODULES[request.param].partition(".")[0]) is None:
        pytest.skip(f"the engine {request.param} is not installed")
    return str(request.param)


@pytest.fixture(scope="module")
def load(engine: str) -> str:
    """Code that loads the engine twice, and tells what is left of the variable."""
    return LOAD.format(MODULES[engine]) * 2


@pytest.fixture(scope="module")
def libgomp(load: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The one that the engine uses."""
    *_, paths = run(load + MAPPED, tmp_path_factory.mktemp("home")).stdout.splitlines()
    if not paths:
        pytest.skip("the engine was built without libgomp")
    return Path(paths)


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("HARMLESS", "1", "1000"),
        (SPIN_COUNT, "77", "77"),
        ("OMP_WAIT_POLICY", "PASSIVE", "0"),
    ],
)
@pytest.mark.usefixtures("libgomp")
def test_waiting_threads_soon_sleep_unless_the_user_has_said_otherwise(
    load: str, tmp_path: Path, variable: str, value: str, expected: str
) -> None:
    told = run(load, tmp_path, OMP_DISPLAY_ENV="VERBOSE", **{variable: value})
    left = value if variable == SPIN_COUNT else "None"
    assert told.stdout.split() == [left, left]
    assert re.findall(rf"{SPIN_COUNT} = '(\d+)'", told.stderr) == [expected]


def test_engines_with_a_libgomp_each_both_soon_sleep(tmp_path: Path) -> None:
    both = "".join(LOAD.format(module) for module in MODULES.values())
    try:
        libraries = run(both + MAPPED, tmp_path).stdout.splitlines()[-1].split()
    except subprocess.CalledProcessError:
        pytest.skip("one of the engines is not installed")
    told = run(both, tmp_path, OMP_DISPLAY_ENV="VERBOSE").stderr
    assert re.findall(rf"{SPIN_COUNT} = '(\d+)'", told) == ["1000"] * len(libraries)
    assert run(both, tmp_path).stderr == ""


def test_a_libgomp_that_was_loaded_before_is_told_once(
    engine: str, load: str, libgomp: Path, tmp_path: Path
) -> None:
    before = f"import ctypes; ctypes.CDLL({str(libgomp)!r})\n"
    (line,) = run(before + load, tmp_path).stderr.splitlines()
    assert str(libgomp) in line
    assert f"{NAMES[engine]} shares it" in line
    assert f"{SPIN_COUNT}=1000" in line
    assert run(before + load, tmp_path, **{SPIN_COUNT: "300000"}).stderr == ""
    assert run(load, tmp_path).stderr == ""


def test_so_is_one_that_all_libraries_see(load: str, libgomp: Path, tmp_path: Path) -> None:
    """Torch shows them its own, and an engine calls that one, though it brings another."""
    other = copy_of(libgomp, tmp_path)
    (line,) = run(AS_TORCH_DOES.format(str(other)) + load, tmp_path).stderr.splitlines()
    assert str(other) in line


def test_a_libgomp_that_the_engine_does_not_use_is_no_matter(
    load: str, libgomp: Path, tmp_path: Path
) -> None:
    """Wheels bring copies, most of them under names that nobody else asks for."""
    other = copy_of(libgomp, tmp_path)
    assert run(f"import ctypes; ctypes.CDLL({str(other)!r})\n" + load, tmp_path).stderr == ""


def copy_of(libgomp: Path, folder: Path) -> Path:
    """Copy a libgomp to a name of its own, by which the dynamic linker knows it, too."""
    copy = folder / "libgomp-0123abcd.so.1"
    data = libgomp.read_bytes()
    for name in (b"libgomp.so.1\0", libgomp.name.encode() + b"\0"):
        data = data.replace(name, name[:-2] + b"7\0")
    copy.write_bytes(data)
    return copy


@pytest.fixture
def imported(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """An onnxruntime that the program has imported before."""
    module = types.ModuleType("onnxruntime")
    monkeypatch.setitem(sys.modules, "onnxruntime", module)
    monkeypatch.delenv(TELEMETRY, raising=False)
    return module


def test_an_onnxruntime_that_was_imported_before_is_told_once(
    imported: types.ModuleType, caplog: pytest.LogCaptureFixture
) -> None:
    assert import_library("onnxruntime") is imported
    assert import_library("onnxruntime") is imported
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert f"{TELEMETRY}=1" in record.getMessage()
    assert os.environ[TELEMETRY] == "1"  # for the processes that this one starts


def test_who_wants_telemetry_has_it(
    imported: types.ModuleType, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(TELEMETRY, "0")
    assert import_library("onnxruntime") is imported
    assert os.environ[TELEMETRY] == "0"
    assert caplog.records == []


@pytest.mark.parametrize("name", ["openvino", "openvino_genai", "openvino_tokenizers"])
def test_openvino_finds_nobody_to_report_to(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, "openvino_telemetry", types.ModuleType("openvino_telemetry"))
    del sys.modules["openvino_telemetry"]
    import_library(name)
    with pytest.raises(ImportError):
        importlib.import_module("openvino_telemetry")
