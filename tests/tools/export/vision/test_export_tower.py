import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_ir
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    Dinov2Model,
    SiglipConfig,
    SiglipModel,
    SiglipVisionModel,
)

from edge_et.export.errors import (
    GraphError,
    LeftoverTensorError,
    MissingTensorError,
    ParityError,
    TensorShapeError,
    TensorValueError,
    UnreadableCheckpointError,
    UnsupportedModelError,
)
from edge_et.export.vision.export_tower import MAX_TOKEN_ERROR, export_tower, export_vision
from edge_et.export.vision.onnx_graph import open_session, run_graph, run_outputs
from edge_et.export.vision.projector import MlpProjector, PixelShuffleProjector
from edge_et.export.vision.projector_files import load_projector, save_projector
from edge_et.export.vision.torch_tower import Dinov2Patches, TowerWithProjector, load_backbone


def pixels(tiles: int, size: int) -> torch.Tensor:
    return torch.randn(tiles, 3, size, size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("size", [84, 56])
def test_dinov2_features_are_those_of_transformers(dinov2_folder: Path, size: int) -> None:
    reference = Dinov2Model.from_pretrained(dinov2_folder).eval()
    with torch.inference_mode():
        expected = reference(pixels(2, size)).last_hidden_state[:, 1:]
        actual = load_backbone(dinov2_folder, size)(pixels(2, size))
    assert torch.allclose(actual, expected, rtol=0, atol=1e-6)


def test_early_features_stand_behind_the_last_ones(dinov2_folder: Path, tmp_path: Path) -> None:
    reference = Dinov2Model.from_pretrained(dinov2_folder).eval()
    backbone = Dinov2Patches(reference, 84, early_layer=1)
    with torch.inference_mode():
        output = reference(pixels(2, 84), output_hidden_states=True)
        actual = backbone(pixels(2, 84))
    early = torch.nn.functional.layer_norm(output.hidden_states[1], (32,))[:, 1:]
    expected = torch.cat([output.last_hidden_state[:, 1:], early], dim=-1)
    assert backbone.width == 64
    assert torch.allclose(actual, expected, rtol=0, atol=1e-5)
    projector = PixelShuffleProjector(64, 2, 16, 24, places=9)
    torch.nn.init.normal_(projector.place_codes)
    report = export_tower(TowerWithProjector(backbone, projector), tmp_path / "vision.onnx")
    assert report.error is not None
    assert report.error < MAX_TOKEN_ERROR


@pytest.mark.parametrize("layer", [None, -1, -2])
def test_siglip_features_are_those_of_transformers(siglip_folder: Path, layer: int | None) -> None:
    reference = SiglipVisionModel.from_pretrained(siglip_folder).eval()
    with torch.inference_mode():
        output = reference(pixels(2, 60), output_hidden_states=True)
        actual = load_backbone(siglip_folder, feature_layer=layer)(pixels(2, 60))
    expected = output.last_hidden_state if layer is None else output.hidden_states[layer]
    assert actual.shape == (2, 16, 32)
    assert torch.allclose(actual, expected, rtol=0, atol=1e-6)


def test_the_vision_half_of_a_whole_siglip(siglip_folder: Path, tmp_path: Path) -> None:
    vision = SiglipVisionModel.from_pretrained(siglip_folder)
    text = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 9}
    whole = SiglipModel(SiglipConfig(text_config=text, vision_config=vision.config.to_dict()))
    whole.vision_model.load_state_dict(vision.state_dict())
    whole.save_pretrained(tmp_path)
    with torch.inference_mode():
        expected = load_backbone(siglip_folder)(pixels(1, 60))
        assert torch.equal(load_backbone(tmp_path)(pixels(1, 60)), expected)


def test_dinov2_graph(dinov2_folder: Path, projector_folder: Path, vision_graph: Path) -> None:
    check_graph(vision_graph, dinov2_folder, projector_folder, 56)


