"""What can go wrong in export and quantize, one class a cause: a branch of `edge_et.errors`.

ToolError                           (edge_et.errors)
|-- CheckpointError                 a checkpoint folder cannot be used
|   |-- UnreadableCheckpointError   a file is missing, damaged, or of a kind we do not read
|   |-- UnsupportedModelError       an architecture or a setting that the output cannot express
|   |-- MissingTensorError          the architecture needs tensors that are not there
|   |-- LeftoverTensorError         tensors that nothing would use
|   |-- TensorShapeError            a tensor's shape differs from what the config says
|   `-- TensorValueError            NaN, infinity, or a value outside the output's type
|-- VocabularyError                 the tokenizer does not fit the model or the format
|   `-- UnknownPreTokenizerError    llama.cpp's name for the pre-tokenizer is not known
|-- GraphError                      an ONNX graph cannot be read or run, or is of another form
|-- NativeModelError                llama.cpp refuses a model or an adapter, or fails on it
|-- ParityError                     an output differs from its reference by more than the limit
|-- QuantizationError               a quantizer refused its input or failed
|   `-- UnknownQuantizationError    no such type or method
|-- HubError                        a checkpoint cannot be had from the Hugging Face hub
|   |-- HubNameError                not a name of a repository
|   |-- HubNotFoundError            no such repository or revision, or a private one
|   |-- HubAccessError              gated, or the token is missing or not good enough
|   |-- HubConnectionError          the hub cannot be reached, or fails
|   `-- HubFileError                a file is missing, or not what the hub says it is
|-- UnknownModelError               the catalogue has no entry of that name
|-- LicenseError                    a licence that restricts use, or none, was not accepted
|-- DiskSpaceError                  a file system has less room than is needed
|-- OutputError                     a file cannot be written
`-- AssemblyError                   the parts of a bundle do not fit together
"""

from pathlib import Path

from edge_et.errors import ToolError


class CheckpointError(ToolError):
    """A checkpoint folder cannot be used."""


class UnreadableCheckpointError(CheckpointError):
    """A file is missing, damaged, or of a kind we do not read."""


class UnsupportedModelError(CheckpointError):
    """An architecture or a setting that the output cannot express."""


class MissingTensorError(CheckpointError):
    """The architecture needs tensors that are not there.

    Attributes:
        names: the missing tensors.
    """

    def __init__(self, source: str, names: list[str]) -> None:
        super().__init__(f"{source} lacks {_listed(names)}")
        self.names = names


class LeftoverTensorError(CheckpointError):
    """Tensors that nothing would use, so that the output would be another model.

    Attributes:
        names: the tensors left over.
    """

    def __init__(self, source: str, names: list[str]) -> None:
        super().__init__(f"{source} holds tensors that nothing uses: {_listed(names)}")
        self.names = names


class TensorShapeError(CheckpointError):
    """A tensor's shape differs from what the config says.

    Attributes:
        name: the tensor.
        expected: its shape by the config.
        actual: its shape in the file.
    """

    def __init__(self, name: str, expected: tuple[int, ...], actual: tuple[int, ...]) -> None:
        super().__init__(f"{name} has shape {list(actual)}, the config asks for {list(expected)}")
        self.name = name
        self.expected = expected
        self.actual = actual


class TensorValueError(CheckpointError):
    """NaN, infinity, or a value outside the output's type.

    Attributes:
        name: the tensor.
    """

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(f"{name} {problem}")
        self.name = name


class VocabularyError(ToolError):
    """The tokenizer does not fit the model or the format."""


class UnknownPreTokenizerError(VocabularyError):
    """llama.cpp's name for the pre-tokenizer is not known."""


class GraphError(ToolError):
    """An ONNX graph cannot be read or run, or is not pixel_values -> image_tokens."""


class NativeModelError(ToolError):
    """llama.cpp refuses a model or an adapter, or fails on it."""


