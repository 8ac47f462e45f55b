"""The tower of Qwen3.5 for tiles of many sizes, held to what torch and transformers compute."""

import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tiny.qwen35_vl import BLOCK, LEAST, MOST, WIDTH, Reference, write_qwen35_vl
from tiny.vlm import edit_config, edit_tensors
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

from edge_et.bundle import WholeSize
from edge_et.export.building.vlm_checkpoint import load_tower, read_vlm
from edge_et.export.errors import (
    LeftoverTensorError,
    MissingTensorError,
    TensorShapeError,
    UnreadableCheckpointError,
    UnsupportedModelError,
    VocabularyError,
)
from edge_et.export.families.vlm_qwen35 import MOST_IMAGE_TOKENS
from edge_et.export.vision.export_tower import MAX_TOKEN_ERROR
from edge_et.export.vision.qwen_vit import aligned_weights
from edge_et.image.grids import whole_size


def tiles(block: int = BLOCK) -> list[NDArray[np.float32]]:
    """Return tiles of many sizes, among them thin ones and one beyond the learned positions."""
    random = np.random.default_rng(3)
    sizes = [(4, 4), (1, 1), (3, 5), (5, 3), (1, 16), (8, 6)]
    return [
        random.standard_normal((3, rows * block, columns * block), dtype=np.float32)
        for rows, columns in sizes
    ]


@pytest.mark.parametrize("before", [1, 5, 48])
@pytest.mark.parametrize("after", [1, 2, 5, 11, 48, 64])
def test_positions_are_resized_as_by_torch(before: int, after: int) -> None:
    values = torch.randn(1, 3, before, 4, generator=torch.Generator().manual_seed(before + after))
    expected = torch.nn.functional.interpolate(
        values, size=(after, 4), mode="bilinear", align_corners=True
    )
    weights = aligned_weights(before, after)
    assert torch.allclose(weights.sum(1), torch.ones(after))
    assert torch.allclose(weights @ values[0, :, :, 0].T, expected[0, :, :, 0].T, atol=1e-5)


