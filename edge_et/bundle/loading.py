"""Bundles: the folder that holds everything one deployment needs, and its manifest.

In: a folder, or the name of an installed bundle. Out: a `Bundle`, whose manifest follows the
format and whose files are there, complete and unchanged. Opening the models is not done here.
docs/bundle.md specifies the format; docs/bundle.schema.json is `manifest_schema()`.
"""

import hashlib
import importlib.util
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path, PurePosixPath

import msgspec
from msgspec import Struct

from edge_et.bundle.manifest import FORMAT, READABLE_VERSIONS, FileRef, Manifest
from edge_et.errors import (
    BundleNotFoundError,
    BundleVersionError,
    FileHashError,
    FileSizeError,
    ManifestSchemaError,
    ManifestSyntaxError,
    MissingFileError,
    MissingPackageError,
    UnsafePathError,
    WidthMismatchError,
)

MANIFEST_NAME = "bundle.json"
ENTRY_POINT_GROUP = "edge_et.bundles"
DEFAULT_BUNDLE = "mini"

# Files up to this size are hashed at every load; of larger ones a load checks the size alone, and
# `Bundle.verify` hashes them. Measured with the SHA instructions of an x86 server: 1.3 GB/s, so
# 0.05 s for 64 MiB; CPUs without such instructions take several times as long.
HASH_AT_LOAD_BYTES = 64 * 2**20

_HASH_BLOCK_BYTES = 2**20

Progress = Callable[[str, int, int], None]
"""Called with the file's path, the bytes hashed so far in all, and the bytes to hash in all."""


