"""Writing an ONNX graph whose constants are made when they are written, one in memory at a time.

A message of protobuf is the concatenation of its fields, and the size of every field is known from
the shapes. The library itself would hold a graph of 1.6 GB five times.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_et.export.steps import Progress, needing_extra

with needing_extra("bench"):
    import onnx
    from onnx import helper

# Field numbers of onnx.proto, with the wire type of what has a length.
_MODEL_GRAPH = 7 << 3 | 2
_GRAPH_INITIALIZER = 5 << 3 | 2
_TENSOR_RAW_DATA = 9 << 3 | 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Constant:
    """One initializer of a graph.

    Attributes:
        name: what nodes call it.
        shape: its shape.
        dtype: its little-endian number type.
        make: gives the values, the same ones each time.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]
    make: Callable[[], NDArray[np.generic]]

    @property
    def size_bytes(self) -> int:
        """Bytes of the values."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize

    def head(self) -> bytes:
        """Return the message but for the values."""
        tensor = onnx.TensorProto(
            dims=self.shape,
            data_type=helper.np_dtype_to_tensor_dtype(self.dtype),
            name=self.name,
        )
        return tensor.SerializeToString() + _prefix(_TENSOR_RAW_DATA, self.size_bytes)


def write_onnx(
    path: Path, model: onnx.ModelProto, constants: Sequence[Constant], progress: Progress
) -> None:
    """Write a model.

    Args:
        path: the ONNX file.
        model: the model, without initializers.
        constants: its initializers.
        progress: told their bytes.
    """
    graph = model.graph.SerializeToString()
    model.ClearField("graph")
    heads = [constant.head() for constant in constants]
    starts = [
        _prefix(_GRAPH_INITIALIZER, len(head) + constant.size_bytes) + head
        for head, constant in zip(heads, constants, strict=True)
    ]
    total = sum(constant.size_bytes for constant in constants)
    with path.open("wb") as file:
        file.write(model.SerializeToString())
        file.write(_prefix(_MODEL_GRAPH, len(graph) + sum(map(len, starts)) + total))
        file.write(graph)
        done = 0
        for start, constant in zip(starts, constants, strict=True):
            file.write(start)
            file.write(constant.make().astype(constant.dtype, copy=False).tobytes())
            done += constant.size_bytes
            progress(f"write {path.name}", done, total)


def _prefix(field: int, length: int) -> bytes:
    return bytes([field]) + _varint(length)


def _varint(number: int) -> bytes:
    """Return a number as protobuf writes it: seven bits a byte, the last byte below 128."""
    written = bytearray()
    while number >= 128:
        written.append(number % 128 + 128)
        number //= 128
    written.append(number)
    return bytes(written)
