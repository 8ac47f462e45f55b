"""What towers for tiles of many sizes have in common: position embeddings resized in the graph.

``pixel_values [N,3,H,W]``, N, H and W free: whole blocks of patches. Blocks of patches become image
tokens.
"""

from math import sqrt

import numpy as np

from edge_et.benchmarks.synthetic.random_tower import Graph
from edge_et.benchmarks.synthetic.shapes import TowerShape
from edge_et.export.steps import needing_extra

with needing_extra("bench"):
    from onnx import TensorProto

_BIAS_DEVIATION = 0.02


class SizedTower:
    """A graph that is built."""

    def __init__(self, shape: TowerShape, seed: int) -> None:
        self.graph = Graph(seed)
        self._shape = shape
        self._add = self.graph.add

    def _weights(self, side: str) -> str:
        """Weigh the learned positions along one axis, [side,learned]."""
        raise NotImplementedError

    def _embed(self) -> tuple[str, str, str]:
        """Add patches and places; give hidden [N,P,C], and rows and columns of patches, [1]."""
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
        return self._add("Reshape", hidden, flat), rows, columns

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
        return self._as_float(numbers)

    def _as_float(self, numbers: str) -> str:
        return self._add("Cast", numbers, to=TensorProto.FLOAT)

    def _positions(self, rows: str, columns: str) -> str:
        """Resize the position embeddings, [rows,columns,C]."""
        side, width = self._shape.positions_side, self._shape.width
        table = self.graph.normal("v.position_embd.weight", (side, side, width), 1.0)
        across = self._add("Einsum", self._weights(rows), table, equation="ys,stc->ytc")
        return self._add("Einsum", self._weights(columns), across, equation="xt,ytc->yxc")

    def _blocks(self, hidden: str, rows: str, columns: str) -> str:
        """Put the patches of each block side by side, [N,S,C of a block]."""
        factor, width = self._shape.shuffle, self._shape.width
        side = self._numbers(factor)
        halves = [self._add("Div", each, side) for each in (rows, columns)]
        sizes = [self._numbers(0), halves[0], side, halves[1], side, self._numbers(width)]
        split = self._add("Reshape", hidden, self._add("Concat", *sizes, axis=0))
        blocks = self._add("Transpose", split, perm=[0, 1, 3, 2, 4, 5])
        return self._add("Reshape", blocks, self._numbers(0, -1, factor**2 * width))
