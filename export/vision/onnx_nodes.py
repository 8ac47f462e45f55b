"""Nodes that are added to a graph. In: values of the graph. Out: nodes in order, and new values."""

from collections.abc import Sequence

import numpy as np
import onnx_ir
from numpy.typing import NDArray
from onnx_ir.passes.common import RemoveUnusedNodesPass

_PREFIX = "edge_et."


class NodeList:
    """Nodes that belong to no graph yet; their constants do."""

    def __init__(self, graph: onnx_ir.Graph, name: str) -> None:
        """Begin without nodes.

        Args:
            graph: gets the constants.
            name: of the list, for the names of its values.
        """
        self.nodes: list[onnx_ir.Node] = []
        self._name = name
        self._graph = graph

    def constant(self, name: str, array: NDArray[np.generic]) -> onnx_ir.Value:
        """Return a constant.

        Args:
            name: what equal constants share.
            array: its value, C-contiguous.
        """
        name = _PREFIX + name
        if name not in self._graph.initializers:
            tensor = onnx_ir.Tensor(array, name=name)
            self._graph.register_initializer(
                onnx_ir.Value(
                    name=name,
                    shape=onnx_ir.Shape(array.shape),
                    type=onnx_ir.TensorType(tensor.dtype),
                    const_value=tensor,
                )
            )
        return self._graph.initializers[name]

    def add(
        self, op_type: str, *inputs: onnx_ir.Value, **attributes: int | Sequence[int]
    ) -> onnx_ir.Value:
        """Add a node of the standard operators and return what it gives."""
        node = onnx_ir.node(op_type, inputs, attributes)
        node.outputs[0].name = f"{_PREFIX}{self._name}.{op_type}_{len(self.nodes)}"
        self.nodes.append(node)
        return node.outputs[0]


def remove_unused(model: onnx_ir.Model) -> None:
    """Remove nodes and weights that no output depends on."""
    RemoveUnusedNodesPass()(model)