def test_siglip_graph_and_report(
    siglip_folder: Path, projector_folder: Path, tmp_path: Path
) -> None:
    steps: list[str] = []
    report = export_vision(
        siglip_folder,
        projector_folder,
        tmp_path / "vision.onnx",
        progress=lambda what, done, total: steps.append(what),
    )
    assert report.error is not None
    assert report.error < MAX_TOKEN_ERROR
    assert report.size_bytes == report.path.stat().st_size
    assert steps[-1] == "compare with torch"
    check_graph(report.path, siglip_folder, projector_folder, 60)


def check_graph(graph: Path, backbone: Path, projector_folder: Path, size: int) -> None:
    tower = load_backbone(backbone, size)
    projector = load_projector(projector_folder)
    session = open_session(graph)
    assert session.get_outputs()[0].shape == ["N", 4, 64]
    for tiles in (1, 2, 5):
        with torch.inference_mode():
            expected = projector(tower(pixels(tiles, size))).numpy()
        tokens = run_graph(session, pixels(tiles, size).numpy())
        assert np.abs(tokens - expected).max() < MAX_TOKEN_ERROR


def test_the_same_input_gives_the_same_bytes_without_traces(
    dinov2_folder: Path, projector_folder: Path, vision_graph: Path, tmp_path: Path
) -> None:
    again = export_vision(
        dinov2_folder, projector_folder, tmp_path / "again.onnx", image_size=56
    ).path.read_bytes()
    assert again == vision_graph.read_bytes()
    assert b".py" not in again


