import random
from typing import Any

import msgspec
import numpy as np
import pytest
from PIL import Image
from tiny.anyres import LLAVA, golden, golden_image
from tiny.bundle import PROCESSING

from edge_et.bundle import Processing, Tiling
from edge_et.image import choose_grid, load_image, split_tiles, to_pixel_values

TILED = LLAVA.processing


def picture(width: int, height: int) -> Image.Image:
    values = np.random.default_rng(5).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(values)


def changed(**changes: Any) -> Processing:
    return msgspec.structs.replace(PROCESSING, **changes)


@pytest.mark.parametrize("name", ["tiny", "wide"])
def test_tiles_are_those_of_the_reference_bit_for_bit(name: str) -> None:
    reference, image = golden(name), golden_image(name)
    assert image.size == tuple(reference["image_size_wh"])
    grid = choose_grid(image.size, TILED, None)
    assert grid == tuple(reference["grid_wh"])
    tiles = split_tiles(image, TILED, grid)
    pixels = np.stack([np.asarray(tile).transpose(2, 0, 1) for tile in tiles])
    assert np.array_equal(pixels, reference["pixel_u8"])
    values = np.stack([to_pixel_values(tile, TILED) for tile in tiles])
    assert np.array_equal(values[:, :, :2], reference["pixel_first_rows"])


def test_400_sizes_get_the_grid_of_the_reference() -> None:
    rows = golden("pack_cases")["rows"]
    assert len(rows) == 400
    for width, height, columns, rows_of_tiles, *_ in rows.tolist():
        assert choose_grid((width, height), TILED, None) == (columns, rows_of_tiles)


def test_of_equally_good_grids_the_first_wins() -> None:
    def chosen(*grids: tuple[int, int]) -> Any:
        tiling = Tiling(grids=grids)
        return choose_grid((32, 32), changed(tiling=tiling), None)

    assert chosen((1, 2), (2, 1)) == (1, 2)
    assert chosen((2, 1), (1, 2)) == (2, 1)
    assert chosen((2, 1), (1, 1)) == (1, 1)  # the same pixels on less border


def test_there_are_never_more_tiles_than_asked() -> None:
    generator = random.Random(7)
    sizes = [(generator.randint(1, 5000), generator.randint(1, 5000)) for _ in range(60)]
    for size in [*sizes, (1, 1), (1, 4000), (4000, 1), (384, 385), (7, 5000)]:
        unbounded = choose_grid(size, TILED, None)
        assert unbounded is not None
        for most in range(1, 40):
            grid = choose_grid(size, TILED, most)
            tiles = 1 if grid is None else grid[0] * grid[1] + 1
            assert tiles <= most
            assert (grid is None) == (most == 1)
            if unbounded[0] * unbounded[1] + 1 <= most:
                assert grid == unbounded


def test_without_tiling_there_is_one_tile() -> None:
    assert choose_grid((640, 480), PROCESSING, None) is None
    assert choose_grid((640, 480), PROCESSING, 9) is None


def test_the_grid_follows_the_whole_picture_row_by_row() -> None:
    processing = changed(tiling=Tiling(grids=((2, 3),)))
    image = picture(64, 96)  # fills 2 x 3 tiles of 32 pixels as it is
    tiles = split_tiles(image, processing, (2, 3))
    assert np.array_equal(
        np.asarray(tiles[0]), np.asarray(image.resize((32, 32), Image.Resampling.BICUBIC))
    )
    values = np.asarray(image)
    for number, tile in enumerate(tiles[1:]):
        row, column = divmod(number, 2)
        part = values[row * 32 : row * 32 + 32, column * 32 : column * 32 + 32]
        assert np.array_equal(np.asarray(tile), part)
    assert len(tiles) == 7


def test_the_canvas_around_the_picture_has_its_colour() -> None:
    processing = changed(tiling=Tiling(grids=((2, 1),)), pad_color=(1, 2, 3))
    _, left, right = split_tiles(Image.new("RGB", (32, 33), "white"), processing, (2, 1))
    joined = np.concatenate([np.asarray(left), np.asarray(right)], axis=1)
    # 32 x 33 pixels scaled to a height of 32 are ceil(31.03) wide; floor((64 - 32) / 2) to the left
    assert joined[:, :16].reshape(-1, 3).tolist() == [[1, 2, 3]] * 16 * 32
    assert joined[:, 16:48].min() == 255
    assert joined[:, 48:].reshape(-1, 3).tolist() == [[1, 2, 3]] * 16 * 32


