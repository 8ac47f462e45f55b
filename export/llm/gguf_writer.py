"""Write a GGUF one tensor at a time.

In: metadata by callback, and tensors whose values are loaded only when they are written. Out: a
file; the same input gives the same bytes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import gguf
import numpy as np
from numpy.typing import NDArray

from edge_et.export.errors import TensorValueError
from edge_et.export.steps import Progress

Storage = Literal["F32", "F16", "BF16"]


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
        TensorValueError: a value does not fit the stored type.
    """
    total_bytes = sum(tensor.size_bytes for tensor in tensors)
    done_bytes = 0
    writer = gguf.GGUFWriter(path, architecture)
    try:
        add_metadata(writer)
        for tensor in tensors:
            writer.add_tensor_info(
                tensor.name,
                tensor.shape,
                np.dtype(np.float32),
                tensor.size_bytes,
                raw_dtype=gguf.GGMLQuantizationType[tensor.storage],
            )
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for tensor in tensors:
            writer.write_tensor_data(_stored(tensor))
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
