"""Store weights as their products read them.

In: a graph whose weights stand behind a Transpose. Out: the same graph without it, the weights
stored transposed. ONNX Runtime would transpose them each time that it opens the graph, into memory
of its own, where stored ones are mapped from the file; and its quantizers pass over a product whose
weights stand behind an operator.
"""

from collections.abc import Sequence

import numpy as np
import onnx_ir


def fold_transposes(model: onnx_ir.Model) -> None:
    """Transpose stored weights where a node does so; no value is rounded.

    What other nodes read untransposed stays for these. Weights that are dequantized before are left
    alone: without the Transpose, ONNX Runtime 1.32 rounds what they are multiplied with to 8 bits.

    Args:
        model: changed in place. Its weights are read when they are written.
    """
    graph = model.graph
    for node in list(graph):
        if node.op_type != "Transpose" or node.domain or node.inputs[0] is None:
            continue
        source, made = node.inputs[0], node.outputs[0]
        if made.is_graph_output() or source.const_value is None or not source.is_initializer():
            continue
        if source.is_graph_input():  # whoever runs the graph may give another value
            continue
        made.replace_all_uses_with(_transposed(graph, source, source.const_value, _order(node)))
        graph.remove(node, safe=True)
        if not source.uses() and not source.is_graph_output():
            assert source.name is not None  # an initializer has one
            del graph.initializers[source.name]


def _order(node: onnx_ir.Node) -> tuple[int, ...] | None:
    """Return which axis of its input each axis of a Transpose's output is; None: all reversed."""
    return tuple(node.attributes["perm"].as_ints()) if "perm" in node.attributes else None


def _transposed(
    graph: onnx_ir.Graph,
    source: onnx_ir.Value,
    tensor: onnx_ir.TensorProtocol,
    order: Sequence[int] | None,
) -> onnx_ir.Value:
    """Return a weight with its axes in another order, the same value each time."""
    axes = tuple(reversed(range(len(tensor.shape)))) if order is None else tuple(order)
    name = f"{source.name}.transposed_{'_'.join(map(str, axes))}"
    if name not in graph.initializers:
        shape = onnx_ir.Shape([tensor.shape.numpy()[axis] for axis in axes])

        def read() -> onnx_ir.Tensor:
            array = np.ascontiguousarray(tensor.numpy().transpose(axes))
            return onnx_ir.Tensor(array, tensor.dtype, name=name)

        graph.register_initializer(
            onnx_ir.Value(
                name=name,
                shape=shape,
                type=onnx_ir.TensorType(tensor.dtype),
                const_value=onnx_ir.LazyTensor(read, tensor.dtype, shape, name=name),
            )
        )
    return graph.initializers[name]
