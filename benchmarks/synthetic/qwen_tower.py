"""Write the vision tower of Qwen3.5 and its merger, of random weights, as one ONNX graph.

``pixel_values [N,3,H,W]`` to ``image_tokens [N,S,D]``, float32, N, H and W free: whole blocks of
patches. The operators are those of edge-et's own export, `edge_et.export.vision.qwen_vit`, heads
one after another, and of its 8-bit quantization, `dynamic`.
"""

from math import sqrt
from pathlib import Path

import numpy as np

from edge_et.benchmarks.synthetic.random_tower import Graph, port, write_graph
from edge_et.benchmarks.synthetic.shapes import TowerShape
from edge_et.export.steps import Progress, needing_extra

with needing_extra("bench"):
    from onnx import TensorProto

_ROPE_BASE = 10_000.0
_BIAS_DEVIATION = 0.02


def write_qwen_tower(
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
    graph = new_qwen_tower(shape, llm_width, seed)
    pixels = port("pixel_values", "N", 3, "H", "W")
    outputs = [port("image_tokens", "N", "S", llm_width)]
    write_graph(path, shape.name, graph, pixels, outputs, progress)


def new_qwen_tower(shape: TowerShape, llm_width: int, seed: int) -> Graph:
    """Make the graph; its weights are drawn when they are asked for."""
    tower = _Tower(shape, seed)
    tower.build(llm_width)
    return tower.graph


class _Tower:
    """A graph that is built."""

    def __init__(self, shape: TowerShape, seed: int) -> None:
        self.graph = Graph(seed)
        self._shape = shape
        self._add = self.graph.add

    def build(self, llm_width: int) -> None:
        """Add all nodes."""
        shape, width = self._shape, self._shape.width
        size, deviation = (width, 3, shape.patch, shape.patch), 1 / sqrt(3 * shape.patch**2)
        sides = [shape.patch] * 2
        kernel = self.graph.normal("v.patch_embd.weight", size, deviation)
        bias = self.graph.normal("v.patch_embd.bias", (width,), _BIAS_DEVIATION)
        inputs = "pixel_values", kernel, bias
        found = self._add("Conv", *inputs, strides=sides, kernel_shape=sides)
        rows, columns = (self._side(found, axis) for axis in (2, 3))
        patches = self._add("Transpose", found, perm=[0, 2, 3, 1])
        flat = self._numbers(0, -1, width)
        hidden = self._add("Add", patches, self._positions(rows, columns))
        hidden = self._add("Reshape", hidden, flat)
        turn = self._turn(rows, columns)
        for layer in range(shape.layers):
            hidden = self._block(f"v.blk.{layer}", hidden, turn)
        normed = self.graph.norm("v.post_ln", hidden, width)
        blocks, inner = self._blocks(normed, rows, columns), shape.shuffle**2 * width
        expanded = self._add("Gelu", self.graph.linear("mm.0", blocks, inner, inner))
        self.graph.linear("mm.2", expanded, inner, llm_width, output="image_tokens")

    def _numbers(self, *numbers: int) -> str:
        return self.graph.constant(np.array(numbers))

    def _float(self, number: float) -> str:
        return self.graph.constant(np.array(number, np.float32))

    def _side(self, found: str, axis: int) -> str:
        """Give a side of the map of patches, [1] int64."""
        return self._add("Shape", found, start=axis, end=axis + 1)

    def _count(self, side: str) -> str:
        """Count from 0, [side] float32."""
        zero, one = (self.graph.constant(np.array(number)) for number in (0, 1))
        numbers = self._add("Range", zero, self._add("Squeeze", side), one)
        return self._add("Cast", numbers, to=TensorProto.FLOAT)

    def _positions(self, rows: str, columns: str) -> str:
        """Resize the position embeddings, [rows,columns,C]."""
        side, width = self._shape.positions_side, self._shape.width
        table = self.graph.normal("v.position_embd.weight", (side, side, width), 1.0)
        across = self._add("Einsum", self._weights(rows), table, equation="ys,stc->ytc")
        return self._add("Einsum", self._weights(columns), across, equation="xt,ytc->yxc")

    def _weights(self, side: str) -> str:
        """Weigh the learned positions along one axis, [side,learned]."""
        learned = self._shape.positions_side
        last = self._add("Sub", self._add("Cast", side, to=TensorProto.FLOAT), self._float(1))
        last = self._add("Max", last, self._float(1))
        scaled = self._add("Mul", self._count(side), self._float(learned - 1))
        places = self._add("Unsqueeze", self._add("Div", scaled, last), self._numbers(1))
        apart = self._add("Sub", self.graph.constant(np.arange(learned, dtype=np.float32)), places)
        return self._add("Relu", self._add("Sub", self._float(1), self._add("Abs", apart)))

    def _turn(self, rows: str, columns: str) -> tuple[str, str]:
        """Give by which cosines and sines heads are turned, [patches,width of a head]."""
        head = self._shape.width // self._shape.heads
        powers = np.arange(0, head // 2, 2) / (head // 2)
        frequencies = self.graph.constant((_ROPE_BASE**-powers).astype(np.float32))
        angles = []
        whole = self._add("Concat", rows, columns, self._numbers(head // 4), axis=0)
        for side, axes in ((rows, (1, 2)), (columns, (0, 2))):
            counted = self._add("Unsqueeze", self._count(side), self._numbers(*axes))
            turned = self._add("Mul", counted, frequencies)
            angles.append(self._add("Expand", turned, whole))
        both = self._add("Concat", *angles, *angles, axis=-1)
        both = self._add("Reshape", both, self._numbers(-1, head))
        return self._add("Cos", both), self._add("Sin", both)

    def _split(self, values: str, count: int, axis: int) -> list[str]:
        """Split values along an axis."""
        names = [f"{values}.{part}" for part in range(count)]
        self.graph.split(values, names, axis)
        return names

    def _turned(self, vectors: str, turn: tuple[str, str]) -> str:
        first, second = self._split(vectors, 2, -1)
        across = self._add("Concat", self._add("Neg", second), first, axis=-1)
        cosines, sines = turn
        return self._add("Add", self._add("Mul", vectors, cosines), self._add("Mul", across, sines))

    def _block(self, name: str, hidden: str, turn: tuple[str, str]) -> str:
        """Add one transformer block, [N,P,C] to the same."""
        shape, graph, width = self._shape, self.graph, self._shape.width
        heads, head = shape.heads, shape.width // shape.heads
        normed = graph.norm(f"{name}.ln1", hidden, width)
        three = graph.linear(f"{name}.attn_qkv", normed, width, 3 * width)
        three = self._add("Reshape", three, self._numbers(0, 0, 3, heads, head))
        three = self._add("Transpose", three, perm=[2, 3, 0, 1, 4])
        queries, keys, values = (
            self._add("Squeeze", part, self._numbers(0)) for part in self._split(three, 3, 0)
        )
        queries = self._add("Mul", self._turned(queries, turn), self._float(head**-0.5))
        keys = self._add("Transpose", self._turned(keys, turn), perm=[0, 1, 3, 2])
        mixed = []
        parts = (self._split(each, heads, 0) for each in (queries, keys, values))
        for query, key, value in zip(*parts, strict=True):
            weights = self._add("Softmax", self._add("MatMul", query, key), axis=-1)
            mixed.append(self._add("MatMul", weights, value))
        joined = self._add("Squeeze", self._add("Concat", *mixed, axis=-1), self._numbers(0))
        hidden = self._add("Add", hidden, graph.linear(f"{name}.attn_out", joined, width, width))
        normed = graph.norm(f"{name}.ln2", hidden, width)
        inner = graph.linear(f"{name}.ffn_up", normed, width, shape.feed_forward)
        inner = self._add("Gelu", inner, approximate="tanh")
        inner = graph.linear(f"{name}.ffn_down", inner, shape.feed_forward, width)
        return self._add("Add", hidden, inner)

    def _blocks(self, hidden: str, rows: str, columns: str) -> str:
        """Put the patches of each block side by side, [N,S,C of a block]."""
        factor, width = self._shape.shuffle, self._shape.width
        side = self._numbers(factor)
        halves = [self._add("Div", each, side) for each in (rows, columns)]
        sizes = [self._numbers(0), halves[0], side, halves[1], side, self._numbers(width)]
        split = self._add("Reshape", hidden, self._add("Concat", *sizes, axis=0))
        blocks = self._add("Transpose", split, perm=[0, 1, 3, 2, 4, 5])
        return self._add("Reshape", blocks, self._numbers(0, -1, factor**2 * width))
