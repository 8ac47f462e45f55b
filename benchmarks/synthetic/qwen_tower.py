"""Write the vision tower of Qwen3.5 and its merger, of random weights, as one ONNX graph.

``pixel_values [N,3,H,W]`` to ``image_tokens [N,S,D]``, float32, N, H and W free: whole blocks of
patches. The operators are those of edge-et's own export, `edge_et.export.vision.qwen_vit`, heads
one after another, and of its 8-bit quantization, `dynamic`.
"""

from pathlib import Path

import numpy as np

from edge_et.benchmarks.synthetic.random_tower import Graph, port, write_graph
from edge_et.benchmarks.synthetic.shapes import TowerShape
from edge_et.benchmarks.synthetic.sized_tower import SizedTower
from edge_et.export.steps import Progress

_ROPE_BASE = 10_000.0


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


class _Tower(SizedTower):
    """A graph that is built."""

    def build(self, llm_width: int) -> None:
        """Add all nodes."""
        shape, width = self._shape, self._shape.width
        hidden, rows, columns = self._embed()
        turn = self._turn(rows, columns)
        for layer in range(shape.layers):
            hidden = self._block(f"v.blk.{layer}", hidden, turn)
        normed = self.graph.norm("v.post_ln", hidden, width)
        blocks, inner = self._blocks(normed, rows, columns), shape.shuffle**2 * width
        expanded = self._add("Gelu", self.graph.linear("mm.0", blocks, inner, inner))
        self.graph.linear("mm.2", expanded, inner, llm_width, output="image_tokens")

    def _weights(self, side: str) -> str:
        """Weigh the learned positions along one axis, [side,learned]."""
        learned = self._shape.positions_side
        last = self._add("Sub", self._as_float(side), self._float(1))
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
