import importlib
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

LOADS = """
import os
from edge_et.llm import load_library
from edge_et.native_libraries import import_library
load_library()
import_library("llama_cpp.llama_cpp")
print(os.environ.get("GOMP_SPINCOUNT"))
"""


def run(code: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code]
    variables = bare_environment(folder, **environment)
    return subprocess.run(command, env=variables, capture_output=True, text=True, check=True)


@pytest.fixture(scope="module")
def libgomp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The one that llama.cpp uses."""
    mapped = "print(*{line.split()[-1] for line in open('/proc/self/maps') if 'libgomp' in line})"
    *_, paths = run(LOADS + mapped, tmp_path_factory.mktemp("home")).stdout.split("\n", 1)
    if not paths.strip():
        pytest.skip("llama.cpp was built without libgomp")
    return Path(paths.strip())


def spins(folder: Path, **environment: str) -> str:
    """Return how often threads of libgomp look before they sleep, as it tells when it is loaded."""
    told = run(LOADS, folder, OMP_DISPLAY_ENV="VERBOSE", **environment)
    assert told.stdout.split() == [environment.get(SPIN_COUNT, "None")]  # nothing is left behind
    (found,) = re.findall(rf"{SPIN_COUNT} = '(\d+)'", told.stderr)
    return str(found)


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
    tmp_path: Path, variable: str, value: str, expected: str
) -> None:
    assert spins(tmp_path, **{variable: value}) == expected


def test_a_libgomp_that_was_loaded_before_is_told_once(libgomp: Path, tmp_path: Path) -> None:
    before = f"import ctypes; ctypes.CDLL({str(libgomp)!r})\n"
    (line,) = run(before + LOADS, tmp_path).stderr.splitlines()
    assert str(libgomp) in line
    assert f"{SPIN_COUNT}=1000" in line
    assert run(before + LOADS, tmp_path, **{SPIN_COUNT: "300000"}).stderr == ""
    assert run(LOADS, tmp_path).stderr == ""


def test_a_libgomp_that_llama_cpp_does_not_use_is_no_matter(libgomp: Path, tmp_path: Path) -> None:
    """Wheels bring copies, most of them under names that nobody else asks for."""
    copy = tmp_path / "libgomp-0123abcd.so.1"
    copy.write_bytes(libgomp.read_bytes().replace(b"libgomp.so.1\0", b"libgomp.so.7\0"))
    assert run(f"import ctypes; ctypes.CDLL({str(copy)!r})\n" + LOADS, tmp_path).stderr == ""


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
