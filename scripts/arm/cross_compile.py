"""Compiles llama.cpp for 64-bit ARM on a machine that is none, once for all CPUs.

In: the source distribution of llama-cpp-python. Out: its package, with libraries for ARM: of the
kernels one for each kind of CPU, of which the program that runs takes the best.
"""

import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

COMPILERS = ("aarch64-linux-gnu-gcc", "aarch64-linux-gnu-g++")
TARGET = (
    "CMAKE_SYSTEM_NAME=Linux",
    "CMAKE_SYSTEM_PROCESSOR=aarch64",
    f"CMAKE_C_COMPILER={COMPILERS[0]}",
    f"CMAKE_CXX_COMPILER={COMPILERS[1]}",
)
"""What CMake has to be told to compile for 64-bit ARM."""

KERNELS = {
    "armv8.0_1": "",
    "armv8.2_2": "DOTPROD FP16_VECTOR_ARITHMETIC",
    "armv8.6_0": "DOTPROD FP16_VECTOR_ARITHMETIC MATMUL_INT8",
}
"""What is compiled, in llama.cpp's names: for a Raspberry Pi 4, for a Raspberry Pi 5, and with int8
matrices. llama.cpp has the last of them for Android alone. Its list for Linux has five more, for
CPUs with SVE and SME, of which compilers before GCC 14 do not know all."""

_LINUX = re.compile(r'"ARM"\)\s+if \(CMAKE_SYSTEM_NAME MATCHES "Linux"\)\n(.*?)elseif', re.DOTALL)
_OPTIONS = (
    "BUILD_SHARED_LIBS=ON",
    "CMAKE_BUILD_TYPE=Release",
    "CMAKE_BUILD_WITH_INSTALL_RPATH=ON",
    "CMAKE_INSTALL_RPATH=$ORIGIN",
    "GGML_BACKEND_DL=ON",
    "GGML_CPU_ALL_VARIANTS=ON",
    "GGML_NATIVE=OFF",
    "LLAMA_BUILD_COMMON=OFF",
    "LLAMA_BUILD_EXAMPLES=OFF",
    "LLAMA_BUILD_SERVER=OFF",
    "LLAMA_BUILD_TESTS=OFF",
    "LLAMA_BUILD_TOOLS=OFF",
)


def cross_compile(folder: Path, package: Path, version: str) -> None:
    """Make a folder that can be put on Python's path.

    Args:
        folder: keeps what was downloaded and compiled, so that it goes on where it was.
        package: is made.
        version: of llama-cpp-python.
    """
    source = folder / f"llama_cpp_python-{version}"
    if not source.exists():
        _unpack_source(folder, version)
    choose_kernels(source / "vendor" / "llama.cpp" / "ggml" / "src" / "CMakeLists.txt")
    build = folder / f"build-{version}"
    command = ["cmake", "-S", source / "vendor" / "llama.cpp", "-B", build, "-G", "Ninja"]
    subprocess.run([*command, *(f"-D{option}" for option in (*_OPTIONS, *TARGET))], check=True)
    subprocess.run(["cmake", "--build", build, "--target", "llama"], check=True)
    shutil.copytree(source / "llama_cpp", package / "llama_cpp")
    libraries = package / "llama_cpp" / "lib"
    libraries.mkdir(exist_ok=True)
    for library in (build / "bin").glob("lib*.so*"):
        shutil.copy(library, libraries / library.name, follow_symlinks=False)
    information = package / f"llama_cpp_python-{version}.dist-info"
    information.mkdir()
    shutil.copy(source / "PKG-INFO", information / "METADATA")


def _unpack_source(folder: Path, version: str) -> None:
    part = folder / "source.part"
    shutil.rmtree(part, ignore_errors=True)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", part]
    command += ["--no-binary=:all:", f"llama-cpp-python=={version}"]
    subprocess.run(command, check=True)
    (archive,) = part.glob("*.tar.gz")
    with tarfile.open(archive) as files:
        files.extractall(part, filter="data")
    (source,) = (path for path in part.iterdir() if path.is_dir())
    source.rename(folder / source.name)
    shutil.rmtree(part)


def choose_kernels(lists: Path) -> None:
    """Put our kernels in place of llama.cpp's list for Linux on ARM; nothing where they are there.

    Args:
        lists: ggml's CMakeLists.txt.
    """
    text = lists.read_text()
    (found,) = _LINUX.finditer(text)
    lines = "".join(f"ggml_add_cpu_backend_variant({tag} {has})\n" for tag, has in KERNELS.items())
    if found[1] != lines:
        lists.write_text(f"{text[: found.start(1)]}{lines}{text[found.end(1) :]}")