@pytest.mark.parametrize(
    "settings",
    [
        {"temporal_patch_size": 3, "spatial_merge_size": 3, "num_position_embeddings": 4},
        {"hidden_act": "gelu", "num_heads": 4, "depth": 1},
        {"rope_parameters": {"rope_type": "axial", "rope_theta": 50.0}, "patch_size": 6},
    ],
)
def test_image_tokens(tmp_path: Path, settings: dict[str, Any]) -> None:
    folder = write_qwen35_vl(tmp_path / "checkpoint", **settings)
    model, reference = read_vlm(folder), Reference(folder)
    tower = load_tower(model)
    size = model.vision.processing.whole_size
    assert size is not None
    for tile in tiles(size.block):
        expected = reference.image_tokens(tile)
        with torch.inference_mode():
            made = tower(torch.from_numpy(tile[None]))[0].numpy()
        assert made.shape == expected.shape == (tile[0].size // size.block**2, WIDTH)
        assert np.abs(made - expected).max() < MAX_TOKEN_ERROR


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_qwen35_vl(tmp_path_factory.mktemp("qwen35") / "checkpoint")


@pytest.fixture
def folder(written: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "checkpoint"
    copy.mkdir()
    for file in written.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    return copy


def edit_tower(folder: Path, **changes: Any) -> None:
    content = json.loads((folder / "config.json").read_text())
    edit_config(folder, vision_config=content["vision_config"] | changes)


def test_facts_for_the_manifest(folder: Path) -> None:
    vision = read_vlm(folder).vision
    assert (vision.arrangement, vision.places, vision.markup) == ("flat", "grid", None)
    assert (vision.processing.resample, vision.processing.fit) == ("bicubic", "squash")
    assert vision.processing.whole_size == WholeSize(
        block=BLOCK, min_tokens=LEAST, max_tokens=MOST, least_blocks=0
    )
    assert vision.image_tokens_per_tile == 16
    edit_config(
        folder,
        "preprocessor_config.json",
        min_pixels=BLOCK**2,
        max_pixels=2 * MOST_IMAGE_TOKENS * BLOCK**2,
    )
    assert read_vlm(folder).vision.processing.whole_size == WholeSize(
        block=BLOCK, min_tokens=1, max_tokens=MOST_IMAGE_TOKENS, least_blocks=0
    )


def test_sizes_by_the_published_numbers(folder: Path) -> None:
    """A processor of which no more image tokens are wanted makes pictures of the same sizes."""
    published = {"shortest_edge": 65_536, "longest_edge": 16_777_216}
    edit_config(folder, "preprocessor_config.json", size=published)
    processing = read_vlm(folder).vision.processing
    rule = WholeSize(block=32, min_tokens=64, max_tokens=MOST_IMAGE_TOKENS, least_blocks=0)
    processing = msgspec.structs.replace(processing, height=512, width=512, whole_size=rule)
    random = np.random.default_rng(4)
    drawn = [
        *random.integers(1, 5000, (300, 2)).tolist(),
        *random.integers(1, 300, (150, 2)).tolist(),
        *([side, 190 * side - 1] for side in range(1, 40)),
        *([side, 16 * side] for side in range(1, 200)),
        *([160 + away, 1600 + away] for away in range(-17, 18)),
    ]
    checked = 0
    for width, height in [*drawn, *(pair[::-1] for pair in drawn)]:
        if max(width, height) > 200 * min(width, height):
            continue
        expected = smart_resize(height, width, 32, 65_536, MOST_IMAGE_TOKENS * 32**2)
        assert whole_size((width, height), processing) == expected[::-1], (width, height)
        checked += 1
    assert checked > 1000


@pytest.mark.parametrize(
    ("changes", "error", "match"),
    [
        ({"in_channels": 1}, UnsupportedModelError, "1 channels"),
        ({"deepstack_visual_indexes": [1]}, UnsupportedModelError, r"deepstack_visual_indexes \[1"),
        ({"hidden_act": "relu"}, UnsupportedModelError, "hidden_act 'relu'; known: gelu_pytorch"),
        ({"num_position_embeddings": 35}, UnsupportedModelError, "embeddings 35, which is no squ"),
        ({"num_position_embeddings": 25}, TensorShapeError, "pos_embed"),
        ({"num_heads": 3}, UnsupportedModelError, "3 heads in 32 channels"),
        ({"num_heads": 16}, UnsupportedModelError, "16 heads in 32 channels"),
        ({"patch_size": [4, 8]}, UnsupportedModelError, r"patch_size \[4, 8\]"),
        ({"temporal_patch_size": []}, UnsupportedModelError, r"temporal_patch_size \[\]"),
        ({"rope_parameters": {"rope_type": "other"}}, UnsupportedModelError, "rope of type 'other"),
        ({"depth": 1}, LeftoverTensorError, r"blocks\.1"),
        ({"depth": 3}, MissingTensorError, r"blocks\.2"),
        ({"depth": 10**6}, UnreadableCheckpointError, "depth"),
        ({"intermediate_size": 40}, TensorShapeError, "linear_fc1"),
        ({"temporal_patch_size": 1}, UnsupportedModelError, "size 2, where the tower has 1"),
    ],
)
def test_settings_of_the_tower(
    folder: Path, changes: dict[str, Any], error: type[Exception], match: str
) -> None:
    edit_tower(folder, **changes)
    with pytest.raises(error, match=match):
        read_vlm(folder)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"image_processor_type": "X"}, "'X'; known: Qwen2VLImageProcessor, "),
        ({"do_resize": False}, "leaving out resizing"),
        ({"do_normalize": False}, "rescaling or normalizing"),
        ({"resample": 2}, "resample 2; known: 3, bicubic"),
        ({"patch_size": 8}, "patch_size 8, where the tower has 4"),
        ({"merge_size": 1}, "merge_size 1, where the tower has 2"),
        ({"min_pixels": 100}, "100 to 1536 pixels.* whole blocks of 8 x 8"),
        ({"max_pixels": 64}, "256 to 64 pixels"),
        ({"size": {"shortest_edge": 64, "longest_edge": 65}}, "64 to 65 pixels"),
    ],
)
def test_settings_of_the_processor(folder: Path, changes: dict[str, Any], match: str) -> None:
    edit_config(folder, "preprocessor_config.json", **changes)
    with pytest.raises(UnsupportedModelError, match=match):
        read_vlm(folder)


def test_tensors_are_all_there_and_finite(folder: Path) -> None:
    name = "model.visual.merger.norm.weight"
    edit_tensors(folder, lambda tensors: tensors.update({"model.other": torch.zeros(2)}))
    with pytest.raises(LeftoverTensorError, match=r"model\.other"):
        read_vlm(folder)
    edit_tensors(folder, lambda tensors: tensors.pop("model.other"))
    edit_tensors(folder, lambda tensors: tensors.update({"mtp.norm.weight": torch.zeros(2)}))
    read_vlm(folder)
    edit_tensors(folder, lambda tensors: tensors.pop(name))
    with pytest.raises(MissingTensorError, match=r"norm\.weight"):
        read_vlm(folder)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("<|image_pad|>", "<|picture|>"),
        ("<|im_start|>assistant\n", "<|im_start|>model\n"),
        ("message.role + '\n'", "message.role + ' '"),
        ("{%- for message in messages %}", "Hello{%- for message in messages %}"),
    ],
)
def test_a_template_of_another_kind(folder: Path, old: str, new: str) -> None:
    path = folder / "chat_template.jinja"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(VocabularyError, match="is not understood"):
        read_vlm(folder)


def test_tokens_of_other_names(folder: Path) -> None:
    edit_config(folder, "tokenizer_config.json", image_token="<pic>")
    with pytest.raises(UnsupportedModelError, match="image_token '<pic>'"):
        read_vlm(folder)
