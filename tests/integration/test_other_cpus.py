"""What happens on CPUs that this one is not, emulated by QEMU.

QEMU shows a program the /proc/cpuinfo of the machine that it runs on, unless there is one under
its prefix.
"""

import importlib.util
import platform
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tiny.places import EXAMPLES, ROOT

from edge_et.cpu_flags import NEEDS

EMULATOR = "qemu-x86_64"
CELERON = ROOT / "tests" / "data" / "cpuinfo" / "celeron-j4105.txt"

ASK = "from edge_et.cpu_flags import missing_for; print(*missing_for('prebuilt'))"
COMPUTE = """
import ctypes
import ik_llama_cpp._ctypes_api as ik

ik.llama_backend_init()
row = (ctypes.c_float * 32)()
ik._lib.quantize_row_q8_0(row, (ctypes.c_char * 64)(), ctypes.c_int64(32))
print("computed")
"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        platform.machine() != "x86_64" or shutil.which(EMULATOR) is None, reason=f"no {EMULATOR}"
    ),
]
prebuilt = pytest.mark.skipif(
    importlib.util.find_spec("ik_llama_cpp") is None, reason="the prebuilt engine is not installed"
)


def emulate(cpu: str, code: str, *options: str | Path) -> subprocess.CompletedProcess[str]:
    command = [EMULATOR, *options, "-cpu", cpu, sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_celeron_is_told_what_it_lacks(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    shutil.copy(CELERON, tmp_path / "proc" / "cpuinfo")
    done = emulate("Denverton", ASK, "-L", tmp_path)
    assert done.stdout.split() == ["avx", "avx2", "f16c", "fma"], done.stderr


@prebuilt
def test_the_command_line_refuses_an_engine_that_would_end_it(
    tiny_bundle: Path, tmp_path: Path
) -> None:
    (tmp_path / "proc").mkdir()
    shutil.copy(CELERON, tmp_path / "proc" / "cpuinfo")
    words = ["answer", EXAMPLES / "cat.png", "What is this?", "--model", tiny_bundle]
    arguments = [str(word) for word in (*words, "--engine", "prebuilt")]
    code = f"import sys; sys.argv[1:] = {arguments}; from edge_et.cli import main; main()"
    done = emulate("Denverton", code, "-L", tmp_path)
    assert done.returncode == 1
    line = done.stderr.splitlines()[-1]  # behind QEMU's own warnings
    assert "'prebuilt' needs what this CPU does not have (avx, avx2, f16c, fma)" in line
    assert "pip install 'edge-et[llama]'" in line


@prebuilt
@pytest.mark.parametrize("flag", ["avx2", "f16c", "fma"])
def test_what_is_said_to_be_needed_is(flag: str) -> None:
    assert flag in NEEDS["prebuilt"]["x86_64"]
    done = emulate(f"Haswell,-{flag}", COMPUTE)
    assert done.stdout == ""
    assert done.returncode in (-signal.SIGILL, 128 + signal.SIGILL)


@prebuilt
def test_nothing_else_is_needed() -> None:
    done = emulate("Haswell,-abm,-bmi1,-bmi2,-movbe", COMPUTE)
    assert done.stdout == "computed\n", done.stderr
