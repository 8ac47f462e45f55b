"""Write the vision tower of LFM2-VL, a SigLIP 2, of random weights, as one ONNX graph.

``pixel_values [N,3,H,W]`` to ``image_tokens [N,S,D]``, float32, N, H and W free: whole blocks of
patches; ``image_markup [M,D]``. The operators are those of edge-et's own export,
`edge_et.export.vision.siglip2`, and of its 8-bit quantization, `dynamic`.
"""

from pathlib import Path

import numpy as np

from edge_et.benchmarks.synthetic.random_tower import Graph, add_block, add_marks, port, write_graph
from edge_et.benchmarks.synthetic.shapes import TowerShape
from edge_et.benchmarks.synthetic.sized_tower import SizedTower
from edge_et.export.steps import Progress


def write_siglip2_tower(
    path: Path, shape: TowerShape, llm_width: int, seed: int, progress: Progress, *, marks: int
) -> None:
    """Write the graph.

    Args:
        path: the ONNX file.
        shape: the tower's dimensions.
        llm_width: D, width of an image token.
        seed: of the weights.
        progress: told the bytes of the weights.
        marks: M, tokens that stand around tiles.
    """
    graph = new_siglip2_tower(shape, llm_width, seed)
    pixels = port("pixel_values", "N", 3, "H", "W")
    outputs = [port("image_tokens", "N", "S", llm_width), add_marks(graph, marks, llm_width)]
    write_graph(path, shape.name, graph, pixels, outputs, progress)


def new_siglip2_tower(shape: TowerShape, llm_width: int, seed: int) -> Graph:
    """Make the graph; its weights are drawn when they are asked for."""
    tower = _Tower(shape, seed)
    tower.build(llm_width)
    return tower.graph


class _Tower(SizedTower):
    """A graph that is built."""

    def build(self, llm_width: int) -> None:
        """Add all nodes."""
        shape = self._shape
        hidden, rows, columns = self._embed()
        for layer in range(shape.layers):
            hidden = add_block(self.graph, shape, hidden, f"v.blk.{layer}", rows=-1)
        normed = self.graph.norm("v.post_ln", hidden, shape.width)
        blocks, inner = self._blocks(normed, rows, columns), shape.projector_width
        expanded = self.graph.linear("mm.1", blocks, shape.shuffle**2 * shape.width, inner)
        expanded = self._add("Gelu", expanded)
        self.graph.linear("mm.2", expanded, inner, llm_width, output="image_tokens")

    def _weights(self, side: str) -> str:
        """Weigh the learned positions as a bilinear resize with antialiasing does."""
        learned, half = self._shape.positions_side, self._float(0.5)
        scale = self._add("Div", self._float(learned), self._as_float(side))
        support = self._add("Max", scale, self._float(1))
        centres = self._add("Mul", self._add("Add", self._count(side), half), scale)
        centres = self._add("Unsqueeze", self._add("Sub", centres, half), self._numbers(1))
        apart = self._add("Sub", self.graph.constant(np.arange(learned, dtype=np.float32)), centres)
        near = self._add("Div", self._add("Abs", apart), support)
        weights = self._add("Relu", self._add("Sub", self._float(1), near))
        return self._add("Div", weights, self._add("ReduceSum", weights, self._numbers(-1)))
