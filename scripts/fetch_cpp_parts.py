"""Collects what examples/cpp is built with: headers and libraries, in one folder.

Usage: python scripts/fetch_cpp_parts.py FOLDER [DEBIAN_ARCHITECTURE]

FOLDER/llama and FOLDER/onnxruntime hold `include` and `lib`. The libraries are those of the
installed wheels llama-cpp-python and onnxruntime, as links; for another architecture than this
machine's there are none, whoever builds for it brings its own. FOLDER/usr holds what Debian 12 has
of the other libraries, as static ones. Nothing is installed: packages are downloaded by apt-get
with lists of its own, which checks their signatures, and unpacked. The header of ONNX Runtime is
Debian 13's: a library knows the functions of all versions before it.
"""

import base64
import hashlib
import importlib.metadata
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterable
from pathlib import Path

KEYS = "/usr/share/keyrings/debian-archive-keyring.gpg"
INSTALL_KEYS = "apt install debian-archive-keyring"
INSTALL_LLAMA = "in the clone, pip install '.[mini]' ./models/mini"
MIRROR = "http://deb.debian.org/debian"
PACKAGES = {
    "bookworm": (
        "libpng-dev",
        "libssl-dev",
        "libturbojpeg0-dev",
        "libutf8proc-dev",
        "nlohmann-json3-dev",
        "zlib1g-dev",
    ),
    "trixie": ("libonnxruntime-dev",),
}
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def main(folder: Path, architecture: str) -> None:
    """Fill a folder.

    Args:
        folder: is made; what it holds already is kept.
        architecture: Debian's name of the one to build for.
    """
    if not Path(KEYS).exists():
        sys.exit(f"{KEYS} is missing, which packages are checked by: {INSTALL_KEYS}")
    try:
        importlib.metadata.distribution("llama-cpp-python")
    except importlib.metadata.PackageNotFoundError:
        sys.exit(f"{sys.prefix} has no llama-cpp-python: {INSTALL_LLAMA}")
    copy_headers(llama_headers(folder), folder / "llama" / "include")
    for release, names in PACKAGES.items():
        unpack_packages(release, [f"{name}:{architecture}" for name in names], folder)
    headers = (folder / "usr" / "include" / "onnxruntime").glob("*.h")
    copy_headers(headers, folder / "onnxruntime" / "include")
    if architecture == native_architecture():
        link(installed_libraries("llama-cpp-python", "llama_cpp/lib", "lib"), folder / "llama/lib")
        (library,) = installed_libraries("onnxruntime", "onnxruntime/capi", "libonnxruntime.so.")
        link([library], folder / "onnxruntime/lib")


def native_architecture() -> str:
    """Return Debian's name of this machine's architecture."""
    return ARCHITECTURES.get(platform.machine(), platform.machine())


def llama_headers(folder: Path) -> list[Path]:
    """Return llama.cpp's headers of the installed version.

    The wheel brings them, but so does ik-llama-cpp-python under the same names. Where those are
    there, the source distribution has the right ones.

    Args:
        folder: where to unpack that.
    """
    distribution = importlib.metadata.distribution("llama-cpp-python")
    files = [file for file in distribution.files or () if file.parts[0] == "include"]
    found = [Path(str(file.locate())) for file in files]
    if found and all(
        file.hash is not None and path.is_file() and digest(path) == file.hash.value
        for file, path in zip(files, found, strict=True)
    ):
        return found
    wanted = f"llama-cpp-python=={distribution.version}"
    source = folder / "llama-cpp-python"
    run("-m", "pip", "download", "--no-deps", "--no-binary=:all:", "-qd", source, wanted)
    with tarfile.open(next(source.glob("*.tar.gz"))) as archive:
        archive.extractall(source, filter="data")
    folders = ("include", "ggml/include")
    return [path for name in folders for path in source.glob(f"*/vendor/llama.cpp/{name}/*.h")]


def digest(path: Path) -> str:
    """Return a file's hash as wheels write it."""
    value = hashlib.sha256(path.read_bytes()).digest()
    return base64.urlsafe_b64encode(value).decode().rstrip("=")


def installed_libraries(name: str, folder: str, begin: str) -> list[Path]:
    """Return libraries of an installed distribution in a folder whose names begin so."""
    return [
        Path(str(file.locate()))
        for file in importlib.metadata.files(name) or ()
        if file.parent.as_posix() == folder and file.name.startswith(begin) and ".so" in file.name
    ]


def copy_headers(headers: Iterable[Path], folder: Path) -> None:
    """Copy headers into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for header in headers:
        shutil.copy(header, folder)


def link(libraries: Iterable[Path], folder: Path) -> None:
    """Make links to libraries in a folder.

    Of a name with a version, such as libonnxruntime.so.1.24.2, there are also a link with its first
    number, which programs look for, and one without, which linkers do.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for library in libraries:
        stem, _, version = library.name.partition(".so.")
        short = {f"{stem}.so", f"{stem}.so.{version.split('.')[0]}"} if version else set()
        for name in {library.name, *short}:
            (folder / name).unlink(missing_ok=True)
            (folder / name).symlink_to(library)


def unpack_packages(release: str, names: Iterable[str], folder: Path) -> None:
    """Download packages of a release of Debian and unpack them into a folder."""
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        architectures = sorted({name.partition(":")[2] for name in names} - {"all"})
        source = f"deb [arch={','.join(architectures)} signed-by={KEYS}] {MIRROR} {release} main\n"
        (place / "sources.list").write_text(source)
        (place / "lists" / "partial").mkdir(parents=True)
        (place / "cache" / "archives" / "partial").mkdir(parents=True)
        (place / "status").touch()
        options = {
            "Dir::Etc::sourcelist": place / "sources.list",
            "Dir::Etc::sourceparts": "-",
            "Dir::State::lists": place / "lists",
            "Dir::State::status": place / "status",
            "Dir::Cache": place / "cache",
            "APT::Architectures": ",".join(architectures),
            "APT::Architecture": architectures[0],
            "APT::Sandbox::User": "root",
            "Acquire::Retries": "3",
            "Acquire::Languages": "none",
            "Acquire::http::Timeout": "30",
        }
        command = ["apt-get", "-qq", *(f"-o{key}={value}" for key, value in options.items())]
        subprocess.run([*command, "update"], check=True, cwd=place)
        subprocess.run([*command, "download", *names], check=True, cwd=place)
        for package in place.glob("*.deb"):
            subprocess.run(["dpkg-deb", "-x", package, folder], check=True)


def run(*arguments: str | Path) -> None:
    """Run this Python."""
    subprocess.run([sys.executable, *arguments], check=True)


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    main(Path(sys.argv[1]).absolute(), sys.argv[2] if len(sys.argv) == 3 else native_architecture())
