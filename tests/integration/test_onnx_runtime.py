"""The vision tower over real ONNX Runtime."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper
from tiny.alarms import check_handlers_pass
from tiny.sizes import REFERENCE, sized_spec
from tiny.tower import write_tower, write_tower_of_sizes

from edge_et.bundle import VisionSpec, read_manifest
from edge_et.errors import ClosedError, ModelFileError, VisionRunError
from edge_et.image import VisionTower
from edge_et.native_handle import NativeHandle

PIXELS = np.random.default_rng(0).normal(0, 1, (2, 3, 32, 32)).astype(np.float32)


@pytest.fixture(scope="module")
def spec(tiny_bundle: Path) -> VisionSpec:
    return read_manifest(tiny_bundle / "bundle.json").vision


def test_tiles_become_features_in_order(tiny_bundle: Path, spec: VisionSpec) -> None:
    tower = VisionTower(tiny_bundle / "vision.onnx", spec, 2)
    output = tower.encode(PIXELS)
    assert [(each.shape, each.dtype) for each in output.features] == [((16, 32), np.float32)] * 2
    assert output.newline is None
    assert np.array_equal(output.features[1:], tower.encode(PIXELS[1:]).features)


def test_tiles_go_through_one_by_one(tiny_bundle: Path, spec: VisionSpec) -> None:
    """As they do not see each other, neither memory nor rounding depends on how many there are."""
    tower = VisionTower(tiny_bundle / "vision.onnx", spec, 1)
    shapes: list[Any] = []
    with tower._session.lock:
        run = tower._session.value.run

    class Watched:
        def run(self, names: Any, inputs: Any, options: Any) -> Any:
            shapes.append(inputs["pixel_values"].shape)
            return run(names, inputs, options)

    tower._session = NativeHandle("vision tower", Watched)
    tower.encode(iter(PIXELS))
    assert shapes == [(1, 3, 32, 32)] * 2


def test_weights_beside_the_graph_are_found(
    tiny_bundle: Path, spec: VisionSpec, tmp_path: Path
) -> None:
    graph = onnx.load(tiny_bundle / "vision.onnx")
    onnx.save(graph, tmp_path / "split.onnx", save_as_external_data=True, location="weights")
    features = VisionTower(tmp_path / "split.onnx", spec, 1).encode(PIXELS).features
    whole = VisionTower(tiny_bundle / "vision.onnx", spec, 1).encode(PIXELS).features
    assert np.array_equal(features, whole)
    (tmp_path / "weights").write_bytes(b"short")
    with pytest.raises(ModelFileError, match=r"split\.onnx"):
        VisionTower(tmp_path / "split.onnx", spec, 1)


def test_other_shapes_are_refused(tiny_bundle: Path, spec: VisionSpec) -> None:
    tower = VisionTower(tiny_bundle / "vision.onnx", spec, 1)
    for shape in ((3, 32, 32), (1, 3, 16, 32)):
        with pytest.raises(VisionRunError, match="expected"):
            tower.encode(np.zeros(shape, np.float32))
    with pytest.raises(VisionRunError, match="not finite"):
        tower.encode(np.full((1, 3, 32, 32), np.nan, np.float32))
    with pytest.raises(VisionRunError, match="no tiles"):
        tower.encode([])


def test_the_newline_is_a_second_output(tmp_path: Path, spec: VisionSpec) -> None:
    unpadded = msgspec.structs.replace(spec, arrangement="unpadded")
    write_tower(tmp_path / "with.onnx", width=32, newline=True)
    write_tower(tmp_path / "without.onnx", width=32)
    output = VisionTower(tmp_path / "with.onnx", unpadded, 1).encode(PIXELS)
    stored = next(
        value
        for value in onnx.load(tmp_path / "with.onnx").graph.initializer
        if value.name == "newline"
    )
    assert output.newline is not None
    assert np.array_equal(output.newline, onnx.numpy_helper.to_array(stored))
    with pytest.raises(ModelFileError, match="expected image_newline"):
        VisionTower(tmp_path / "without.onnx", unpadded, 1)
    for arrangement in ("flat", "grid"):
        with pytest.raises(ModelFileError, match="image_newline"):
            VisionTower(
                tmp_path / "with.onnx", msgspec.structs.replace(spec, arrangement=arrangement), 1
            )


def test_a_newline_of_another_width_is_refused(tmp_path: Path, spec: VisionSpec) -> None:
    write_tower(tmp_path / "vision.onnx", width=32, newline=True)
    model = onnx.load(tmp_path / "vision.onnx")
    model.graph.output[1].type.tensor_type.shape.dim[0].dim_value = 31
    newline = next(value for value in model.graph.initializer if value.name == "newline")
    newline.CopyFrom(onnx.numpy_helper.from_array(np.zeros(31, np.float32), "newline"))
    (tmp_path / "narrow.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ModelFileError, match=r"expected float32 \[32\]"):
        VisionTower(
            tmp_path / "narrow.onnx", msgspec.structs.replace(spec, arrangement="unpadded"), 1
        )


def test_a_closed_tower_says_so(tiny_bundle: Path, spec: VisionSpec) -> None:
    tower = VisionTower(tiny_bundle / "vision.onnx", spec, 1)
    tower.close()
    tower.close()
    with pytest.raises(ClosedError):
        tower.encode(PIXELS)


def test_graphs_of_other_shapes_are_refused(tmp_path: Path, spec: VisionSpec) -> None:
    write_tower(tmp_path / "wide.onnx", width=64)
    (tmp_path / "none.onnx").write_bytes(b"no graph")
    for name in ("wide.onnx", "none.onnx", "missing.onnx"):
        with pytest.raises(ModelFileError) as caught:
            VisionTower(tmp_path / name, spec, 1)
        assert caught.value.path == tmp_path / name


def test_a_graph_of_another_number_of_tokens_is_refused(
    tiny_bundle: Path, spec: VisionSpec
) -> None:
    fewer = msgspec.structs.replace(spec, image_tokens_per_tile=9)
    with pytest.raises(ModelFileError, match="image_tokens"):
        VisionTower(tiny_bundle / "vision.onnx", fewer, 1)


def test_a_graph_of_another_picture_size_is_refused(tiny_bundle: Path, spec: VisionSpec) -> None:
    larger = msgspec.structs.replace(spec.processing, height=64)
    with pytest.raises(ModelFileError, match="pixel_values"):
        VisionTower(
            tiny_bundle / "vision.onnx", msgspec.structs.replace(spec, processing=larger), 1
        )


def test_tiles_of_many_sizes(tmp_path: Path) -> None:
    spec = sized_spec(REFERENCE["small"]["settings"], width=32)
    assert spec.markup is not None
    marks = len(spec.markup.tokens)
    write_tower_of_sizes(tmp_path / "vision.onnx", width=32, markup=marks)
    tower = VisionTower(tmp_path / "vision.onnx", spec, 1)
    sizes = [(32, 32), (24, 40), (8, 128)]
    tiles = [np.full((3, *size), place, np.float32) for place, size in enumerate(sizes)]
    made = tower.encode(tiles)
    assert [each.shape for each in made.features] == [(16, 32), (15, 32), (16, 32)]
    assert np.allclose(made.features[2], 2 * tower.encode([tiles[1]]).features[0][0])
    assert made.markup is not None
    assert made.markup.shape == (marks, 32)
    for shape in ((3, 24, 36), (3, 0, 8), (4, 32, 32), (32, 32)):
        with pytest.raises(VisionRunError, match=r"or \[3,H,W\] with H and W multiples of 8"):
            tower.encode([np.zeros(shape, np.float32)])
    write_tower_of_sizes(tmp_path / "one.onnx", width=32, markup=marks, sides=32)
    with pytest.raises(ModelFileError, match="tiles of one size"):
        VisionTower(tmp_path / "one.onnx", spec, 1)


def test_what_a_handler_raises_while_the_tower_runs_comes_as_it_is(
    tiny_bundle: Path, spec: VisionSpec
) -> None:
    tower = VisionTower(tiny_bundle / "vision.onnx", spec, 1)
    check_handlers_pass(lambda: tower.encode(PIXELS), after_s=0.02)
    assert np.shape(tower.encode(PIXELS).features) == (2, 16, 32)


def write_full_range(path: Path, spec: VisionSpec) -> NDArray[np.float32]:
    """Write a graph whose int8 weights are as large as they can be; return its tokens of ones."""
    tokens, width = spec.image_tokens_per_tile, spec.embedding_width
    rows = 3 * spec.processing.height * spec.processing.width // tokens
    levels = np.full((rows, width), 127, np.int8)
    levels[:, ::2] = -127
    nodes = [
        helper.make_node("Reshape", ["pixel_values", "shape"], ["rows"]),
        helper.make_node("DynamicQuantizeLinear", ["rows"], ["levels", "scale", "zero"]),
        helper.make_node("MatMulInteger", ["levels", "weight", "zero"], ["sums"]),
        helper.make_node("Cast", ["sums"], ["numbers"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["numbers", "scale"], ["image_tokens"]),
    ]
    tiles = ["N", 3, spec.processing.height, spec.processing.width]
    constants = {"shape": np.array([-1, tokens, rows]), "weight": levels}
    graph = helper.make_graph(
        nodes,
        "full range",
        [helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, tiles)],
        [helper.make_tensor_value_info("image_tokens", TensorProto.FLOAT, ["N", tokens, width])],
        [onnx.numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path
    )
    return np.broadcast_to(levels.sum(0, dtype=np.float32), (1, tokens, width))


FULL_RANGE = """
import sys
from pathlib import Path
import numpy as np
from edge_et.bundle import read_manifest
from edge_et.image import VisionTower
spec = read_manifest(Path(sys.argv[2])).vision
tile = np.ones((3, spec.processing.height, spec.processing.width), np.float32)
np.save(sys.argv[3], VisionTower(Path(sys.argv[1]), spec, 1).encode([tile]).features)
"""


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("qemu-x86_64") is None, reason="needs qemu-x86_64 (qemu-user)")
def test_full_range_weights_do_not_saturate_on_a_cpu_without_vnni(
    tiny_bundle: Path, spec: VisionSpec, tmp_path: Path
) -> None:
    """Towers of transformers.js in int8 are of that kind; 16 bits hold half of these sums."""
    graph, made = tmp_path / "vision.onnx", tmp_path / "features.npy"
    expected = write_full_range(graph, spec)
    child = [sys.executable, "-c", FULL_RANGE, graph, tiny_bundle / "bundle.json", made]
    subprocess.run(
        ["qemu-x86_64", "-cpu", "Haswell", *map(str, child)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=True,
    )
    assert np.allclose(np.load(made), expected, rtol=1e-5)
