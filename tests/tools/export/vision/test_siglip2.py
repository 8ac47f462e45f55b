"""SigLIP 2 for tiles of many sizes, held to what torch and transformers compute."""

import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tiny.lfm2_vl import BLOCK, SETTINGS, TILE, WIDTH, reference_tokens, write_lfm2_vl
from tiny.sizes import sized_spec
from tiny.vlm import edit_config, edit_tensors

from edge_et.export.checkpoint.checkpoint_folder import open_tensors
from edge_et.export.errors import (
    LeftoverTensorError,
    MissingTensorError,
    TensorShapeError,
    UnreadableCheckpointError,
    UnsupportedModelError,
    VocabularyError,
)
from edge_et.export.families.vlm_layout import VisionPart, take_part
from edge_et.export.families.vlm_lfm2 import Lfm2Vl
from edge_et.export.vision.export_tower import MAX_TOKEN_ERROR, export_tower
from edge_et.export.vision.siglip2 import resize_weights
from edge_et.export.vision.torch_tower import TowerWithProjector
from edge_et.export.vision.vlm_tower import check_tower, load_tower_part, new_projector
from edge_et.image import VisionTower

EMBEDDINGS = "model.language_model.embed_tokens.weight"


def read(folder: Path) -> VisionPart:
    path = folder / "config.json"
    content = json.loads(path.read_text())
    vision = Lfm2Vl().vision(content, path, None, None)
    table = Lfm2Vl().parts(content, path)
    check_tower(vision, take_part(open_tensors(folder), table, "tower"), folder)
    return vision


def load(folder: Path) -> TowerWithProjector:
    vision, tensors = read(folder), open_tensors(folder)
    table = Lfm2Vl().parts({}, folder)
    backbone = load_tower_part(vision, take_part(tensors, table, "tower"))
    projector = new_projector(vision, WIDTH)
    take_part(tensors, table, "projector").fill(projector)
    assert vision.markup is not None
    markup = torch.from_numpy(tensors.read(EMBEDDINGS)[list(vision.markup.ids)])
    return TowerWithProjector(backbone, projector, markup=markup).eval()


def tiles() -> list[NDArray[np.float32]]:
    """Return tiles of a grid and of many sizes, among them thin ones and one that is larger."""
    random = np.random.default_rng(3)
    sizes = [(TILE, TILE), (TILE, TILE), (BLOCK, BLOCK), (24, 40), (40, 24), (BLOCK, 128), (64, 48)]
    return [random.standard_normal((3, *size), dtype=np.float32) for size in sizes]


@pytest.mark.parametrize("before", [1, 5, 16])
@pytest.mark.parametrize("after", [1, 2, 5, 11, 32, 64])
def test_positions_are_resized_as_by_torch(before: int, after: int) -> None:
    # One column alone would be resized wrongly by torch 2.13.
    values = torch.randn(1, 3, before, 4, generator=torch.Generator().manual_seed(before + after))
    expected = torch.nn.functional.interpolate(
        values, size=(after, 4), mode="bilinear", align_corners=False, antialias=True
    )
    weights = resize_weights(before, after)
    assert torch.allclose(weights.sum(1), torch.ones(after))
    assert torch.allclose(weights @ values[0, :, :, 0].T, expected[0, :, :, 0].T, atol=1e-5)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"projector_use_layernorm": False, "layer_norm_eps": 1e-3},
        {"projector_bias": False, "num_patches": 256, "hidden_act": "gelu"},
    ],
)
def test_image_tokens_of_both_generations(tmp_path: Path, settings: dict[str, Any]) -> None:
    folder = write_lfm2_vl(tmp_path / "checkpoint", **settings)
    tower = load(folder)
    for tile, expected in zip(tiles(), reference_tokens(folder, tiles()), strict=True):
        with torch.inference_mode():
            made, _ = tower(torch.from_numpy(tile[None]))
        assert made[0].shape == expected.shape
        assert np.abs(made[0].numpy() - expected).max() < MAX_TOKEN_ERROR
    older = load(write_lfm2_vl(tmp_path / "older", generation=4, **settings)).state_dict()
    assert all(torch.equal(value, older[name]) for name, value in tower.state_dict().items())


def test_image_tokens_of_the_runtime(tmp_path: Path) -> None:
    folder = write_lfm2_vl(tmp_path / "checkpoint")
    tower, vision = load(folder), read(folder)
    export_tower(tower, tmp_path / "vision.onnx")
    assert vision.markup is not None
    spec = msgspec.structs.replace(
        sized_spec(SETTINGS, WIDTH), processing=vision.processing, markup=vision.markup.spec
    )
    made = VisionTower(tmp_path / "vision.onnx", spec, 1).encode(tiles())
    for ours, theirs in zip(made.features, reference_tokens(folder, tiles()), strict=True):
        assert ours.shape == theirs.shape
        assert np.abs(ours - theirs).max() < MAX_TOKEN_ERROR
    assert made.markup is not None
    assert tower.markup is not None
    assert np.array_equal(made.markup, tower.markup.numpy())


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_lfm2_vl(tmp_path_factory.mktemp("lfm2") / "checkpoint")


