"""Write a SigLIP tower and a projector of two linears, of random weights, as one ONNX graph.

``pixel_values [N,3,H,W]`` to ``image_tokens [N,S,D]``, float32, N free. The operators are those of
edge-et's own export and of its 8-bit quantization, `dynamic`: what ONNX Runtime fuses there it
fuses here. Weights have the names that llama.cpp gives them (tools/mtmd/clip-impl.h), so that
another file may hold the same numbers.
"""

from collections.abc import Callable
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_et.benchmarks.synthetic.random_onnx import Constant, write_onnx
from edge_et.benchmarks.synthetic.shapes import TowerShape
from edge_et.export.steps import Progress, needing_extra

with needing_extra("bench"):
    import onnx
    from onnx import TensorProto, helper

_OPSET = 20  # the first with Gelu as one operator
_IR_VERSION = 10

# Seven bits, as the quantizer uses of eight: four deviations.
_MOST_LEVELS = 64
_DEVIATION_LEVELS = 16

NORM_EPSILON = 1e-6


def tower_bytes(shape: TowerShape, llm_width: int) -> int:
    """Return about how large the graph's file is, bytes."""
    width = shape.width
    layer = 4 * width**2 + 2 * width * shape.feed_forward
    projector = width * llm_width + llm_width**2
    return shape.layers * layer + projector + 4 * width * (shape.patches + 3 * shape.patch**2)


def matrix_scale(rows: int) -> float:
    """Return what the levels -64 to 63 of a matrix are multiplied with.

    Args:
        rows: width of what it is multiplied with; its numbers have a variance of one over that.
    """
    return 1 / (_DEVIATION_LEVELS * sqrt(rows))


def write_tower(
    path: Path, shape: TowerShape, llm_width: int, seed: int, progress: Progress
) -> None:
    """Write the graph.

    Args:
        path: the ONNX file.
        shape: the tower's dimensions.
        llm_width: D, width of an image token.
        seed: of the weights.
        progress: told the bytes of the weights.
    """
    graph = new_tower(shape, llm_width, seed)
    pixels: list[str | int | None] = ["N", 3, shape.image, shape.image]
    tokens: list[str | int | None] = ["N", shape.patches, llm_width]
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            shape.name,
            [helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, pixels)],
            [helper.make_tensor_value_info("image_tokens", TensorProto.FLOAT, tokens)],
        ),
        opset_imports=[helper.make_opsetid("", _OPSET)],
        ir_version=_IR_VERSION,
    )
    write_onnx(path, model, graph.constants, progress)


def new_tower(shape: TowerShape, llm_width: int, seed: int) -> "Graph":
    """Make the graph; its weights are drawn when they are asked for.

    Args:
        shape: the tower's dimensions.
        llm_width: D, width of an image token.
        seed: of the weights.
    """
    graph = Graph(seed)
    hidden = _embed(graph, shape)
    for layer in range(shape.layers):
        hidden = _block(graph, shape, hidden, f"v.blk.{layer}")
    hidden = graph.add("Gelu", graph.linear("mm.0", hidden, shape.width, llm_width))
    graph.linear("mm.2", hidden, llm_width, llm_width, output="image_tokens")
    return graph


def _embed(graph: "Graph", shape: TowerShape) -> str:
    """Add patches and places: `[N,3,H,W]` to `[N,S,C]`."""
    width, patch = shape.width, shape.patch
    kernel = graph.normal("v.patch_embd.weight", (width, 3, patch, patch), 1 / sqrt(3 * patch**2))
    found = graph.add(
        "Conv", "pixel_values", kernel, strides=[patch, patch], kernel_shape=[patch, patch]
    )
    flat = graph.add("Reshape", found, graph.constant(np.array([0, width, -1])))
    rows = graph.add("Transpose", flat, perm=[0, 2, 1])
    places = graph.normal("v.position_embd.weight", (shape.patches, width), 1.0)
    return graph.add("Add", rows, places)