def test_weights_beyond_the_limit_lie_beside_the_graph(
    dinov2_folder: Path,
    projector_folder: Path,
    vision_graph: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("edge_et.export.vision.onnx_writer.MAX_WEIGHTS_BYTES", 1000)
    out = tmp_path / "vision.onnx"
    report = export_vision(dinov2_folder, projector_folder, out, image_size=56)
    data = tmp_path / "vision.onnx.data"
    assert sorted(tmp_path.iterdir()) == [out, data]
    assert report.size_bytes == out.stat().st_size + data.stat().st_size
    pixel_values = pixels(2, 56).numpy()
    expected = run_graph(open_session(vision_graph), pixel_values)
    assert np.array_equal(run_graph(open_session(out), pixel_values), expected)


def test_a_newline_is_an_output_of_its_own(siglip_folder: Path, tmp_path: Path) -> None:
    newline = torch.arange(24, dtype=torch.float32)
    tower = TowerWithProjector(
        load_backbone(siglip_folder, feature_layer=-1), MlpProjector(32, 24), newline
    )
    out = export_tower(tower, tmp_path / "vision.onnx").path
    onnx.checker.check_model(out, full_check=True)
    session = open_session(out)
    assert [port.shape for port in session.get_outputs()] == [["N", 16, 24], [24]]
    for tiles in (1, 4):
        outputs = run_outputs(session, pixels(tiles, 60).numpy())
        assert np.array_equal(outputs["image_newline"], newline.numpy())
        with torch.inference_mode():
            expected, _ = tower.eval()(pixels(tiles, 60))
        assert np.abs(outputs["image_tokens"] - expected.numpy()).max() < MAX_TOKEN_ERROR


def test_marks_are_an_output_of_their_own(siglip_folder: Path, tmp_path: Path) -> None:
    markup = torch.randn(3, 24, generator=torch.Generator().manual_seed(2))
    projector = MlpProjector(32, 24, layers=1, bias=False, factor=2)
    tower = TowerWithProjector(load_backbone(siglip_folder), projector, markup=markup)
    session = open_session(export_tower(tower, tmp_path / "vision.onnx").path)
    assert [port.shape for port in session.get_outputs()] == [["N", 4, 24], [3, 24]]
    outputs = run_outputs(session, pixels(2, 60).numpy())
    assert np.array_equal(outputs["image_markup"], markup.numpy())


def test_nodes_carry_the_names_of_their_modules(vision_graph: Path) -> None:
    names = [node.name for node in onnx.load(vision_graph).graph.node if node.op_type == "Gelu"]
    assert [name.rpartition("/")[0] for name in names] == [
        "backbone.layers.0.mlp.activation_fn",
        "backbone.layers.1.mlp.activation_fn",
        "projector.activation",
    ]


@pytest.fixture
def export_copy(dinov2_folder: Path, projector_folder: Path, tmp_path: Path) -> Callable[..., None]:
    """Export a copy of the small DINOv2 after a change, and expect to be refused."""

    def export(
        error: type[Exception],
        match: str,
        edit: Callable[[Path], None] = lambda folder: None,
        projector: Path = projector_folder,
        size: int = 56,
        layer: int | None = None,
    ) -> None:
        folder, out = tmp_path / "copy", tmp_path / "out" / "vision.onnx"
        shutil.copytree(dinov2_folder, folder)
        edit(folder)
        with pytest.raises(error, match=match):
            export_vision(folder, projector, out, image_size=size, feature_layer=layer)
        assert not out.parent.exists() or list(out.parent.iterdir()) == []

    return export


def config_with(**changes: object) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return edit


def tensors_with(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        tensors = load_file(folder / "model.safetensors")
        change(tensors)
        save_file(tensors, folder / "model.safetensors")

    return edit


@pytest.mark.parametrize(
    ("error", "match", "edit"),
    [
        (UnsupportedModelError, "known: Dinov2Model", config_with(architectures=["ViTModel"])),
        (UnsupportedModelError, "known: Dinov2Model", config_with(architectures=None)),
        (UnreadableCheckpointError, "no such model", config_with(hidden_size="wide")),
        (UnreadableCheckpointError, "no such model", config_with(num_attention_heads=0)),
        (TensorShapeError, "position_embeddings", config_with(patch_size=7)),
        (LeftoverTensorError, "extra", tensors_with(lambda t: t.update(extra=torch.zeros(1)))),
        (MissingTensorError, "cls_token", tensors_with(lambda t: t.pop("embeddings.cls_token"))),
        (
            TensorValueError,
            r"layernorm\.bias holds NaN",
            tensors_with(lambda t: t["layernorm.bias"].fill_(torch.nan)),
        ),
    ],
)
def test_backbones_that_do_not_fit_are_refused(
    export_copy: Callable[..., None],
    error: type[Exception],
    match: str,
    edit: Callable[[Path], None],
) -> None:
    export_copy(error, match, edit)


def test_tiles_and_layers_that_do_not_fit_are_refused(export_copy: Callable[..., None]) -> None:
    export_copy(UnsupportedModelError, "tiles of 42 pixels: blocks of 2 x 2", size=42)


def test_a_layer_that_does_not_exist_is_refused(export_copy: Callable[..., None]) -> None:
    export_copy(UnsupportedModelError, "feature layer -3: expected -2 to -1", layer=-3)


def test_a_projector_of_another_width_is_refused(
    export_copy: Callable[..., None], tmp_path: Path
) -> None:
    save_projector(PixelShuffleProjector(48, 2, 8, 8), tmp_path / "other")
    export_copy(
        UnsupportedModelError, "32 wide, the projector takes 48", projector=tmp_path / "other"
    )


def test_a_graph_that_differs_is_removed(
    export_copy: Callable[..., None], vision_graph: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_another(path: Path, model: onnx_ir.Model) -> None:
        graph = onnx.load(vision_graph)
        for weights in graph.graph.initializer:
            if weights.name == "projector.project.bias":
                weights.raw_data = np.full(64, 0.5, np.float32).tobytes()
        onnx.save(graph, path)

    monkeypatch.setattr("edge_et.export.vision.export_tower.write_model", write_another)
    export_copy(ParityError, "nothing was written")


def test_other_graphs_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.onnx"
    path.write_bytes(b"garbage")
    with pytest.raises(GraphError, match="cannot be opened"):
        open_session(path)
    value = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["N", 4])
    result = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["N", 4])
    node = onnx.helper.make_node("Relu", ["x"], ["y"])
    graph = onnx.helper.make_graph([node], "other", [value], [result])
    onnx.save(
        onnx.helper.make_model(
            graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10
        ),
        path,
    )
    with pytest.raises(GraphError, match="expected pixel_values"):
        open_session(path)
