"""Weights behind a Transpose are stored as their products read them."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edge_et.export.vision.onnx_transposes import fold_transposes

ROWS, WIDTH, OUT = 5, 520, 640  # more values than onnxscript folds
WEIGHT = np.random.default_rng(1).normal(0, 0.1, (OUT, WIDTH)).astype(np.float32)
INPUT = np.random.default_rng(2).normal(0, 1, (ROWS, WIDTH)).astype(np.float32)


def run(model: onnx.ModelProto) -> list[NDArray[Any]]:
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    outputs: list[NDArray[Any]] = session.run(None, {"x": INPUT})
    return outputs


def folded(model: onnx.ModelProto) -> onnx.ModelProto:
    changed = onnx_ir.from_proto(model)
    fold_transposes(changed)
    return onnx_ir.to_proto(changed)


def graph(
    nodes: list[onnx.NodeProto], weights: dict[str, NDArray[Any]], *outputs: str, opset: int = 20
) -> onnx.ModelProto:
    return helper.make_model(
        helper.make_graph(
            nodes,
            "graph",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [ROWS, WIDTH])],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
            [numpy_helper.from_array(array, name) for name, array in weights.items()],
        ),
        opset_imports=[helper.make_opsetid("", opset)],
        ir_version=10,
    )


def weights_of(model: onnx.ModelProto) -> dict[str, NDArray[Any]]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def operators(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


@pytest.mark.parametrize("perm", [[1, 0], None])
def test_a_weight_that_two_products_read_is_stored_once(perm: list[int] | None) -> None:
    nodes = [
        *(helper.make_node("Transpose", ["w"], [f"t{index}"], perm=perm) for index in range(2)),
        helper.make_node("MatMul", ["x", "t0"], ["y0"]),
        helper.make_node("MatMul", ["x", "t1"], ["y1"]),
    ]
    model = graph(nodes, {"w": WEIGHT}, "y0", "y1")
    made = folded(model)
    assert operators(made) == ["MatMul", "MatMul"]
    (stored,) = weights_of(made).values()
    assert np.array_equal(stored, WEIGHT.T)
    for actual, expected in zip(run(made), run(model), strict=True):
        assert np.array_equal(actual, expected)


def test_what_reads_the_weight_as_it_is_keeps_it() -> None:
    nodes = [
        helper.make_node("Transpose", ["w"], ["t"], perm=[1, 0]),
        helper.make_node("MatMul", ["x", "t"], ["y"]),
        helper.make_node("MatMul", ["y", "w"], ["z"]),
    ]
    model = graph(nodes, {"w": WEIGHT}, "z")
    made = folded(model)
    assert operators(made) == ["MatMul", "MatMul"]
    assert sorted(array.shape for array in weights_of(made).values()) == [
        (WIDTH, OUT),
        (OUT, WIDTH),
    ]
    assert np.array_equal(run(made)[0], run(model)[0])


def test_what_is_no_weight_stays() -> None:
    """An activation, an output of the graph, and an input that has a default value."""
    nodes = [
        helper.make_node("Transpose", ["x"], ["tx"], perm=[1, 0]),
        helper.make_node("MatMul", ["w", "tx"], ["y"]),
        helper.make_node("Transpose", ["w"], ["tw"], perm=[1, 0]),
        helper.make_node("Transpose", ["v"], ["tv"], perm=[1, 0]),
        helper.make_node("MatMul", ["x", "tv"], ["z"]),
    ]
    model = graph(nodes, {"w": WEIGHT, "v": WEIGHT}, "y", "tw", "z")
    model.graph.input.append(
        helper.make_tensor_value_info("v", TensorProto.FLOAT, list(WEIGHT.shape))
    )
    made = folded(model)
    assert operators(made) == operators(model)
    assert weights_of(made).keys() == {"w", "v"}


def test_weights_beside_the_graph_are_read_from_there(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Transpose", ["w"], ["t"], perm=[1, 0]),
        helper.make_node("MatMul", ["x", "t"], ["y"]),
    ]
    model = graph(nodes, {"w": WEIGHT}, "y")
    expected = run(model)[0]
    path = tmp_path / "in.onnx"
    onnx.save(model, path, save_as_external_data=True, location="weights")
    changed = onnx_ir.load(path)
    fold_transposes(changed)
    onnx_ir.save(changed, tmp_path / "out.onnx")
    assert np.array_equal(run(onnx.load(tmp_path / "out.onnx"))[0], expected)


def test_dequantized_weights_keep_their_transpose() -> None:
    """Without it ONNX Runtime would round the input to 8 bits."""
    levels = np.rint(WEIGHT * 200).clip(-127, 127).astype(np.int8)
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "s"], ["d"]),
        helper.make_node("Transpose", ["d"], ["t"], perm=[1, 0]),
        helper.make_node("MatMul", ["x", "t"], ["y"]),
    ]
    model = graph(nodes, {"w": levels, "s": np.array(0.01, np.float32)}, "y")
    exact = INPUT.astype(np.float64) @ levels.T * 0.01
    assert np.abs(run(folded(model))[0] - exact).max() < 1e-4
