"""Synthetic towers without the rounding of their 8-bit products."""

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from edge_et.bundle import Bundle


def float_graph(bundle: Bundle) -> onnx.ModelProto:
    """Return the graph of a bundle without the rounding of what matrices are multiplied with."""
    model = onnx.load(bundle.path(bundle.manifest.vision.graph))
    quantized = {
        node.output[0]: node for node in model.graph.node if node.op_type == "DynamicQuantizeLinear"
    }
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "MatMulInteger":
            levels, matrix, *_ = node.input
            floats = numpy_helper.to_array(weights[matrix]).astype(np.float32)
            weights[matrix].CopyFrom(numpy_helper.from_array(floats, matrix))
            names = [quantized[levels].input[0], matrix]
            node.CopyFrom(helper.make_node("MatMul", names, list(node.output)))
    one = np.ones((), np.float32)
    for node in quantized.values():
        model.graph.initializer.append(numpy_helper.from_array(one, node.output[1]))
        model.graph.node.remove(node)
    return model


def run(model: str | bytes, pixel_values: NDArray[np.float32]) -> NDArray[np.float32]:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    made: NDArray[np.float32] = session.run(["image_tokens"], {"pixel_values": pixel_values})[0]
    return made
