"""A SigLIP tower with a projector of two linears, of random weights, as one ONNX graph.

``pixel_values [N,3,H,W]`` to ``image_tokens [N,S,D]``, float32, N free. The operators are those of
edge-et's own export: what ONNX Runtime fuses there it fuses here.
"""

from collections.abc import Callable
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_et.benchmarks.synthetic.onnx_file import Constant, write_onnx
from edge_et.benchmarks.synthetic.shapes import TowerShape
from edge_et.export.steps import Progress, needing_extra

with needing_extra("bench"):
    import onnx
    from onnx import TensorProto, helper

_OPSET = 20  # the first with Gelu as one operator
_IR_VERSION = 10


def tower_bytes(shape: TowerShape, llm_width: int) -> int:
    """Return about how large the graph's file is, bytes."""
    width = shape.width
    layer = 4 * width**2 + 2 * width * shape.feed_forward
    projector = width * llm_width + llm_width**2
    return 4 * (shape.layers * layer + projector + width * (shape.patches + 3 * shape.patch**2))


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
    graph = _Graph(seed)
    hidden = _embed(graph, shape)
    for _ in range(shape.layers):
        hidden = _block(graph, shape, hidden)
    hidden = graph.add("Gelu", graph.linear(hidden, shape.width, llm_width))
    graph.linear(hidden, llm_width, llm_width, name="image_tokens")
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


def _embed(graph: "_Graph", shape: TowerShape) -> str:
    """Add patches and places: `[N,3,H,W]` to `[N,S,C]`."""
    width, patch = shape.width, shape.patch
    kernel = graph.normal((width, 3, patch, patch), 1 / sqrt(3 * patch**2))
    found = graph.add(
        "Conv", "pixel_values", kernel, strides=[patch, patch], kernel_shape=[patch, patch]
    )
    flat = graph.add("Reshape", found, graph.constant(np.array([0, width, -1])))
    rows = graph.add("Transpose", flat, perm=[0, 2, 1])
    return graph.add("Add", rows, graph.normal((shape.patches, width), 1.0))


def _block(graph: "_Graph", shape: TowerShape, hidden: str) -> str:
    """Add one transformer block, `[N,S,C]` to the same."""
    width, heads = shape.width, shape.heads
    split = graph.constant(np.array([0, shape.patches, heads, width // heads]))
    normed = graph.norm(hidden, width)
    scale = graph.constant(np.array(sqrt(heads / width), np.float32))
    query, key, value = (
        graph.add("Transpose", graph.add("Reshape", part, split), perm=perm)
        for part, perm in (
            (graph.add("Mul", graph.linear(normed, width, width), scale), [0, 2, 1, 3]),
            (graph.linear(normed, width, width), [0, 2, 3, 1]),
            (graph.linear(normed, width, width), [0, 2, 1, 3]),
        )
    )
    weights = graph.add("Softmax", graph.add("MatMul", query, key), axis=-1)
    mixed = graph.add("Transpose", graph.add("MatMul", weights, value), perm=[0, 2, 1, 3])
    joined = graph.add("Reshape", mixed, graph.constant(np.array([0, shape.patches, width])))
    hidden = graph.add("Add", hidden, graph.linear(joined, width, width))
    inner = graph.linear(graph.norm(hidden, width), width, shape.feed_forward)
    inner = graph.add("Gelu", inner, approximate="tanh")
    return graph.add("Add", hidden, graph.linear(inner, shape.feed_forward, width))


class _Graph:
    """Nodes and constants, named by their numbers."""

    def __init__(self, seed: int) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[Constant] = []
        self._random = np.random.default_rng(seed)

    def add(self, operator: str, *inputs: str, name: str | None = None, **attributes: Any) -> str:
        """Add a node and return the name of its output."""
        output = name or f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [output], **attributes))
        return output

    def constant(self, values: NDArray[np.generic]) -> str:
        """Add a constant and return its name."""
        return self._keep(values.shape, values.dtype, lambda: values)

    def normal(self, shape: tuple[int, ...], deviation: float) -> str:
        """Add a constant of normal numbers, float32."""
        dtype = np.dtype(np.float32)

        def draw() -> NDArray[np.generic]:
            return self._random.standard_normal(shape, np.float32) * np.float32(deviation)

        return self._keep(shape, dtype, draw)

    def _keep(
        self,
        shape: tuple[int, ...],
        dtype: np.dtype[np.generic],
        make: Callable[[], NDArray[np.generic]],
    ) -> str:
        name = f"c{len(self.constants)}"
        constant = Constant(name=name, shape=shape, dtype=dtype.newbyteorder("<"), make=make)
        self.constants.append(constant)
        return name

    def linear(self, rows: str, width: int, out: int, name: str | None = None) -> str:
        """Multiply rows `[...,width]` with a matrix and add a vector: `[...,out]`."""
        product = self.add("MatMul", rows, self.normal((width, out), 1 / sqrt(width)))
        return self.add("Add", product, self.normal((out,), 0.02), name=name)

    def norm(self, rows: str, width: int) -> str:
        """Normalise rows `[...,width]`."""
        one = self.constant(np.ones(width, np.float32))
        zero = self.constant(np.zeros(width, np.float32))
        return self.add("LayerNormalization", rows, one, zero, axis=-1, epsilon=1e-6)