@pytest.mark.parametrize("size", [(1, 1), (1, 4000), (4000, 1), (3, 2), (2000, 3)])
@pytest.mark.parametrize("most", [None, 1, 4])
def test_tiny_and_narrow_pictures_become_tiles(size: tuple[int, int], most: int | None) -> None:
    grid = choose_grid(size, TILED, most)
    tiles = split_tiles(Image.new("RGB", size, (9, 9, 9)), TILED, grid)
    assert len(tiles) == (1 if grid is None else grid[0] * grid[1] + 1)
    assert {tile.size for tile in tiles} == {(384, 384)}
    assert {pixel for _, pixel in tiles[0].getcolors(9) or ()} == {(9, 9, 9)}


@pytest.mark.parametrize("size", [(1, 300_000), (300_000, 1), (5, 70_000)])
@pytest.mark.parametrize("fit", ["squash", "pad", "expand", "crop"])
def test_pictures_longer_than_any_jpeg(fit: Any, size: tuple[int, int]) -> None:
    (tile,) = split_tiles(Image.new("RGB", size, "white"), changed(fit=fit), None)
    assert tile.size == (32, 32)
    assert np.asarray(tile).max() > 200 or fit in ("pad", "expand")


@pytest.mark.parametrize("size", [(50, 50), (90, 31), (31, 90), (20, 7), (33, 700), (700, 300)])
def test_expand_is_a_square_resized(size: tuple[int, int]) -> None:
    """Source: `expand2square` of LLaVA, written out."""
    image, side = picture(*size), max(size)
    square = Image.new("RGB", (side, side), (127, 127, 127))
    square.paste(image, ((side - size[0]) // 2, (side - size[1]) // 2))
    expected = square.resize((32, 32), Image.Resampling.BICUBIC)
    processing = changed(fit="expand", pad_color=(127, 127, 127))
    (tile,) = split_tiles(image, processing, None)
    assert np.array_equal(np.asarray(tile), np.asarray(expected))


def test_pixel_values_follow_the_image_processors_of_hugging_face() -> None:
    """Written out: resize in 8 bits, rescale in double, round to single, normalise in single."""
    image = picture(50, 40)
    resized = np.asarray(image.resize((32, 32), Image.Resampling.BICUBIC))
    rescaled = (resized.astype(np.float64) * PROCESSING.rescale).astype(np.float32)
    mean, std = (np.array(values, np.float32) for values in (PROCESSING.mean, PROCESSING.std))
    expected = ((rescaled - mean) / std).transpose(2, 0, 1)
    (tile,) = split_tiles(image, PROCESSING, None)
    found = to_pixel_values(tile, PROCESSING)
    assert found.dtype == np.float32
    assert found.flags.c_contiguous
    assert np.array_equal(found, expected)


def test_a_picture_of_one_pixel_is_fine() -> None:
    (tile,) = split_tiles(load_image(np.zeros((1, 1, 3), np.uint8)), PROCESSING, None)
    assert to_pixel_values(tile, PROCESSING).shape == (3, 32, 32)


@pytest.mark.parametrize("size", [(64, 16), (16, 64), (1, 5000), (5000, 1), (31, 33)])
@pytest.mark.parametrize("fit", ["squash", "pad", "expand", "crop"])
def test_tiles_have_the_size_of_the_tower(fit: Any, size: tuple[int, int]) -> None:
    (tile,) = split_tiles(Image.new("RGB", size), changed(fit=fit, width=24), None)
    assert tile.size == (24, 32)


def test_pad_keeps_the_shape_and_adds_a_border() -> None:
    processing = changed(fit="pad", pad_color=(1, 2, 3))
    (tile,) = split_tiles(Image.new("RGB", (64, 16), "white"), processing, None)
    values = np.asarray(tile)
    assert values[:12].reshape(-1, 3).tolist() == [[1, 2, 3]] * 12 * 32
    assert values[12:20].min() == 255
    assert values[20:].reshape(-1, 3).tolist() == [[1, 2, 3]] * 12 * 32


def test_crop_keeps_the_shape_and_loses_the_ends() -> None:
    image = Image.new("RGB", (96, 32), "white")
    image.paste((0, 0, 0), (0, 0, 30, 32))
    image.paste((0, 0, 0), (66, 0, 96, 32))
    (tile,) = split_tiles(image, changed(fit="crop"), None)
    assert np.asarray(tile)[:, 2:30].min() == 255
