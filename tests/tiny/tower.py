"""A tiny vision tower: mean colours of 8x8 pixels, projected."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIZE = 32
TOKENS = 16


def write_tower(path: Path, *, width: int, seed: int = 1, newline: bool = False) -> None:
    """Write ``pixel_values [N,3,32,32]`` to ``image_tokens [N,16,width]``, float32.

    With `newline`, the vector behind rows of image tokens is the output ``image_newline [width]``.
    """
    random = np.random.default_rng(seed)
    constants: dict[str, np.ndarray] = {
        "weight": random.normal(0, 1, (3, width)).astype(np.float32),
        "places": random.normal(0, 1, (TOKENS, width)).astype(np.float32),
        "shape": np.array([0, 3, TOKENS], np.int64),
    }
    nodes = [
        helper.make_node(
            "AveragePool", ["pixel_values"], ["pooled"], kernel_shape=[8, 8], strides=[8, 8]
        ),
        helper.make_node("Reshape", ["pooled", "shape"], ["flat"]),
        helper.make_node("Transpose", ["flat"], ["rows"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["rows", "weight"], ["projected"]),
        helper.make_node("Add", ["projected", "places"], ["image_tokens"]),
    ]
    outputs = [
        helper.make_tensor_value_info("image_tokens", TensorProto.FLOAT, ["N", TOKENS, width])
    ]
    if newline:
        constants["newline"] = random.normal(0, 1, width).astype(np.float32)
        nodes.append(helper.make_node("Identity", ["newline"], ["image_newline"]))
        outputs.append(helper.make_tensor_value_info("image_newline", TensorProto.FLOAT, [width]))
    _save(path, nodes, ["N", 3, SIZE, SIZE], outputs, constants)


def write_tower_of_sizes(path: Path, *, width: int, markup: int, sides: str | int = "side") -> None:
    """Write ``pixel_values [N,3,H,W]`` to ``image_tokens [N,S,width]``, float32.

    H and W are multiples of 8 pixels, each block of which becomes one image token. ``image_markup
    [markup,width]`` is an output too. `sides` says H and W to be some number.
    """
    random = np.random.default_rng(1)
    constants: dict[str, np.ndarray] = {
        "weight": random.normal(0, 1, (3, width)).astype(np.float32),
        "shape": np.array([0, 3, -1], np.int64),
        "markup": random.normal(0, 1, (markup, width)).astype(np.float32),
    }
    nodes = [
        helper.make_node(
            "AveragePool", ["pixel_values"], ["pooled"], kernel_shape=[8, 8], strides=[8, 8]
        ),
        helper.make_node("Reshape", ["pooled", "shape"], ["flat"]),
        helper.make_node("Transpose", ["flat"], ["rows"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["rows", "weight"], ["image_tokens"]),
        helper.make_node("Identity", ["markup"], ["image_markup"]),
    ]
    outputs = [
        helper.make_tensor_value_info("image_tokens", TensorProto.FLOAT, ["N", "S", width]),
        helper.make_tensor_value_info("image_markup", TensorProto.FLOAT, [markup, width]),
    ]
    _save(path, nodes, ["N", 3, sides, sides], outputs, constants)


def _save(
    path: Path,
    nodes: list[onnx.NodeProto],
    pixels: list[str | int],
    outputs: list[onnx.ValueInfoProto],
    constants: dict[str, np.ndarray],
) -> None:
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, pixels)],
        outputs,
        [numpy_helper.from_array(values, name) for name, values in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