class ParityError(ToolError):
    """An output differs from its reference by more than the limit; it has been removed.

    Attributes:
        error: what was measured.
        limit: what is allowed.
    """

    def __init__(self, what: str, measure: str, error: float, limit: float) -> None:
        super().__init__(f"{what}: {measure} {error:.3g}, allowed {limit:.3g}; nothing was written")
        self.error = error
        self.limit = limit


class QuantizationError(ToolError):
    """A quantizer refused its input or failed."""


class UnknownQuantizationError(QuantizationError):
    """No such quantization type or method.

    Attributes:
        name: what was asked for.
        valid: what exists.
    """

    def __init__(self, name: str, valid: tuple[str, ...]) -> None:
        super().__init__(f"unknown quantization {name!r}; known: {', '.join(valid)}")
        self.name = name
        self.valid = valid


class HubError(ToolError):
    """A checkpoint cannot be had from the Hugging Face hub."""


class HubNameError(HubError):
    """What stands behind `hf:` is not a name of a repository, or of a file in one.

    Attributes:
        place: what was written.
    """

    def __init__(self, place: str, forms: str = "hf:owner/name or hf:owner/name@revision") -> None:
        super().__init__(f"{place!r} names nothing that is looked for here; write {forms}")
        self.place = place


class HubNotFoundError(HubError):
    """No such repository or revision, or a private one."""


class HubAccessError(HubError):
    """The repository is gated, or the token is missing or not good enough."""


class HubConnectionError(HubError):
    """The hub cannot be reached, or fails.

    Attributes:
        place: what was wanted.
    """

    def __init__(self, place: str, reason: str) -> None:
        super().__init__(
            f"{place} cannot be had from the hub: {reason}; what has arrived is kept, so run the "
            "command again, or give the folder of a copy"
        )
        self.place = place


class HubFileError(HubError):
    """A file of the repository is missing, or not what the hub says it is."""


class UnknownModelError(ToolError):
    """The catalogue has no entry of that name.

    Attributes:
        name: what was asked for.
        known: the names that there are.
    """

    def __init__(self, name: str, known: tuple[str, ...], nearest: str | None) -> None:
        hint = "" if nearest is None else f" Did you mean {nearest}?"
        super().__init__(
            f"the catalogue has no model {name!r}.{hint} Known: {', '.join(known)}; another model "
            "is built with --perceiver hf:owner/name"
        )
        self.name = name
        self.known = known


class LicenseError(ToolError):
    """A licence that restricts use, or none, was not accepted.

    Attributes:
        parts: role, name, licence and where to read it, of each such part.
    """

    def __init__(self, parts: tuple[tuple[str, str, str, str], ...]) -> None:
        told = "; ".join(
            f"the {role} {name} has the licence {licence!r}, read it at {url}"
            for role, name, licence, url in parts
        )
        super().__init__(
            f"{told}. It may restrict what you do with the model; if you accept it, "
            "build with --accept-licence"
        )
        self.parts = parts


class DiskSpaceError(ToolError):
    """A file system has less room than is needed.

    Attributes:
        path: the folder to write to.
        needed_bytes: room that is needed, or more than that.
        free_bytes: room that there is.
    """

    def __init__(
        self, path: Path, needed_bytes: int, free_bytes: int, *, or_more: bool = False
    ) -> None:
        super().__init__(
            f"{path} needs {'more than ' if or_more else ''}{needed_bytes / 1e6:.1f} MB and has "
            f"{free_bytes / 1e6:.1f} MB free; make room, or use another disk"
        )
        self.path = path
        self.needed_bytes = needed_bytes
        self.free_bytes = free_bytes


class OutputError(ToolError):
    """A file cannot be written: no such place, no permission, no room.

    Attributes:
        path: the file.
    """

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"cannot write {path}: {reason}")
        self.path = path


class AssemblyError(ToolError):
    """The parts of a bundle do not fit together."""


def _listed(names: list[str], most: int = 8) -> str:
    shown = ", ".join(names[:most])
    more = len(names) - most
    return f"{shown} and {more} more" if more > 0 else shown
