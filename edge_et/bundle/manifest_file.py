"""bundle.json on disk: read with errors that name the field, written whole or not at all.

In: a path. Out: a `Manifest`. The files that it names are not looked at here.
"""

import os
from pathlib import Path

import msgspec
from msgspec import Struct

from edge_et.bundle.manifest import FORMAT, READABLE_VERSIONS, Manifest
from edge_et.errors import (
    BundleVersionError,
    ManifestSchemaError,
    ManifestSyntaxError,
    MissingFileError,
    UnreadableFileError,
)

MANIFEST_NAME = "bundle.json"

_MOST_BYTES = 2**24  # real ones have some kilobytes


class _Envelope(Struct, frozen=True):
    """What has to be known before the rest can be read; other fields are passed over."""

    format: str
    format_version: int


def read_manifest(path: Path) -> Manifest:
    """Read a bundle.json, without looking at the files that it names.

    Args:
        path: the file.

    Raises:
        MissingFileError: it is not there.
        UnreadableFileError: it cannot be read, is no file, or larger than any manifest.
        ManifestSyntaxError: it is not JSON.
        BundleVersionError: it is another format or version.
        ManifestSchemaError: a field is wrong; the message tells which.
    """
    data = _read(path)
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


def _read(path: Path) -> bytes:
    try:
        if not path.is_file():  # opening a pipe would wait for somebody who writes
            if path.exists():
                raise UnreadableFileError(path, "it is no file")
            raise MissingFileError(
                path,
                f"{path.parent} is no bundle; give a bundle's folder, or the name of an "
                "installed bundle",
            )
        size_bytes = path.stat().st_size
        if size_bytes > _MOST_BYTES:
            raise UnreadableFileError(path, f"{size_bytes} bytes are too many for a manifest")
        return path.read_bytes()
    except OSError as err:
        raise UnreadableFileError(path, err.strerror or str(err)) from err


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
