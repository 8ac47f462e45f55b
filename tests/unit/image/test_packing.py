import random
from typing import Any

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray
from tiny.anyres import GOLDEN, LLAVA, edited, golden

from edge_et.bundle import MarkupSpec, VisionSpec
from edge_et.errors import OptionError
from edge_et.image import TileFeatures, plan_image
from edge_et.image.packing import pack

NEWLINE = np.full(2, -1, np.float32)


def tiny(tokens: int = 4, **changes: Any) -> VisionSpec:
    """Rules of tiles that are one picture's pixels and 2 x 2 tokens each."""
    return edited(LLAVA, image_tokens_per_tile=tokens, embedding_width=2, **changes)


def coordinates(grid: tuple[int, int], side: int) -> NDArray[np.float32]:
    """Return features whose values are row and column on the grid's map; the first tile is -9."""
    rows, columns = np.mgrid[: grid[1] * side, : grid[0] * side].astype(np.float32)
    joined = np.stack([rows, columns], axis=-1)
    tiles = [np.full((side * side, 2), -9, np.float32)]
    for row in range(grid[1]):
        for column in range(grid[0]):
            part = joined[row * side : (row + 1) * side, column * side : (column + 1) * side]
            tiles.append(part.reshape(-1, 2))
    return np.stack(tiles)


def test_400_sizes_have_the_tokens_of_the_reference() -> None:
    for width, height, columns, rows, map_rows, map_columns, tokens in golden("pack_cases")[
        "rows"
    ].tolist():
        plan = plan_image(LLAVA, (width, height))
        assert plan.grid == (columns, rows)
        assert plan.resized == (map_rows, map_columns)
        assert plan.image_tokens == tokens
        assert plan.tiles == columns * rows + 1


def test_400_sizes_are_cut_and_interpolated_as_by_the_reference() -> None:
    """The goldens tell where on the map the first and the last token lie, after interpolation."""
    cases = golden("pack_cases")
    for row, corners in zip(cases["rows"].tolist(), cases["corner_rc_first_last"], strict=True):
        plan = plan_image(LLAVA, (row[0], row[1]))
        assert plan.grid is not None
        packed = pack(TileFeatures(tuple(coordinates(plan.grid, 27)), NEWLINE), plan)
        assert packed.shape == (row[6], 2)
        assert np.abs(packed[729] - corners[:2]).max() < 1e-4
        assert np.abs(packed[-2] - corners[2:]).max() < 1e-4
        assert np.array_equal(packed[-1], NEWLINE)


@pytest.mark.parametrize("name", ["tiny", "wide"])
def test_packed_tokens_are_those_of_the_reference(name: str) -> None:
    from safetensors.numpy import load_file

    reference = golden(name)
    newline = load_file(GOLDEN / "llava_qwen3_tiny" / "model.safetensors")["model.image_newline"]
    assert reference["tile_index"].tolist() == list(range(reference["n_tiles"]))
    width, height = reference["image_size_wh"].tolist()
    plan = plan_image(LLAVA, (width, height))
    packed = pack(TileFeatures(tuple(reference["projected"]), newline), plan)
    assert packed.dtype == np.float32
    assert packed.flags.c_contiguous
    assert packed.shape == reference["packed"].shape == (plan.image_tokens, 128)
    assert np.abs(packed - reference["packed"]).max() < 1e-4


def test_flat_is_tile_after_tile() -> None:
    plan = plan_image(tiny(arrangement="flat"), (768, 384))
    features = coordinates((2, 1), 2)
    assert plan.image_tokens == 12
    assert np.array_equal(pack(TileFeatures(tuple(features)), plan), features.reshape(-1, 2))


def test_grid_is_the_whole_picture_and_the_rows_of_the_joined_map() -> None:
    plan = plan_image(tiny(arrangement="grid"), (760, 384))  # its borders stay
    packed = pack(TileFeatures(tuple(coordinates((2, 1), 2))), plan)
    assert plan.image_tokens == 12
    assert packed[:4].tolist() == [[-9, -9]] * 4
    assert packed[4:].tolist() == [[row, column] for row in range(2) for column in range(4)]


def test_unpadded_loses_the_borders_and_has_a_newline_behind_each_row() -> None:
    # On 2 x 1 tiles the picture is as wide as three quarters of the map: a column goes each side.
    spec = tiny(16, arrangement="unpadded", tiling={"grids": ((2, 1),)})
    plan = plan_image(spec, (576, 384))
    packed = pack(TileFeatures(tuple(coordinates((2, 1), 4)), NEWLINE), plan)
    assert plan.kept == (0, 1, 4, 6)
    assert len(packed) == plan.image_tokens == 16 + 4 * 7
    rows = packed[16:].reshape(4, 7, 2)
    assert np.array_equal(rows[:, 6], np.stack([NEWLINE] * 4))
    assert rows[2, :6].tolist() == [[2, column] for column in range(1, 7)]


def test_a_single_tile() -> None:
    features = coordinates((1, 1), 2)[1:]
    for arrangement in ("flat", "grid"):
        plan = plan_image(tiny(arrangement=arrangement), (640, 480), max_tiles=1)
        assert np.array_equal(pack(TileFeatures(tuple(features)), plan), features[0])
    plan = plan_image(tiny(arrangement="unpadded"), (640, 480), max_tiles=1)
    assert plan.image_tokens == 5
    packed = pack(TileFeatures(tuple(features), NEWLINE), plan)
    assert np.array_equal(packed, [*features[0], NEWLINE])
    # the pad mode of the reference: 729 tokens and one newline
    assert plan_image(LLAVA, (640, 480), max_tiles=1).image_tokens == 730