class _Envelope(Struct, frozen=True):
    """What has to be known before the rest can be read; other fields are passed over."""

    format: str
    format_version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleFile:
    """One file of a bundle.

    Attributes:
        role: where the manifest names it, e.g. ``perceiver.weights``.
        ref: the manifest's entry.
        path: where it lies.
    """

    role: str
    ref: FileRef
    path: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A bundle whose manifest was read and whose files are there with the right sizes.

    Attributes:
        folder: absolute path of the bundle.
        manifest: the manifest.
        files: every file that the manifest names, each role once.
    """

    folder: Path
    manifest: Manifest
    files: tuple[BundleFile, ...]

    def path(self, ref: FileRef) -> Path:
        """Return where a file of this bundle lies.

        Args:
            ref: an entry of this bundle's manifest.
        """
        return next(file.path for file in self.files if file.ref == ref)

    def verify(self, progress: Progress | None = None, *, up_to_bytes: int | None = None) -> None:
        """Hash the files and compare them with the manifest.

        Args:
            progress: told about every block; see `Progress`.
            up_to_bytes: of files larger than this the size alone is checked; None: of none.

        Raises:
            MissingFileError: a file has gone since the bundle was loaded.
            FileSizeError: a file has another size than stated.
            FileHashError: a file has another content than stated.
        """
        unique = {file.path: file.ref for file in self.files}
        for path, ref in unique.items():
            _check_size(path, ref)
        chosen = {
            path: ref
            for path, ref in unique.items()
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


def load_bundle(path: str | os.PathLike[str]) -> Bundle:
    """Read a bundle's manifest and check its files.

    Every file must be there with the stated size; files of at most `HASH_AT_LOAD_BYTES` are
    hashed too. `Bundle.verify` hashes the rest.

    Args:
        path: the bundle's folder, or the bundle.json in it.

    Raises:
        MissingFileError: bundle.json or a file that it names is not there.
        ManifestSyntaxError: bundle.json is not JSON.
        BundleVersionError: it is another format or version.
        ManifestSchemaError: a field is wrong; the message tells which.
        WidthMismatchError: tower and perceiver have different embedding widths.
        UnsafePathError: a file reference leaves its folder.
        MissingPackageError: a package that holds a file is not installed.
        FileSizeError: a file has another size than stated.
        FileHashError: a file has another content than stated.
    """
    folder = Path(path).absolute()
    if folder.name == MANIFEST_NAME:
        folder = folder.parent
    manifest_path = folder / MANIFEST_NAME
    manifest = read_manifest(manifest_path)
    if manifest.vision.embedding_width != manifest.perceiver.embedding_width:
        raise WidthMismatchError(
            manifest_path, manifest.vision.embedding_width, manifest.perceiver.embedding_width
        )
    files = tuple(
        BundleFile(role=role, ref=ref, path=resolve(ref, folder))
        for role, ref in _references(manifest)
    )
    bundle = Bundle(folder=folder, manifest=manifest, files=files)
    bundle.verify(up_to_bytes=HASH_AT_LOAD_BYTES)
    return bundle


def find_bundle(name_or_path: str | os.PathLike[str] | None = None) -> Path:
    """Return the folder of a bundle.

    Args:
        name_or_path: the name of an installed bundle, or a folder; a string that is both is the
            name (write ``./mini`` for the folder). None: the bundle ``mini``.

    Raises:
        BundleNotFoundError: there is neither, the message says what to install; or the package that
            offers the bundle is broken.
    """
    installed = installed_bundles()
    asked = DEFAULT_BUNDLE if name_or_path is None else os.fspath(name_or_path)
    if asked in installed:
        try:
            target = installed[asked].load()
            return Path(target() if callable(target) else target)
        except Exception as err:  # whatever the package's own code raises
            advice = f"the package that offers it is broken: {err!r}"
            raise BundleNotFoundError(asked, sorted(installed), advice) from err
    if name_or_path is not None and Path(asked).exists():
        return Path(asked)
    advice = "give the path of a bundle's folder, or the name of an installed bundle"
    if asked == DEFAULT_BUNDLE:
        advice = f'pip install "edge-et[{DEFAULT_BUNDLE}]"'
    raise BundleNotFoundError(asked, sorted(installed), advice)


def installed_bundles() -> dict[str, EntryPoint]:
    """Return the bundles that installed packages offer, by name, not yet looked at."""
    return {point.name: point for point in entry_points(group=ENTRY_POINT_GROUP)}


def read_manifest(path: Path) -> Manifest:
    """Read a bundle.json, without looking at the files that it names.

    Args:
        path: the file.

    Raises:
        MissingFileError: it is not there.
        ManifestSyntaxError: it is not JSON.
        BundleVersionError: it is another format or version.
        ManifestSchemaError: a field is wrong; the message tells which.
    """
    try:
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError) as err:
        raise MissingFileError(path) from err
    try:
        content = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as err:
        raise ManifestSyntaxError(path, str(err)) from err
    try:
        envelope = msgspec.convert(content, _Envelope)
        if envelope.format != FORMAT or envelope.format_version not in READABLE_VERSIONS:
            found = f"{envelope.format!r} version {envelope.format_version}"
            readable = ", ".join(map(str, READABLE_VERSIONS))
            raise BundleVersionError(path, found, f"{FORMAT!r} versions {readable}")
        return msgspec.convert(content, Manifest)
    except msgspec.ValidationError as err:
        raise ManifestSchemaError(path, str(err)) from err


def save_manifest(manifest: Manifest, folder: Path) -> Path:
    """Write a manifest as bundle.json, whole or not at all; equal manifests give equal bytes.

    Args:
        manifest: what to write.
        folder: the bundle's folder, which must exist.

    Returns:
        The path of the file written.
    """
    path = folder / MANIFEST_NAME
    draft = folder / f".{MANIFEST_NAME}.{os.getpid()}"
    try:
        with draft.open("wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    return path


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


def _references(manifest: Manifest) -> list[tuple[str, FileRef]]:
    found = [("vision.graph", manifest.vision.graph)]
    if manifest.vision.weights is not None:
        found.append(("vision.weights", manifest.vision.weights))
    for role, spec in (("perceiver", manifest.perceiver), ("reasoner", manifest.reasoner)):
        if spec is not None:
            found.append((f"{role}.weights", spec.weights))
            if spec.adapter is not None:
                found.append((f"{role}.adapter", spec.adapter))
            found.append((f"{role}.tokenizer", spec.tokenizer))
    return found


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
