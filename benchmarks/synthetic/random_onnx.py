"""Write an ONNX graph; each constant is made when it is written, one in memory at a time.

The library itself would hold a graph of 1.6 GB five times.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_et.export.steps import Progress, needing_extra
from edge_et.export.vision.onnx_graph import data_path

with needing_extra("bench"):
    import onnx
    from onnx import helper, numpy_helper

_SMALL_BYTES = 1024  # stay in the graph, since shapes are inferred from them
_PAGE_BYTES = 4096


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

    def values(self) -> NDArray[np.generic]:
        """Make the values, of the right number type."""
        return self.make().astype(self.dtype, copy=False)


def write_onnx(
    path: Path, model: onnx.ModelProto, constants: Sequence[Constant], progress: Progress
) -> None:
    """Write a model, and its weights beside it.

    Args:
        path: the ONNX file.
        model: the model, without initializers; it gets them.
        constants: its initializers.
        progress: told their bytes.
    """
    total = sum(constant.size_bytes for constant in constants)
    done = 0
    weights = data_path(path)
    with weights.open("wb") as file:
        for constant in constants:
            if constant.size_bytes < _SMALL_BYTES:
                tensor = numpy_helper.from_array(constant.values(), constant.name)
            else:
                file.seek(-(-file.tell() // _PAGE_BYTES) * _PAGE_BYTES)
                tensor = _reference(constant, weights.name, file.tell())
                file.write(constant.values().tobytes())
            model.graph.initializer.append(tensor)
            done += constant.size_bytes
            progress(f"write {path.name}", done, total)
    path.write_bytes(model.SerializeToString())


def _reference(constant: Constant, file: str, offset: int) -> onnx.TensorProto:
    """Tell where the values of a constant lie."""
    place = {"location": file, "offset": offset, "length": constant.size_bytes}
    return onnx.TensorProto(
        name=constant.name,
        dims=constant.shape,
        data_type=helper.np_dtype_to_tensor_dtype(constant.dtype),
        data_location=onnx.TensorProto.EXTERNAL,
        external_data=[
            onnx.StringStringEntryProto(key=key, value=str(value)) for key, value in place.items()
        ],
    )
