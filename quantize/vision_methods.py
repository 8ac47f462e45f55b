"""The methods that make a vision graph's linears 8 bits wide, by ONNX Runtime's quantizers.

In: a float32 graph. Out: a graph with the same input and output. Only matrix products with constant
weights change; the patch convolution, norms, softmax and the products inside attention stay float.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from edge_et.export.vision.onnx_graph import INPUT
from edge_et.native_libraries import import_library

quantization = import_library("onnxruntime.quantization")

_BLOCK = 128
_LOW_BLOCK = 16
_INT8_ACCURACY_LEVEL = 4  # MatMulNBits: activations are rounded to int8 as well

Method = Callable[[Path, Path, NDArray[np.float32], list[str]], None]
"""Source graph, output, calibration pixel values, names of the nodes that stay float."""


def dynamic(
    source: Path, out: Path, calibration: NDArray[np.float32], keep_float: list[str]
) -> None:
    """Quantize weights with a scale a channel; activations are scaled anew at each run.

    Weights use 7 of the 8 bits: x86 CPUs without VNNI add pairs of products in 16 bits, which
    saturates with full-range weights, silently and on those CPUs alone.
    """
    quantization.quantize_dynamic(
        source,
        out,
        op_types_to_quantize=["MatMul"],
        nodes_to_exclude=keep_float,
        per_channel=True,
        reduce_range=True,
        weight_type=quantization.QuantType.QInt8,
    )


def static(
    source: Path, out: Path, calibration: NDArray[np.float32], keep_float: list[str]
) -> None:
    """Quantize weights with a scale a channel; activations are scaled by calibration (QDQ)."""
    quantization.quantize_static(
        source,
        out,
        _Calibration(calibration),
        quant_format=quantization.QuantFormat.QDQ,
        op_types_to_quantize=["MatMul"],
        nodes_to_exclude=keep_float,
        per_channel=True,
        reduce_range=True,
        activation_type=quantization.QuantType.QUInt8,
        weight_type=quantization.QuantType.QInt8,
        extra_options={"MatMulConstBOnly": True},
    )


def weight_only(
    source: Path, out: Path, calibration: NDArray[np.float32], keep_float: list[str]
) -> None:
    """Quantize weights with a scale a block of 128; ONNX Runtime 1.22 is the first to run it.

    Matrices with fewer rows have blocks of 16, as a block that is not full is filled up with zeros.
    """
    nbits = import_library("onnxruntime.quantization.matmul_nbits_quantizer")
    model = onnx.load(source)
    rows = {weights.name: weights.dims[0] for weights in model.graph.initializer if weights.dims}
    low = [
        node.name
        for node in model.graph.node
        if node.op_type == "MatMul" and rows.get(node.input[1], _BLOCK) < _BLOCK
    ]
    for block, left_out in ((_BLOCK, [*keep_float, *low]), (_LOW_BLOCK, keep_float)):
        quantizer = nbits.MatMulNBitsQuantizer(
            model,
            bits=8,
            block_size=block,
            is_symmetric=True,
            accuracy_level=_INT8_ACCURACY_LEVEL,
            nodes_to_exclude=left_out,
        )
        quantizer.process()
        model = quantizer.model.model
    onnx.save(model, out)


METHODS: dict[str, Method] = {"dynamic": dynamic, "static": static, "weight-only": weight_only}


_CalibrationDataReader: Any = quantization.CalibrationDataReader


class _Calibration(_CalibrationDataReader):  # type: ignore[misc]
    """One tile a step."""

    def __init__(self, pixel_values: NDArray[np.float32]) -> None:
        self._tiles = iter(pixel_values)

    def get_next(self) -> dict[str, Any] | None:
        """Give the next input, or None at the end."""
        tile = next(self._tiles, None)
        return None if tile is None else {INPUT: tile[None]}


@contextmanager
def root_logger_kept() -> Iterator[None]:
    """Undo what the quantizers do to the root logger, and keep them quiet meanwhile.

    They log through the root logger, line by line for each node; the first such line installs a
    handler, and `matmul_nbits_quantizer` sets the level when it is imported.
    """
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    root.handlers = [logging.NullHandler()]
    try:
        yield
    finally:
        root.handlers = handlers
        root.setLevel(level)
