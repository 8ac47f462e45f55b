"""Compiles examples/cpp for 64-bit ARM: `python scripts/arm/cpp_loader.py [FOLDER]`.

In: a system of scripts/arm/system.py. Out: the loader without Python, linked to that system's
libraries: ONNX Runtime's out of the wheel, and llama.cpp's, which has its kernels beside it.
"""

import subprocess
import sys
from pathlib import Path

from cross_compile import TARGET
from system import DEFAULT, ROOT, System, make_once, make_system, what_is_missing

_LIBRARY = "libonnxruntime.so"


def make_loader(system: System) -> Path:
    """Compile it, and return the program.

    Args:
        system: whose folder keeps what was downloaded and compiled, too.
    """
    parts, build = system.folder / "cpp-parts", system.folder / "cpp"
    (runtime,) = (system.folder / "packages" / "onnxruntime" / "capi").glob(f"{_LIBRARY}.*")
    engine = system.folder / "llama.cpp"
    key = f"{runtime.name} {engine.with_name('llama.cpp.made').read_text()}"
    make_once(parts, lambda part: _collect(part, runtime, engine / "llama_cpp" / "lib"), key)
    options = (
        *TARGET,
        f"LLAMA_DIR={parts / 'llama'}",
        f"ONNXRUNTIME_DIR={parts / 'onnxruntime'}",
        f"CMAKE_PREFIX_PATH={parts / 'usr'}",
        "CMAKE_LIBRARY_ARCHITECTURE=aarch64-linux-gnu",
    )
    source = ROOT / "examples" / "cpp"
    command = ["cmake", "-S", source, "-B", build, "-G", "Ninja"]
    subprocess.run([*command, *(f"-D{option}" for option in options)], check=True)
    subprocess.run(["cmake", "--build", build], check=True)
    return build / "edge-et-cpp"


def _collect(folder: Path, runtime: Path, engine: Path) -> None:
    """Collect headers and static libraries, and link to the shared ones."""
    script = ROOT / "scripts" / "fetch_cpp_parts.py"
    subprocess.run([sys.executable, script, folder, "arm64"], check=True)
    (folder / "llama" / "lib").symlink_to(engine)
    libraries = folder / "onnxruntime" / "lib"
    libraries.mkdir()
    for name in (_LIBRARY, f"{_LIBRARY}.1"):
        (libraries / name).symlink_to(runtime)


if __name__ == "__main__":
    if reason := what_is_missing():
        sys.exit(f"{reason}: docs/arm.md says what to install")
    place = Path(sys.argv[1]).absolute() if sys.argv[1:] else DEFAULT
    print(make_loader(make_system(place)))
