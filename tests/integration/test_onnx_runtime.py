"""The vision tower over real ONNX Runtime."""

from pathlib import Path

import msgspec
import numpy as np
import pytest
from tiny.tower import write_tower

from edge_et.bundle import VisionSpec, read_manifest
from edge_et.errors import ClosedError, ModelFileError, VisionRunError
from edge_et.vision import VisionTower

PIXELS = np.random.default_rng(0).normal(0, 1, (2, 3, 32, 32)).astype(np.float32)


@pytest.fixture(scope="module")
def spec(tiny_bundle: Path) -> VisionSpec:
    return read_manifest(tiny_bundle / "bundle.json").vision


def test_tiles_become_rows_in_order(tiny_bundle: Path, spec: VisionSpec) -> None:
    tower = VisionTower(tiny_bundle / "vision.onnx", spec, 2)
    rows = tower.encode(PIXELS)
    assert (rows.shape, rows.dtype, rows.flags.writeable) == ((32, 32), np.float32, False)
    assert np.array_equal(rows[16:], tower.encode(PIXELS[1:]))


def test_a_digest_names_pixels_and_graph(tiny_bundle: Path, spec: VisionSpec) -> None:
    tower = VisionTower(tiny_bundle / "vision.onnx", spec, 1)
    assert tower.digest(PIXELS) == tower.digest(PIXELS.copy())
    changed = PIXELS.copy()
    changed[1, 2, 31, 31] += 1e-6
    assert tower.digest(changed) != tower.digest(PIXELS)
    other = msgspec.structs.replace(
        spec, graph=msgspec.structs.replace(spec.graph, sha256="0" * 64)
    )
    assert VisionTower(tiny_bundle / "vision.onnx", other, 1).digest(PIXELS) != tower.digest(PIXELS)


def test_other_shapes_are_refused(tiny_bundle: Path, spec: VisionSpec) -> None:
    tower = VisionTower(tiny_bundle / "vision.onnx", spec, 1)
    for shape in ((3, 32, 32), (1, 3, 16, 32)):
        with pytest.raises(VisionRunError, match="expected"):
            tower.encode(np.zeros(shape, np.float32))
    with pytest.raises(VisionRunError, match="not finite"):
        tower.encode(np.full((1, 3, 32, 32), np.nan, np.float32))


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
