"""Files that `torch.save` writes.

In: a file. Out: names and shapes at once, then one tensor at a time. Nothing that a file says is
ever run.
"""

import pickle
from pathlib import Path
from typing import Any

import ml_dtypes
import torch

from edge_et.export.checkpoint.tensor_formats import Values
from edge_et.export.errors import UnreadableCheckpointError

_TYPES = (torch.float32, torch.float16, torch.bfloat16)

# Opening a file anew costs a fifth of a second, so that is done once in so many bytes.
_MAPPED_BYTES = 2**29


class TorchFile:
    """A dictionary of tensors that `torch.save` wrote."""

    def __init__(self, path: Path) -> None:
        """Read what the file holds, without running code that may be in it."""
        self._path = path
        self._content = _unpickled(path)
        self._mapped_bytes = 0
        self.shapes = {name: tuple(tensor.shape) for name, tensor in self._content.items()}

    def load(self, name: str) -> Values:
        """Give one tensor, as stored; it may be a view of the file."""
        if self._mapped_bytes > _MAPPED_BYTES:
            self._content = {}  # unmapped before it is mapped anew
            self._content = _unpickled(self._path)
            self._mapped_bytes = 0
        tensor = self._content[name]
        self._mapped_bytes += tensor.nbytes
        if tensor.dtype == torch.bfloat16:  # which numpy knows by ml_dtypes alone
            return tensor.detach().view(torch.int16).numpy().view(ml_dtypes.bfloat16)
        return tensor.detach().numpy()


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
            and tensor.dtype in _TYPES
            and tensor.layout == torch.strided
            and tensor.device.type == "cpu"
        ):
            kind = getattr(tensor, "dtype", type(tensor).__name__)
            raise UnreadableCheckpointError(
                f"{name} in {path} is {kind}; expected dense tensors of "
                f"{', '.join(map(str, _TYPES))}"
            )
    return content
