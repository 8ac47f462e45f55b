"""Tiles, packing and interpolation against torch and the image processor of transformers."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny.anyres import LLAVA, edited
from transformers import LlavaOnevisionImageProcessor
from transformers.models.llava_onevision.modeling_llava_onevision import LlavaOnevisionModel

from edge_et.image import TileFeatures, plan_image, split_tiles, to_pixel_values
from edge_et.image.packing import pack

# The image processor takes pictures of one or three rows for channels; there are none here.
SIZES = [
    *((96, 70), (385, 384), (1200, 800), (333, 1999), (1920, 1080), (2311, 1093), (3000, 3000)),
    *((2, 2), (2, 700), (900, 20)),
    *map(tuple, np.random.default_rng(11).integers(20, 1500, (20, 2)).tolist()),
]


def pinpoints(side: int) -> list[list[int]]:
    assert LLAVA.processing.tiling is not None
    return [[rows * side, columns * side] for columns, rows in LLAVA.processing.tiling.grids]


@pytest.mark.parametrize("size", SIZES[:14], ids=str)
def test_pixel_values_are_those_of_the_slow_image_processor(size: tuple[int, int]) -> None:
    values = np.random.default_rng(2).integers(0, 256, (size[1], size[0], 3), np.uint8)
    image = Image.fromarray(values)
    processor = LlavaOnevisionImageProcessor(
        size={"height": 384, "width": 384},
        image_grid_pinpoints=pinpoints(384),
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
    )
    expected = processor(image, return_tensors="np")["pixel_values"][0]
    plan = plan_image(LLAVA, image.size)
    tiles = split_tiles(image, LLAVA.processing, plan.grid)
    found = np.stack([to_pixel_values(tile, LLAVA.processing) for tile in tiles])
    assert found.shape == expected.shape
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_packed_tokens_are_those_of_transformers(size: tuple[int, int]) -> None:
    """With tiles of 27 x 27 tokens, 4 wide: unpadded, interpolated, newlines put in."""
    width, height = size
    plan = plan_image(edited(LLAVA, embedding_width=4), (width, height))
    random = np.random.default_rng(3)
    features = random.normal(0, 1, (plan.tiles, 729, 4)).astype(np.float32)
    newline = random.normal(0, 1, 4).astype(np.float32)
    config = SimpleNamespace(
        vision_config=SimpleNamespace(image_size=384, patch_size=14),
        image_grid_pinpoints=pinpoints(384),
    )
    model: Any = SimpleNamespace(config=config)
    expected, _ = LlavaOnevisionModel.pack_image_features(
        model,
        [torch.from_numpy(features)],
        torch.tensor([[height, width]]),
        image_newline=torch.from_numpy(newline),
        vision_aspect_ratio="anyres_max_9",
    )
    found = pack(TileFeatures(tuple(features), newline), plan)
    assert found.shape == tuple(expected[0].shape)
    assert np.abs(found - expected[0].numpy()).max() < 1e-5


@pytest.mark.parametrize("shape", [(162, 54), (81, 108), (30, 31), (1, 200)])
def test_interpolation_is_that_of_torch(shape: tuple[int, int]) -> None:
    """Of maps of every shape, bilinear with corners that are not aligned, without antialiasing."""
    from edge_et.image.packing import _interpolated

    joined = np.random.default_rng(4).normal(0, 1, (*shape, 8)).astype(np.float32)
    for divisor in (1.11, 1.5, 2.0, 2.9):
        size = max(int(shape[0] // divisor), 1), max(int(shape[1] // divisor), 1)
        expected = torch.nn.functional.interpolate(
            torch.from_numpy(joined).permute(2, 0, 1)[None], size, mode="bilinear"
        )[0].permute(1, 2, 0)
        assert np.abs(_interpolated(joined, size) - expected.numpy()).max() < 1e-5
