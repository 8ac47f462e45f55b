"""Files of tensors: safetensors, and what `torch.save` writes.

In: a file. Out: names and shapes at once, then one tensor at a time. Files are mapped only while a
tensor is taken from them, so that the pages of those already read do not add up. Nothing that
a file says is ever run. Without torch, safetensors alone are read.
"""

from pathlib import Path
from typing import Any, Protocol

import ml_dtypes  # noqa: F401  (numpy knows bfloat16 by it)
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from edge_et.export.errors import UnreadableCheckpointError
from edge_et.export.steps import needing_extra

_SAFETENSORS_TYPES = ("F32", "F16", "BF16")

Values = NDArray[Any]
"""Float32, float16 or ml_dtypes' bfloat16."""


class TensorFile(Protocol):
    """A file of float tensors.

    Attributes:
        shapes: shape of each tensor by its name.
    """

    shapes: dict[str, tuple[int, ...]]

    def load(self, name: str) -> Values:
        """Give one tensor, as stored; it may be a view of the file."""


def open_file(path: Path) -> TensorFile:
    """Read which tensors a file holds.

    Args:
        path: a file of safetensors, by its suffix, or of torch.

    Raises:
        UnreadableCheckpointError: it is missing, damaged, or holds something else than tensors of
            float32, float16 or bfloat16.
        MissingExtraError: it is of torch, which is not installed.
    """
    if path.suffix == ".safetensors":
        return SafetensorsFile(path)
    with needing_extra("export"):
        from edge_et.export.checkpoint.torch_file import TorchFile
    return TorchFile(path)


class SafetensorsFile:
    """A file of safetensors."""

    def __init__(self, path: Path) -> None:
        """Read the header."""
        self._path = path
        self.shapes: dict[str, tuple[int, ...]] = {}
        try:
            with safe_open(path, framework="np") as file:
                slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError) as err:
            raise UnreadableCheckpointError(f"{path} cannot be read: {err}") from err
        for name, tensor in slices.items():
            if (dtype := tensor.get_dtype()) not in _SAFETENSORS_TYPES:
                raise UnreadableCheckpointError(
                    f"{name} in {path} is {dtype}; expected one of {', '.join(_SAFETENSORS_TYPES)}"
                )
            self.shapes[name] = tuple(tensor.get_shape())

    def load(self, name: str) -> Values:
        """Give one tensor, as stored."""
        try:
            with safe_open(self._path, framework="np") as file:
                tensor: Values = file.get_tensor(name)
        except (OSError, SafetensorError) as err:
            raise UnreadableCheckpointError(f"{self._path} was changed: {err}") from err
        return tensor
