"""Whether files are the ones that a manifest names: their place, their size, their SHA-256.

In: references of a manifest. Out: paths inside the bundle's folder or an installed package; errors
for what is missing, cut off or changed. What the files hold is not known here.
"""

import hashlib
import importlib.util
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath

from edge_et.bundle.manifest import FileRef
from edge_et.errors import (
    FileHashError,
    FileSizeError,
    MissingFileError,
    MissingPackageError,
    UnsafePathError,
)

_HASH_BLOCK_BYTES = 2**20

Progress = Callable[[str, int, int], None]
"""Called with the file's path, the bytes hashed so far in all, and the bytes to hash in all."""


def verify_files(
    files: Mapping[Path, FileRef], progress: Progress | None = None, *, up_to_bytes: int | None
) -> None:
    """Compare files with what the manifest says: the sizes of all, the hashes of most.

    Args:
        files: the manifest's entry by path.
        progress: told about every block; see `Progress`.
        up_to_bytes: of files larger than this the size alone is checked; None: of none.

    Raises:
        MissingFileError: a file is not there.
        FileSizeError: a file has another size than stated.
        FileHashError: a file has another content than stated.
    """
    for path, ref in files.items():
        _check_size(path, ref)
    chosen = {
        path: ref
        for path, ref in files.items()
        if up_to_bytes is None or ref.size_bytes <= up_to_bytes
    }
    total = sum(ref.size_bytes for ref in chosen.values())
    done = 0
    for path, ref in chosen.items():
        digest = hashlib.sha256()
        for block in _blocks(path):
            digest.update(block)
            done += len(block)
            if progress is not None:
                progress(str(path), done, total)
        if digest.hexdigest() != ref.sha256:
            raise FileHashError(path, ref.sha256, digest.hexdigest())


def file_ref(path: Path, folder: Path | None = None, *, package: str | None = None) -> FileRef:
    """Describe a file for a manifest.

    Args:
        path: the file.
        folder: what its path is told relative to; None: its own folder, or the package's.
        package: the installed package that holds the file; None: the bundle holds it.

    Raises:
        MissingFileError: there is no such file.
        MissingPackageError: the package is not installed.
        UnsafePathError: the file does not lie inside the folder.
    """
    if not path.is_file():
        raise MissingFileError(path)
    if package is not None:
        folder = _package_folder(package, path.name)
    digest = hashlib.sha256()
    size_bytes = 0
    for block in _blocks(path):
        digest.update(block)
        size_bytes += len(block)
    name = path.name
    if folder is not None:
        try:
            name = path.absolute().relative_to(folder.absolute()).as_posix()
        except ValueError as err:
            raise UnsafePathError(str(path)) from err
    return FileRef(path=name, size_bytes=size_bytes, sha256=digest.hexdigest(), package=package)


def resolve(ref: FileRef, folder: Path) -> Path:
    """Return where a file reference points to; the file need not exist.

    Args:
        ref: the reference.
        folder: the bundle's folder.

    Raises:
        UnsafePathError: the reference is absolute or leaves its folder.
        MissingPackageError: the package that holds the file is not installed.
    """
    parts = PurePosixPath(ref.path).parts
    # A drive letter or a backslash would mean something else on Windows.
    if ref.path.startswith("/") or ".." in parts or not parts or re.search(r"[\\:\0]", ref.path):
        raise UnsafePathError(ref.path)
    if ref.package is not None:
        folder = _package_folder(ref.package, parts[-1])
    return folder.joinpath(*parts)


def _package_folder(package: str, file: str) -> Path:
    # find_spec of a top-level name looks for the package and does not import it.
    try:
        spec = importlib.util.find_spec(package)
    except ValueError:  # a name without a spec, such as __main__
        spec = None
    if spec is None or not spec.submodule_search_locations:
        raise MissingPackageError(package, file)
    return Path(spec.submodule_search_locations[0])


def _check_size(path: Path, ref: FileRef) -> None:
    if not path.is_file():
        raise MissingFileError(path)
    size_bytes = path.stat().st_size
    if size_bytes != ref.size_bytes:
        raise FileSizeError(path, ref.size_bytes, size_bytes)


def _blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(_HASH_BLOCK_BYTES):
            yield block