@pytest.fixture
def folder(written: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "checkpoint"
    copy.mkdir()
    for file in written.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    return copy


def test_facts_for_the_manifest(folder: Path) -> None:
    """The rules are those that are compared with transformers on 417 sizes."""
    expected = sized_spec(SETTINGS)
    vision = read(folder)
    assert vision.processing == expected.processing
    assert vision.image_tokens_per_tile == expected.image_tokens_per_tile
    assert vision.markup is not None
    assert expected.markup is not None
    assert set(vision.markup.spec.tokens) == set(expected.markup.tokens)
    assert msgspec.structs.replace(vision.markup.spec, tokens=expected.markup.tokens) == (
        expected.markup
    )
    edit_config(folder, "preprocessor_config.json", do_image_splitting=False)
    alone = read(folder)
    assert alone.processing.tiling is None
    assert alone.markup is not None
    assert alone.markup.spec.tokens == ("<|image_start|>", "<|image_end|>")


def test_published_numbers(folder: Path) -> None:
    """What the defaults of transformers are is what tests compare with its processor."""
    content = json.loads((folder / "config.json").read_text())
    tower = content["vision_config"] | {"patch_size": 16}
    edit_config(folder, vision_config=tower)
    for name in SETTINGS:
        edit_config(folder, "preprocessor_config.json", **{name: None})
    path = folder / "config.json"
    vision = Lfm2Vl().vision(json.loads(path.read_text()), path, None, None)
    assert vision.processing == sized_spec({}).processing
    assert vision.image_tokens_per_tile == 256


@pytest.mark.parametrize(
    ("file", "changes", "match"),
    [
        ("config.json", {"downsample_factor": 4}, "downsample_factor 4; known: 2"),
        ("config.json", {"projector_hidden_act": "relu"}, "projector_hidden_act 'relu'"),
        ("preprocessor_config.json", {"image_processor_type": "X"}, "'X'; known: Lfm2VlImage"),
        ("preprocessor_config.json", {"do_normalize": False}, "rescaling or normalizing"),
        ("preprocessor_config.json", {"resample": 3}, "resample 3; known: 2, bilinear"),
        ("preprocessor_config.json", {"encoder_patch_size": 8}, "size 8, where the tower has 4"),
        ("preprocessor_config.json", {"downsample_factor": 1}, "downsample_factor 1"),
        ("preprocessor_config.json", {"tile_size": 36}, "tiles of 36 pixels.* no blocks of 8"),
        ("preprocessor_config.json", {"min_tiles": 1}, "grids of 1 to 6 tiles"),
        ("preprocessor_config.json", {"min_tiles": 7}, "grids of 7 to 6 tiles"),
        ("preprocessor_config.json", {"use_thumbnail": False}, "without the whole picture"),
        ("preprocessor_config.json", {"min_image_tokens": 17}, "17 image tokens at least, 16"),
        ("processor_config.json", {"use_image_special_tokens": False}, "special_tokens false"),
    ],
)
def test_settings_that_would_be_lost(
    folder: Path, file: str, changes: dict[str, Any], match: str
) -> None:
    edit_config(folder, file, **changes)
    with pytest.raises(UnsupportedModelError, match=match):
        read(folder)


@pytest.mark.parametrize(
    ("changes", "error", "match"),
    [
        ({"num_channels": 1}, UnsupportedModelError, "1 channels"),
        ({"num_patches": 24}, UnsupportedModelError, "num_patches 24"),
        ({"num_patches": 36}, TensorShapeError, "position_embedding"),
        ({"hidden_act": "nothing"}, UnreadableCheckpointError, "no SigLIP 2 tower"),
        ({"num_attention_heads": 5}, UnreadableCheckpointError, "no SigLIP 2 tower"),
        ({"num_hidden_layers": 1}, LeftoverTensorError, r"encoder\.layers\.1"),
        ({"num_hidden_layers": 3}, MissingTensorError, r"encoder\.layers\.2"),
        ({"num_hidden_layers": 10**6}, UnreadableCheckpointError, "num_hidden_layers"),
    ],
)
def test_settings_of_the_tower(
    folder: Path, changes: dict[str, Any], error: type[Exception], match: str
) -> None:
    content = json.loads((folder / "config.json").read_text())
    edit_config(folder, vision_config=content["vision_config"] | changes)
    with pytest.raises(error, match=match):
        read(folder)


def test_a_pooling_head_is_set_aside(folder: Path) -> None:
    expected = load(folder).state_dict()
    name = "model.vision_tower.head.probe"
    edit_tensors(folder, lambda tensors: tensors.update({name: torch.zeros(1, 1, 32)}))
    found = load(folder).state_dict()
    assert all(torch.equal(value, found[name]) for name, value in expected.items())


def test_a_tokenizer_without_a_mark(folder: Path) -> None:
    path = folder / "tokenizer.json"
    path.write_text(path.read_text().replace("<|img_row_2_col_3|>", "<|img_row_2_col_x|>"))
    with pytest.raises(VocabularyError, match=r"no token <\|img_row_2_col_3\|>"):
        read(folder)
    (folder / "tokenizer_config.json").write_text(json.dumps({"image_start_token": "<pic>"}))
    with pytest.raises(UnsupportedModelError, match="image_start_token '<pic>'"):
        read(folder)
