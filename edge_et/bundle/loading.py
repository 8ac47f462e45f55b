"""Bundles: the folder that holds everything one deployment needs.

In: a folder, or the name of an installed bundle. Out: a `Bundle`, whose manifest follows the
format and whose files are there, complete and unchanged. docs/bundle.md specifies the format.
"""

import os
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from edge_et.bundle.graph_files import check_graph_files
from edge_et.bundle.manifest import FileRef, Manifest
from edge_et.bundle.manifest_file import MANIFEST_NAME, read_manifest
from edge_et.bundle.verify import Progress, resolve, verify_files
from edge_et.errors import BundleNotFoundError, WidthMismatchError
from edge_et.options import check_path

ENTRY_POINT_GROUP = "edge_et.bundles"
DEFAULT_BUNDLE = "mini"

# Files up to this size are hashed at every load. Of larger ones a load checks the size, and of a
# GGUF what stands before its tensors; `Bundle.verify` hashes them. Measured with the SHA
# instructions of an x86 server: 1.3 GB/s, so 0.05 s for 64 MiB; CPUs without such instructions
# take several times as long.
HASH_AT_LOAD_BYTES = 64 * 2**20


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
            up_to_bytes: of files larger than this only the size is checked, and the head of a
                GGUF; None: of none.

        Raises:
            MissingFileError: a file has gone since the bundle was loaded.
            UnreadableFileError: a file cannot be read.
            FileSizeError: a file has another size than stated.
            FileHashError: a file has another content than stated.
            ModelFileError: the head of a GGUF, whose hash the manifest does not tell, is damaged.
        """
        unique = {file.path: file.ref for file in self.files}
        verify_files(unique, progress, up_to_bytes=up_to_bytes)


def load_bundle(path: str | os.PathLike[str]) -> Bundle:
    """Read a bundle's manifest and check its files.

    Every file must be there with the stated size; files of at most `HASH_AT_LOAD_BYTES` are
    hashed too, and of a larger GGUF its head. `Bundle.verify` hashes the rest.

    Args:
        path: the bundle's folder, or the bundle.json in it.

    Raises:
        OptionError: this is no path.
        MissingFileError: bundle.json or a file that it names is not there.
        UnreadableFileError: one of them cannot be read.
        ManifestSyntaxError: bundle.json is not JSON.
        BundleVersionError: it is another format or version.
        ManifestSchemaError: a field is wrong; the message tells which.
        WidthMismatchError: tower and perceiver have different embedding widths.
        UnsafePathError: a file reference leaves its folder.
        MissingPackageError: a package that holds a file is not installed.
        FileSizeError: a file has another size than stated.
        FileHashError: a file has another content than stated.
        ModelFileError: the head of a GGUF, whose hash the manifest does not tell, is damaged; or
            the vision graph is none, reads a file that the manifest does not name, or its weights
            are a link to another folder.
    """
    folder = Path(check_path("path", path)).absolute()
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
    check_graph_files(*map(bundle.path, manifest.vision.files))
    return bundle


def find_bundle(name_or_path: str | os.PathLike[str] | None = None) -> Path:
    """Return the folder of a bundle.

    Args:
        name_or_path: the name of an installed bundle, or a folder; a string that is both is the
            name (write ``./mini`` for the folder). None: the bundle ``mini``.

    Raises:
        OptionError: this is neither.
        BundleNotFoundError: there is neither, the message says what to install; or the package that
            offers the bundle is broken.
    """
    installed = installed_bundles()
    asked = DEFAULT_BUNDLE
    if name_or_path is not None:
        asked = check_path("name_or_path", name_or_path)
    if asked in installed:
        try:
            target = installed[asked].load()
            return Path(target() if callable(target) else target)
        except Exception as err:  # whatever the package's own code raises
            advice = f"the package that offers it is broken: {err!r}"
            raise BundleNotFoundError(asked, sorted(installed), advice) from err
    if name_or_path is not None and asked and _exists(asked):
        return Path(asked)
    advice = "give the path of a bundle's folder, or the name of an installed bundle"
    if asked == DEFAULT_BUNDLE:
        advice = "in a clone of edge-et: pip install ./models/mini (docs/install.md)"
    raise BundleNotFoundError(asked, sorted(installed), advice)


def installed_bundles() -> dict[str, EntryPoint]:
    """Return the bundles that installed packages offer, by name, not yet looked at."""
    return {point.name: point for point in entry_points(group=ENTRY_POINT_GROUP)}


def _exists(path: str) -> bool:
    try:
        return Path(path).exists()
    except (OSError, ValueError):  # too long for a path, or a null character in it
        return False


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