def test_pooling_averages_blocks_and_what_is_left_at_the_end() -> None:
    spec = tiny(9, arrangement="flat", pooling=2)
    values = np.arange(9, dtype=np.float32).reshape(1, 9, 1) * np.ones(2, np.float32)
    plan = plan_image(spec, (640, 480), max_tiles=1)
    packed = pack(TileFeatures(tuple(values)), plan)
    assert packed[:, 0].tolist() == [(0 + 1 + 3 + 4) / 4, (2 + 5) / 2, (6 + 7) / 2, 8]
    assert (plan.image_tokens, packed.dtype) == (4, np.float32)


def test_pooling_is_the_bundles_or_the_calls() -> None:
    assert plan_image(LLAVA, (384, 384)).image_tokens == 729 + 27 * 28
    pooled = plan_image(LLAVA, (384, 384), pooling=2)
    assert pooled.image_tokens == 14 * 14 + 14 * 15
    assert plan_image(edited(LLAVA, pooling=2), (384, 384)) == pooled
    assert plan_image(edited(LLAVA, pooling=2), (384, 384), pooling=1).pooling == 1


def test_tokens_that_are_no_square_cannot_be_pooled() -> None:
    spec = tiny(6, arrangement="flat")
    assert plan_image(spec, (640, 480)).tile_tokens == 6
    with pytest.raises(OptionError, match="pooling=2"):
        plan_image(spec, (640, 480), pooling=2)


def test_the_bundle_bounds_the_tiles_unless_the_call_does() -> None:
    spec = edited(LLAVA, tiling={"max_tiles": 5})
    assert plan_image(LLAVA, (1920, 1080)).tiles == 16
    assert plan_image(spec, (1920, 1080)).tiles <= 5
    assert plan_image(spec, (1920, 1080), max_tiles=2).tiles == 2
    assert plan_image(spec, (1920, 1080), max_tiles=40).tiles == 16


def test_maps_little_over_the_bound_are_left() -> None:
    exact = edited(LLAVA, tiling={"shrink_over_tiles": None})
    for size, shrunk in (((1152, 1152), False), ((1200, 1152), False), ((2304, 2304), True)):
        plan, whole = plan_image(LLAVA, size), plan_image(exact, size)
        assert whole.kept is not None
        assert whole.resized == whole.kept[2:]
        assert (plan.image_tokens < whole.image_tokens) == shrunk


def test_the_count_is_what_packing_gives_for_any_size() -> None:
    generator = random.Random(3)
    extremes = [(1, 1), (1, 4000), (4000, 1), (3, 4000), (4000, 3), (385, 384)]
    sizes = [(generator.randint(1, 3000), generator.randint(1, 3000)) for _ in range(25)]
    for size in extremes + sizes:
        for arrangement in ("flat", "grid", "unpadded"):
            for pooling in (1, 2):
                for grids in (LLAVA.processing.tiling.grids, ((2, 2),)):  # type: ignore[union-attr]
                    spec = tiny(25, arrangement=arrangement, tiling={"grids": grids})
                    plan = plan_image(spec, size, pooling=pooling, max_tiles=13)
                    features = np.ones((plan.tiles, 25, 2), np.float32)
                    packed = pack(TileFeatures(tuple(features), NEWLINE), plan)
                    assert packed.shape == (plan.image_tokens, 2)
                    assert np.isfinite(packed).all()


MARKUP = MarkupSpec(
    tokens=("<fake>", "<global>", "\n", "\n\n", *(f"<{r}.{c}>" for r in (1, 2) for c in (1, 2, 3))),
    tile=("<fake>", "<{row}.{column}>"),
    row_end=("\n",),
    grid_end=("\n\n",),
    whole=("<fake>", "<global>"),
    end=("<fake>",),
)


@pytest.mark.parametrize(
    ("whole", "expected"),
    [
        ("last", "f 1.1 T0 f 1.2 T1 f 1.3 T2 n f 2.1 T3 f 2.2 T4 f 2.3 T5 nn f g T6 f"),
        ("first", "f g T0 f 1.1 T1 f 1.2 T2 f 1.3 T3 n f 2.1 T4 f 2.2 T5 f 2.3 T6 nn f"),
    ],
)
@pytest.mark.parametrize("start", [(), ("\n", "<fake>")])
def test_marks_stand_around_tiles(whole: str, expected: str, start: tuple[str, ...]) -> None:
    tiling = {"grids": ((3, 2),), "whole": whole, "shrink_over_tiles": None}
    markup = msgspec.structs.replace(MARKUP, start=start)
    spec = tiny(4, arrangement="flat", tiling=tiling, markup=markup)
    features = np.repeat(np.arange(7, dtype=np.float32), 8).reshape(7, 4, 2)
    embeddings = 100 + np.repeat(np.arange(10, dtype=np.float32), 2).reshape(10, 2)
    plan = plan_image(spec, (960, 640))
    packed = pack(TileFeatures(tuple(features), markup=embeddings), plan)
    assert len(packed) == plan.image_tokens
    names = {"f": 0, "g": 1, "n": 2, "nn": 3} | {
        f"{row}.{column}": 3 * row + column for row in (1, 2) for column in (1, 2, 3)
    }
    opening = [100.0 + MARKUP.tokens.index(mark) for mark in start]
    rows = list(opening)
    for word in expected.split():
        rows += [float(word[1])] * 4 if word.startswith("T") else [100.0 + names[word]]
    assert packed[:, 0].tolist() == rows
    alone = plan_image(spec, (960, 640), max_tiles=1)
    packed = pack(TileFeatures(tuple(features[:1]), markup=embeddings), alone)
    assert packed[:, 0].tolist() == [*opening, 100, 101, 0, 0, 0, 0, 100]
    assert alone.image_tokens == len(packed)
