"""Files of tensors: safetensors, and what `torch.save` writes.

In: a file. Out: names and shapes at once, then one tensor at a time. Files are mapped only while a
tensor is taken from them, so that the pages of those already read do not add up. Nothing that
a file says is ever run.
"""

import pickle
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError, safe_open

from edge_et.export.errors import UnreadableCheckpointError

_SAFETENSORS_TYPES = ("F32", "F16", "BF16")
_TORCH_TYPES = (torch.float32, torch.float16, torch.bfloat16)

# Opening a torch file anew costs a fifth of a second, so that is done once in so many bytes.
_MAPPED_BYTES = 2**29


class TensorFile(Protocol):
    """A file of float tensors.

    Attributes:
        shapes: shape of each tensor by its name.
    """

    shapes: dict[str, tuple[int, ...]]

    def load(self, name: str) -> torch.Tensor:
        """Give one tensor, as stored; it may be a view of the file."""


def open_file(path: Path) -> TensorFile:
    """Read which tensors a file holds.

    Args:
        path: a file of safetensors, by its suffix, or of torch.

    Raises:
        UnreadableCheckpointError: it is missing, damaged, or holds something else than tensors of
            float32, float16 or bfloat16.
    """
    return SafetensorsFile(path) if path.suffix == ".safetensors" else TorchFile(path)


class SafetensorsFile:
    """A file of safetensors."""

    def __init__(self, path: Path) -> None:
        """Read the header."""
        self._path = path
        self.shapes: dict[str, tuple[int, ...]] = {}
        try:
            with safe_open(path, framework="pt") as file:
                slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError) as err:
            raise UnreadableCheckpointError(f"{path} cannot be read: {err}") from err
        for name, tensor in slices.items():
            if (dtype := tensor.get_dtype()) not in _SAFETENSORS_TYPES:
                raise UnreadableCheckpointError(
                    f"{name} in {path} is {dtype}; expected one of {', '.join(_SAFETENSORS_TYPES)}"
                )
            self.shapes[name] = tuple(tensor.get_shape())

    def load(self, name: str) -> torch.Tensor:
        """Give one tensor, as stored."""
        try:
            with safe_open(self._path, framework="pt") as file:
                tensor: torch.Tensor = file.get_tensor(name)
        except (OSError, SafetensorError) as err:
            raise UnreadableCheckpointError(f"{self._path} was changed: {err}") from err
        return tensor


class TorchFile:
    """A dictionary of tensors that `torch.save` wrote."""

    def __init__(self, path: Path) -> None:
        """Read what the file holds, without running code that may be in it."""
        self._path = path
        self._content = _unpickled(path)
        self._mapped_bytes = 0
        self.shapes = {name: tuple(tensor.shape) for name, tensor in self._content.items()}

    def load(self, name: str) -> torch.Tensor:
        """Give one tensor, as stored."""
        if self._mapped_bytes > _MAPPED_BYTES:
            self._content = {}  # unmapped before it is mapped anew
            self._content = _unpickled(self._path)
            self._mapped_bytes = 0
        tensor = self._content[name]
        self._mapped_bytes += tensor.nbytes
        return tensor


def _unpickled(path: Path) -> dict[str, torch.Tensor]:
    content: Any
    try:
        content = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    except pickle.UnpicklingError as err:
        raise UnreadableCheckpointError(
            f"{path} holds more than tensors, and that could be code: it was not run. "
            "Use a copy of the checkpoint in safetensors"
        ) from err
    except Exception as err:  # a damaged file makes torch raise nearly anything
        reason = next(iter(str(err).splitlines()), type(err).__name__)
        raise UnreadableCheckpointError(f"{path} cannot be read: {reason}") from err
    if not isinstance(content, dict):
        raise UnreadableCheckpointError(f"{path} holds {type(content).__name__}, not tensors")
    for name, tensor in content.items():
        if not (
            isinstance(name, str)
            and isinstance(tensor, torch.Tensor)
            and tensor.dtype in _TORCH_TYPES
            and tensor.layout == torch.strided
            and tensor.device.type == "cpu"
        ):
            kind = getattr(tensor, "dtype", type(tensor).__name__)
            raise UnreadableCheckpointError(
                f"{name} in {path} is {kind}; expected dense tensors of "
                f"{', '.join(map(str, _TORCH_TYPES))}"
            )
    return content
