import logging
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnxruntime import InferenceSession
from PIL import Image

from edge_et.bundle import Processing
from edge_et.export.errors import (
    GraphError,
    ParityError,
    QuantizationError,
    UnknownQuantizationError,
)
from edge_et.export.numeric_comparison import row_cosines
from edge_et.export.vision.onnx_graph import open_session, run_graph
from edge_et.quantize import quantize_vision as vision
from edge_et.quantize.pictures import picture_halves
from edge_et.quantize.quantize_vision import quantize_vision
from edge_et.quantize.vision_methods import METHODS, root_logger_kept, weight_only


@pytest.fixture(scope="module")
def pictures() -> NDArray[np.float32]:
    """Smooth random pictures, 12 tiles of 56 pixels."""
    random = np.random.default_rng(2)
    coarse = random.standard_normal((12, 3, 7, 7)).astype(np.float32)
    return coarse.repeat(8, axis=2).repeat(8, axis=3)


def test_auto_measures_all_methods_and_keeps_one_that_passes(
    vision_graph: Path, pictures: NDArray[np.float32], tmp_path: Path
) -> None:
    out = tmp_path / "int8.onnx"
    root = logging.getLogger()
    before = (root.level, list(root.handlers))
    result = quantize_vision(vision_graph, out, pictures[:8], pictures[8:], threads=1)
    assert (root.level, root.handlers) == before
    assert [report.name for report in result.candidates[:3]] == [
        "vision int8 dynamic",
        "vision int8 static",
        "vision int8 weight-only",
    ]
    assert list(tmp_path.iterdir()) == [out]
    chosen = result.chosen
    assert chosen in result.candidates
    assert chosen.size_bytes == out.stat().st_size < 0.7 * vision_graph.stat().st_size
    assert chosen.details["ms_per_tile"] > 0
    tokens = run_graph(open_session(out), pictures[:8])
    cosines = row_cosines(tokens, run_graph(open_session(vision_graph), pictures[:8]))
    assert np.mean(cosines < 0.99) == pytest.approx(chosen.error)
    assert np.mean(cosines < 0.99) <= 0.01


@pytest.mark.parametrize("method", ["dynamic", "weight-only"])
def test_the_same_input_gives_the_same_bytes(
    vision_graph: Path, pictures: NDArray[np.float32], tmp_path: Path, method: str
) -> None:
    files = [
        quantize_vision(
            vision_graph, tmp_path / f"{number}.onnx", pictures[:4], pictures[4:], method=method
        ).chosen.path
        for number in range(2)
    ]
    assert files[0].read_bytes() == files[1].read_bytes()


@pytest.mark.parametrize("method", ["dynamic", "static"])
def test_no_two_products_overflow_16_bits(
    vision_graph: Path, pictures: NDArray[np.float32], tmp_path: Path, method: str
) -> None:
    """x86 CPUs without VNNI add them in as many; inputs are 0 to 255."""
    out = tmp_path / "int8.onnx"
    with root_logger_kept():
        METHODS[method](vision_graph, out, pictures[:2], [])
    levels = [
        numpy_helper.to_array(tensor).astype(int)
        for tensor in onnx.load(out).graph.initializer
        if tensor.data_type == TensorProto.INT8 and len(tensor.dims) == 2
    ]
    assert levels
    assert max(2 * 255 * np.abs(matrix).max() for matrix in levels) < 2**15


def test_low_matrices_are_not_filled_up_with_zeros(tmp_path: Path) -> None:
    random = np.random.default_rng(4)
    weights = {
        "down": random.standard_normal((256, 16)).astype(np.float32),
        "up": random.standard_normal((16, 512)).astype(np.float32),
    }
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["pixel_values", "down"], ["narrow"], name="first"),
            helper.make_node("MatMul", ["narrow", "up"], ["image_tokens"], name="second"),
        ],
        "low",
        [helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, ["N", 256])],
        [helper.make_tensor_value_info("image_tokens", TensorProto.FLOAT, ["N", 512])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    source, out = tmp_path / "float.onnx", tmp_path / "int8.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)]), source)
    with root_logger_kept():
        weight_only(source, out, np.zeros((0,), np.float32), [])
    values = sum(value.size for value in weights.values())
    assert values < out.stat().st_size < 1.5 * values
    rows = random.standard_normal((5, 256)).astype(np.float32)
    (made,) = InferenceSession(out).run(None, {"pixel_values": rows})
    assert row_cosines(made, rows @ weights["down"] @ weights["up"]).min() > 0.999


def test_linears_stay_float_where_that_is_needed(
    vision_graph: Path,
    pictures: NDArray[np.float32],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(vision, "METHODS", {"dynamic": METHODS["dynamic"]})
    monkeypatch.setattr(vision, "MIN_COSINE", 0.9999)
    result = quantize_vision(vision_graph, tmp_path / "int8.onnx", pictures[:4], pictures[4:])
    first, chosen = result.candidates[0], result.chosen
    assert first.error is not None
    assert first.error > 0.01
    assert chosen.error is not None
    assert chosen.error <= 0.01
    assert result.keep_float
    kinds = {"projector.expand", "projector.project", "backbone.layers.mlp.fc2"}
    assert kinds & set(vision._kinds_of_linears(vision_graph)) == kinds


def test_tokens_that_turn_away_are_an_error(
    vision_graph: Path,
    pictures: NDArray[np.float32],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(vision, "MIN_COSINE", 2.0)
    with pytest.raises(ParityError, match="share of tokens with cosine below"):
        quantize_vision(
            vision_graph, tmp_path / "out.onnx", pictures[:2], pictures[2:], method="dynamic"
        )
    assert list(tmp_path.iterdir()) == []


def test_inputs_that_cannot_be_quantized(
    vision_graph: Path, pictures: NDArray[np.float32], tmp_path: Path
) -> None:
    out = tmp_path / "out.onnx"
    with pytest.raises(UnknownQuantizationError, match="known: auto, dynamic"):
        quantize_vision(vision_graph, out, pictures, pictures, method="fp4")
    with pytest.raises(QuantizationError, match="pictures"):
        quantize_vision(vision_graph, out, pictures[:0], pictures)
    with pytest.raises(GraphError, match="cannot be opened"):
        quantize_vision(tmp_path / "missing.onnx", out, pictures, pictures)
    with pytest.raises(GraphError, match="failed on"):
        quantize_vision(vision_graph, out, pictures[:, :, :40], pictures)
    assert list(tmp_path.iterdir()) == []


def test_every_other_picture_is_for_calibration(tmp_path: Path) -> None:
    processing = Processing(
        height=56,
        width=56,
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        rescale=1 / 255,
        resample="bicubic",
        fit="squash",
    )
    with pytest.raises(QuantizationError, match="0 pictures"):
        picture_halves(tmp_path, processing)
    with pytest.raises(QuantizationError, match="not a folder"):
        picture_halves(tmp_path / "missing", processing)
    for number in range(3):
        Image.new("RGB", (80, 60), (number, 0, 0)).save(tmp_path / f"{number}.png")
    (tmp_path / "notes.txt").write_text("no picture")
    judge, calibration = picture_halves(tmp_path, processing)
    assert np.round(judge[:, 0, 0, 0] * 255).tolist() == [0, 2]
    assert np.round(calibration[:, 0, 0, 0] * 255).tolist() == [1]
