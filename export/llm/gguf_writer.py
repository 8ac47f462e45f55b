"""Write a GGUF one tensor at a time.

In: metadata by callback, and tensors whose values are loaded only when they are written. Out: a
file; the same input gives the same bytes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, TypeVar

import gguf
import numpy as np
from numpy.typing import NDArray

from edge_et.export.errors import TensorValueError
from edge_et.export.steps import Progress, require_disk

Storage = Literal["F32", "F16", "BF16"]


class StoredTensor(Protocol):
    """A tensor that is known before its values are."""

    @property
    def name(self) -> str:
        """Its name in the GGUF."""

    @property
    def storage(self) -> str:
        """Name of its type in ggml."""

    @property
    def stored_shape(self) -> tuple[int, ...]:
        """Its shape in elements of `stored_dtype`."""

    @property
    def stored_dtype(self) -> "np.dtype[Any]":
        """What the writer counts the shape in: bytes of quantized types, numbers of others."""

    @property
    def size_bytes(self) -> int:
        """Bytes of the stored values."""


T = TypeVar("T", bound=StoredTensor)


@dataclass(frozen=True, slots=True, kw_only=True)
class GgufTensor:
    """One tensor to be written.

    Attributes:
        name: its name in the GGUF.
        shape: numpy order, the slowest axis first.
        storage: how the values are stored.
        load: gives the values, float32 of that shape.
    """

    name: str
    shape: tuple[int, ...]
    storage: Storage
    load: Callable[[], NDArray[np.float32]]
    stored_dtype: ClassVar = np.dtype(np.float32)

    @property
    def stored_shape(self) -> tuple[int, ...]:
        """Its shape."""
        return self.shape

    @property
    def size_bytes(self) -> int:
        """Bytes of the stored values."""
        return int(np.prod(self.shape)) * (4 if self.storage == "F32" else 2)


def write_gguf(
    path: Path,
    architecture: str,
    add_metadata: Callable[[gguf.GGUFWriter], None],
    tensors: list[GgufTensor],
    progress: Progress,
) -> None:
    """Write a GGUF with one tensor in memory at a time.

    Args:
        path: the file to write; the caller sees to it that it appears complete or not at all.
        architecture: value of `general.architecture`.
        add_metadata: adds the keys to the writer.
        tensors: in the order of the file.
        progress: told the bytes of the tensors.

    Raises:
        DiskSpaceError: there is no room for the tensors.
        TensorValueError: a value does not fit the stored type.
    """
    write_tensors(path, architecture, add_metadata, tensors, _stored, progress)


def write_tensors(
    path: Path,
    architecture: str,
    add_metadata: Callable[[gguf.GGUFWriter], None],
    tensors: Sequence[T],
    stored: Callable[[T], NDArray[np.generic]],
    progress: Progress,
) -> None:
    """Write a GGUF of tensors in any storage, with one of them in memory at a time.

    Args:
        path: as for `write_gguf`.
        architecture: as for `write_gguf`.
        add_metadata: as for `write_gguf`.
        tensors: as for `write_gguf`.
        stored: gives the values of a tensor as the file holds them.
        progress: as for `write_gguf`.

    Raises:
        DiskSpaceError: there is no room for the tensors.
    """
    total_bytes = sum(tensor.size_bytes for tensor in tensors)
    require_disk([(path.parent, total_bytes)])
    done_bytes = 0
    writer = gguf.GGUFWriter(path, architecture)
    try:
        add_metadata(writer)
        for tensor in tensors:
            writer.add_tensor_info(
                tensor.name,
                tensor.stored_shape,
                tensor.stored_dtype,
                tensor.size_bytes,
                raw_dtype=gguf.GGMLQuantizationType[tensor.storage],
            )
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for tensor in tensors:
            writer.write_tensor_data(stored(tensor))
            done_bytes += tensor.size_bytes
            progress(f"write {tensor.name}", done_bytes, total_bytes)
    finally:
        writer.close()


def _stored(tensor: GgufTensor) -> NDArray[np.generic]:
    values = tensor.load()
    if tensor.storage == "F32":
        return values
    if tensor.storage == "BF16":
        return gguf.quants.quantize(values, gguf.GGMLQuantizationType.BF16)
    with np.errstate(over="ignore"):
        halves = values.astype(np.float16)
    if not np.isfinite(halves).all():
        raise TensorValueError(tensor.name, "holds values beyond F16; store it as BF16 or F32")
    return halves