def _block(graph: "Graph", shape: TowerShape, hidden: str, name: str) -> str:
    """Add one transformer block, `[N,S,C]` to the same; its weights' names begin with its own."""
    width, heads = shape.width, shape.heads
    split = graph.constant(np.array([0, shape.patches, heads, width // heads]))
    normed = graph.norm(f"{name}.ln1", hidden, width)
    scale = graph.constant(np.array(sqrt(heads / width), np.float32))
    scaled = graph.add("Mul", graph.linear(f"{name}.attn_q", normed, width, width), scale)
    query, key, value = (
        graph.add("Transpose", graph.add("Reshape", part, split), perm=perm)
        for part, perm in (
            (scaled, [0, 2, 1, 3]),
            (graph.linear(f"{name}.attn_k", normed, width, width), [0, 2, 3, 1]),
            (graph.linear(f"{name}.attn_v", normed, width, width), [0, 2, 1, 3]),
        )
    )
    weights = graph.add("Softmax", graph.add("MatMul", query, key), axis=-1)
    mixed = graph.add("Transpose", graph.add("MatMul", weights, value), perm=[0, 2, 1, 3])
    joined = graph.add("Reshape", mixed, graph.constant(np.array([0, shape.patches, width])))
    hidden = graph.add("Add", hidden, graph.linear(f"{name}.attn_out", joined, width, width))
    normed = graph.norm(f"{name}.ln2", hidden, width)
    inner = graph.linear(f"{name}.ffn_up", normed, width, shape.feed_forward)
    inner = graph.add("Gelu", inner, approximate="tanh")
    inner = graph.linear(f"{name}.ffn_down", inner, shape.feed_forward, width)
    return graph.add("Add", hidden, inner)


class Graph:
    """Nodes, named by their numbers, and constants; weights have names of their own."""

    def __init__(self, seed: int) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[Constant] = []
        self._seed = seed
        self._quantized: dict[str, list[str]] = {}  # int8 rows, scale and zero point, by rows

    def add(self, operator: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        """Add a node and return the name of its output."""
        output = output or f"n{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [output], **attributes))
        return output

    def constant(self, values: NDArray[np.generic], name: str | None = None) -> str:
        """Add a constant and return its name."""
        name = name or f"c{len(self.constants)}"
        return self._keep(name, values.shape, values.dtype, lambda: values)

    def normal(self, name: str, shape: tuple[int, ...], deviation: float) -> str:
        """Add a constant of normal numbers, float32; they are the same whenever they are drawn."""
        seed = (self._seed, len(self.constants))

        def draw() -> NDArray[np.generic]:
            drawn = np.random.default_rng(seed).standard_normal(shape, np.float32)
            return drawn * np.float32(deviation)

        return self._keep(name, shape, np.dtype(np.float32), draw)

    def _keep(
        self,
        name: str,
        shape: tuple[int, ...],
        dtype: np.dtype[np.generic],
        make: Callable[[], NDArray[np.generic]],
    ) -> str:
        constant = Constant(name=name, shape=shape, dtype=dtype.newbyteorder("<"), make=make)
        self.constants.append(constant)
        return name

    def linear(self, name: str, rows: str, width: int, out: int, output: str | None = None) -> str:
        """Multiply rows `[...,width]` with an 8-bit matrix and add a vector: `[...,out]`."""
        levels, row_scale, row_zero = self._quantize(rows)
        matrix = self._levels(f"{name}.weight", (width, out))
        zeros = self.constant(np.zeros(out, np.int8), f"{name}.zero_point")
        scales = np.full(out, matrix_scale(width), np.float32)
        scale = self.add("Mul", row_scale, self.constant(scales, f"{name}.scale"))
        summed = self.add("MatMulInteger", levels, matrix, row_zero, zeros)
        product = self.add("Mul", self.add("Cast", summed, to=TensorProto.FLOAT), scale)
        return self.add("Add", product, self.normal(f"{name}.bias", (out,), 0.02), output=output)

    def _quantize(self, rows: str) -> list[str]:
        """Make rows 8-bit, once, by their own range."""
        if rows not in self._quantized:
            names = [f"{rows}.{part}" for part in ("levels", "scale", "zero_point")]
            self.nodes.append(helper.make_node("DynamicQuantizeLinear", [rows], names))
            self._quantized[rows] = names
        return self._quantized[rows]

    def _levels(self, name: str, shape: tuple[int, ...]) -> str:
        """Add an int8 constant of rounded normal numbers and return its name."""
        seed = (self._seed, len(self.constants))

        def draw() -> NDArray[np.generic]:
            drawn = np.random.default_rng(seed).standard_normal(shape, np.float32)
            levels = np.rint(drawn * _DEVIATION_LEVELS)
            return levels.clip(-_MOST_LEVELS, _MOST_LEVELS - 1).astype(np.int8)

        return self._keep(name, shape, np.dtype(np.int8), draw)

    def norm(self, name: str, rows: str, width: int) -> str:
        """Normalise rows `[...,width]`."""
        one = self.constant(np.ones(width, np.float32), f"{name}.weight")
        zero = self.constant(np.zeros(width, np.float32), f"{name}.bias")
        return self.add("LayerNormalization", rows, one, zero, axis=-1, epsilon=NORM_EPSILON)
