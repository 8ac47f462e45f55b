"""Tiles of many sizes, as LFM2-VL cuts pictures."""

import hashlib
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tiny.sizes import REFERENCE, sized_spec

from edge_et.bundle import Processing, VisionSpec, WholeSize
from edge_et.errors import OptionError
from edge_et.image import ImagePlan, TileFeatures, choose_grid, plan_image, split_tiles
from edge_et.image.grids import whole_size
from edge_et.image.packing import pack

SMALL = sized_spec(REFERENCE["small"]["settings"])


def text_of(spec: VisionSpec, plan: ImagePlan) -> str:
    """Return what stands for a picture in a prompt of transformers."""
    assert spec.markup is not None
    tiles = [spec.image_tokens_per_tile] * (plan.tiles - 1) + [plan.whole_tokens or 0]
    first, *behind = [[spec.markup.tokens[row] for row in rows] for rows in plan.markup]
    shown = zip(tiles, behind, strict=True)
    return "".join([*first, *("<image>" * count + "".join(marks) for count, marks in shown)])


@pytest.mark.parametrize("reference", REFERENCE.values(), ids=REFERENCE)
def test_400_sizes_are_cut_and_marked_as_by_the_reference(reference: dict[str, Any]) -> None:
    spec = sized_spec(reference["settings"])
    rule = spec.processing.whole_size
    assert rule is not None
    pictures = reference["pictures"]
    thin = [row for row in pictures if max(row[4:6]) > rule.max_tokens * rule.block]
    assert len(pictures) - len(thin) >= 400
    for row in pictures:
        (width, height, columns, rows), shown, digest = row[:4], tuple(row[4:6]), row[6]
        plan = plan_image(spec, (width, height))
        assert plan.grid == (None if columns * rows == 1 else (columns, rows)), row
        found = whole_size((width, height), spec.processing)
        if row in thin:
            # The reference knows no bound: 4000 x 1 pixels are shown as one row of 125 tokens, and
            # 4000000 x 1 as one of 125000.
            assert found == tuple(min(side, rule.max_tokens * rule.block) for side in shown)
        else:
            assert found == shown, row
            text = text_of(spec, plan)
            assert hashlib.sha256(text.encode()).hexdigest()[:16] == digest, row
            assert text.count("<image>") + sum(map(len, plan.markup)) == plan.image_tokens


@pytest.mark.parametrize("reference", REFERENCE.values(), ids=REFERENCE)
def test_no_picture_has_more_tokens_than_are_told(reference: dict[str, Any]) -> None:
    spec = sized_spec(reference["settings"])
    rule = spec.processing.whole_size
    assert rule is not None
    sides = [1, 2, 3, 7, 15, 16, 17, 31, 33, 48, 250, 511, 513, 1000, 4097, 100_000]
    for size in [(width, height) for width in sides for height in sides]:
        width, height = whole_size(size, spec.processing)
        assert width % rule.block == height % rule.block == 0
        assert 0 < width * height <= rule.most_tokens * rule.block**2
        assert width * height <= spec.processing.most_tile_pixels


def test_fewer_tiles_on_demand() -> None:
    size = (1000, 600)
    assert choose_grid(size, SMALL.processing, None) == (3, 2)
    assert choose_grid(size, SMALL.processing, 5) == (2, 1)
    assert choose_grid(size, SMALL.processing, 2) is None
    assert whole_size(size, SMALL.processing) == (40, 24)


def test_tiles_show_the_picture() -> None:
    values = np.random.default_rng(5).integers(0, 256, (60, 100, 3), np.uint8)
    image = Image.fromarray(values)
    grid = choose_grid(image.size, SMALL.processing, None)
    assert grid == (3, 2)
    *tiles, whole = split_tiles(image, SMALL.processing, grid)
    resized = image.resize((96, 64), Image.Resampling.BILINEAR)
    pieces = [
        resized.crop((32 * x, 32 * y, 32 * x + 32, 32 * y + 32)) for y in (0, 1) for x in (0, 1, 2)
    ]
    assert [np.asarray(tile).tolist() for tile in tiles] == [
        np.asarray(piece).tolist() for piece in pieces
    ]
    assert whole == image.resize((40, 24), Image.Resampling.BILINEAR)
    (alone,) = split_tiles(image.resize((25, 17)), SMALL.processing, None)
    assert alone.size == (24, 16)


def test_marks_stand_around_tiles_of_two_sizes() -> None:
    plan = plan_image(SMALL, (100, 60))
    features = [np.full((16, 4), tile, np.float32) for tile in range(6)]
    features.append(np.full((15, 4), 6, np.float32))
    assert SMALL.markup is not None
    marks = np.repeat(100 + np.arange(len(SMALL.markup.tokens), dtype=np.float32), 4).reshape(-1, 4)
    packed = pack(TileFeatures(tuple(features), markup=marks), plan)
    assert packed.shape == (plan.image_tokens, 4)
    places = [
        100 + SMALL.markup.tokens.index(f"<|img_row_{row}_col_{column}|>")
        for row in (1, 2)
        for column in (1, 2, 3)
    ]
    expected = [100.0]
    for tile, place in enumerate(places):
        expected += [place, *[tile] * 16]
    assert packed[:, 0].tolist() == [*expected, 102, *[6] * 15, 101]
    alone = plan_image(SMALL, (25, 17))
    packed = pack(TileFeatures((np.zeros((6, 4), np.float32),), markup=marks), alone)
    assert packed[:, 0].tolist() == [100, *[0] * 6, 101]


def test_rules_of_one_size_show_small_pictures_on_a_grid_too() -> None:
    rules = SMALL.processing.of_one_size
    assert choose_grid((25, 17), SMALL.processing, None) is None
    grid = choose_grid((25, 17), rules, None)
    assert grid == (3, 2)
    tiles = split_tiles(Image.new("RGB", (25, 17)), rules, grid)
    assert [tile.size for tile in tiles] == [(32, 32)] * 7
    assert rules.of_one_size is rules


def test_a_side_of_no_block_may_make_a_picture_small() -> None:
    """3 pixels are nearer to no block than to one."""
    shown = []
    for least in (0, 1):
        rule = WholeSize(block=8, min_tokens=9, max_tokens=64, least_blocks=least)
        processing = Processing(
            height=32,
            width=32,
            mean=(0.5, 0.5, 0.5),
            std=(0.5, 0.5, 0.5),
            rescale=1 / 255,
            resample="bicubic",
            fit="squash",
            whole_size=rule,
        )
        shown.append(whole_size((100, 3), processing))
        assert whole_size((100, 5), processing) == (96, 8)
    assert shown == [(144, 8), (96, 8)]


def test_they_are_not_pooled() -> None:
    with pytest.raises(OptionError, match="many sizes"):
        plan_image(SMALL, (100, 60), pooling=2)
