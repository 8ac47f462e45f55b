#!/usr/bin/env bash
# ONNX Runtime 1.32.0: a product whose weights alone are quantized (DequantizeLinear of int8 weights in
# front of a MatMul of float32) is computed with its inputs rounded to 8 bits, too. The optimizer makes
# one node MatMulNBits of the two, with accuracy level 4, which is int8; the exporter's graph says
# nothing of it, and the type of the result stays float32. The session's option
# session.qdq_matmulnbits_accuracy_level asks for another level: with 1, float32, inputs stay as they are.
#
# Seen, of 8 random rows by a matrix of 256 x 64, largest difference from numpy's product of the same
# weights, and the largest value of that:
#   largest value 38
#   as the graph says: 0.000000; optimized: 0.192; accuracy level 1: 0.000000
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

python3 -m venv venv
venv/bin/pip install --quiet onnxruntime==1.32.0 onnx==1.22.0 numpy

cat > compare.py <<'PYTHON'
import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper
import onnxruntime

random = np.random.default_rng(0)
weights = random.integers(-127, 128, (256, 64)).astype(np.int8)
scales = np.full(64, 0.01, np.float32)
rows = random.normal(size=(8, 256)).astype(np.float32)
expected = rows @ (weights.astype(np.float32) * scales)

graph = onnx.helper.make_graph(
    [
        onnx.helper.make_node("DequantizeLinear", ["weights", "scales"], ["values"], axis=1),
        onnx.helper.make_node("MatMul", ["rows", "values"], ["product"]),
    ],
    "weight-only",
    [onnx.helper.make_tensor_value_info("rows", onnx.TensorProto.FLOAT, [None, 256])],
    [onnx.helper.make_tensor_value_info("product", onnx.TensorProto.FLOAT, [None, 64])],
    [
        onnx.numpy_helper.from_array(weights, "weights"),
        onnx.numpy_helper.from_array(scales, "scales"),
    ],
)
opset = [onnx.helper.make_opsetid("", 21)]
model = onnx.helper.make_model(graph, opset_imports=opset, ir_version=10)


def distance(level, optimized):
    options = onnxruntime.SessionOptions()
    if not optimized:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    if level is not None:
        options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", level)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return float(np.abs(session.run(None, {"rows": rows})[0] - expected).max())


plain, default, asked = distance(None, False), distance(None, True), distance("1", True)
print(f"largest value {np.abs(expected).max():.0f}")
print(f"as the graph says: {plain:.6f}; optimized: {default:.3f}; accuracy level 1: {asked:.6f}")
assert plain < 1e-3
assert default > 0.05
assert asked < 1e-3
PYTHON
ORT_DISABLE_TELEMETRY=1 venv/bin/python compare.py
