"""Packing: from the features of a picture's tiles to the rows that the language model reads.

In: features [S,D] of each tile, by the tower. Out: image_tokens [T,D]. How many there will be
follows from the picture's size alone: `plan_image` tells it before any work. Neither pixels nor
models are known here.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edge_et.bundle import MarkupSpec, Tiling, VisionSpec
from edge_et.errors import OptionError
from edge_et.image.grids import Grid, Size, choose_grid, whole_size
from edge_et.image.vision_tower import TileFeatures

# Maps that exceed `shrink_over_tiles` by less are left as they are (LLaVA-NeXT, `anyres_max`).
_SHRINK_TOLERANCE = 1.1


@dataclass(frozen=True, slots=True, kw_only=True)
class ImagePlan:
    """What a picture will become: everything that its image tokens depend on but its pixels.

    Attributes:
        size: width and height of the picture, pixels.
        grid: columns and rows of the tiles behind that of the whole picture; None: there are none.
        tile_tokens: image tokens of one tile, after pooling.
        whole_tokens: the same of the tile of the whole picture; None: as many.
        pooling: side of the blocks of a tile's tokens that are averaged.
        arrangement: as `VisionSpec.arrangement`.
        kept: of the grid's token map the first row and column that are packed, and the number of
            rows and columns; None where the order is flat or there is no grid.
        resized: rows and columns that these are interpolated to; None as for `kept`.
        markup: which rows of the markup's embeddings stand before each tile, and behind the last;
            empty where the bundle has none.
        token_grid: rows and columns of the image tokens, where these stand in such for the language
            model; None: they stand one behind the other.
    """

    size: Size
    grid: Grid | None
    tile_tokens: int
    pooling: int
    arrangement: Literal["flat", "grid", "unpadded"]
    kept: tuple[int, int, int, int] | None = None
    resized: tuple[int, int] | None = None
    whole_tokens: int | None = None
    markup: tuple[tuple[int, ...], ...] = ()
    token_grid: tuple[int, int] | None = None

    @property
    def tiles(self) -> int:
        """Tiles N that go through the tower."""
        return 1 if self.grid is None else 1 + self.grid[0] * self.grid[1]

    @property
    def image_tokens(self) -> int:
        """Image tokens T."""
        newline = self.arrangement == "unpadded"
        if self.resized is not None:
            rows, columns = self.resized
            return self.tile_tokens + rows * (columns + newline)
        whole = self.tile_tokens if self.whole_tokens is None else self.whole_tokens
        grid = (self.tiles - 1) * self.tile_tokens
        return whole + grid + newline + sum(map(len, self.markup))


def plan_image(
    spec: VisionSpec, size: Size, *, max_tiles: int | None = None, pooling: int | None = None
) -> ImagePlan:
    """Tell what a picture of some size will become.

    Args:
        spec: the bundle's rules.
        size: width and height of the upright picture, pixels, at least 1.
        max_tiles: most tiles, at least 1; None: as the bundle says.
        pooling: 1 or 2; None: as the bundle says.

    Raises:
        OptionError: the tiles' tokens cannot be pooled.

    Source: `unpad_image` and `prepare_inputs_labels_for_multimodal` of LLaVA-NeXT; the
    floating-point expressions are theirs, so that each rounding is.
    """
    tiling = spec.processing.tiling
    if max_tiles is None and tiling is not None:
        max_tiles = tiling.max_tiles
    pooling = spec.pooling if pooling is None else pooling
    tile_tokens = spec.image_tokens_per_tile
    side = math.isqrt(tile_tokens)
    if pooling > 1:
        if spec.processing.whole_size is not None:
            raise OptionError("pooling", pooling, "1: this bundle's tiles are of many sizes")
        if side * side != tile_tokens:
            raise OptionError("pooling", pooling, f"1: {tile_tokens} tokens a tile are no square")
        side = -(-side // pooling)
        tile_tokens = side * side
    whole_tokens = token_grid = None
    if (rule := spec.processing.whole_size) is not None:
        columns, rows = (side // rule.block for side in whole_size(size, spec.processing))
        whole_tokens = rows * columns
        token_grid = (rows, columns) if spec.places == "grid" else None
    grid = choose_grid(size, spec.processing, max_tiles)
    kept = resized = None
    if grid is not None and spec.arrangement != "flat":
        columns, rows = grid[0] * side, grid[1] * side
        kept = (0, 0, rows, columns)
        if spec.arrangement == "unpadded":
            kept = _without_borders(size, rows, columns)
        resized = kept[2:]
        if spec.arrangement == "unpadded" and tiling is not None and tiling.shrink_over_tiles:
            resized = _shrunk(*resized, tiling.shrink_over_tiles * side * side)
    return ImagePlan(
        size=size,
        grid=grid,
        tile_tokens=tile_tokens,
        pooling=pooling,
        arrangement=spec.arrangement,
        kept=kept,
        resized=resized,
        whole_tokens=whole_tokens,
        markup=() if spec.markup is None else _markup(spec.markup, grid, tiling),
        token_grid=token_grid,
    )


def pack(made: TileFeatures, plan: ImagePlan) -> NDArray[np.float32]:
    """Arrange the tiles' features as the language model reads them.

    Args:
        made: by the tower, of the tiles in their order.
        plan: from `plan_image`, of the picture.

    Returns:
        image_tokens [T,D] float32, C-contiguous.
    """
    features, newline = made.features, made.newline
    if plan.pooling > 1:
        features = tuple(_pooled(np.stack(features), plan.pooling))
    width = features[0].shape[1]
    if plan.markup:
        return _marked(features, made.markup, plan.markup)
    if plan.grid is None or plan.kept is None or plan.resized is None:
        rows = np.concatenate(features)
    else:
        top, left, height, length = plan.kept
        joined = _joined(np.stack(features[1:]), plan.grid)
        joined = joined[top : top + height, left : left + length]
        joined = _interpolated(joined, plan.resized)
        if plan.arrangement == "unpadded":
            ends = np.broadcast_to(_checked(newline), (len(joined), 1, width))
            joined = np.concatenate([joined, ends], axis=1)
        rows = np.concatenate([features[0], joined.reshape(-1, width)])
    if plan.arrangement == "unpadded" and plan.grid is None:
        rows = np.concatenate([rows, _checked(newline)[None]])
    return np.ascontiguousarray(rows, np.float32)


def _markup(
    spec: MarkupSpec, grid: Grid | None, tiling: Tiling | None
) -> tuple[tuple[int, ...], ...]:
    """Return which rows of the markup stand before each tile, and behind the last one."""

    def rows_of(marks: Iterable[str], **place: int) -> tuple[int, ...]:
        return tuple(spec.row_of(mark, **place) for mark in marks)

    start, whole, end = rows_of(spec.start), rows_of(spec.whole), rows_of(spec.end)
    if grid is None or tiling is None:
        return start + rows_of(spec.without_grid), end
    columns, rows = grid
    before = [
        rows_of(spec.tile, row=row, column=column)
        for row in range(1, rows + 1)
        for column in range(1, columns + 1)
    ]
    behind: list[tuple[int, ...]] = [()] * len(before)
    behind[columns - 1 :: columns] = [rows_of(spec.row_end)] * rows
    behind[-1] = rows_of(spec.grid_end)
    if tiling.whole == "last":
        before, behind = [*before, whole], [*behind, end]
    else:
        before, behind = [whole, *before], [(), *behind[:-1], behind[-1] + end]
    return (
        start + before[0],
        *(a + b for a, b in zip(behind, before[1:], strict=False)),
        behind[-1],
    )


def _marked(
    features: tuple[NDArray[np.float32], ...],
    embeddings: NDArray[np.float32] | None,
    markup: tuple[tuple[int, ...], ...],
) -> NDArray[np.float32]:
    """Put the markup's embeddings, [M,D], between the tiles' features, [S,D] each."""
    assert embeddings is not None  # the tower refuses a graph without them
    pieces = [embeddings[list(markup[0])]]
    for tile, behind in zip(features, markup[1:], strict=True):
        pieces += [tile, embeddings[list(behind)]]
    return np.concatenate(pieces)


def _without_borders(size: Size, rows: int, columns: int) -> tuple[int, int, int, int]:
    """Return which part of a grid's token map shows the picture; see `ImagePlan.kept`."""
    width, height = size
    if width / height > columns / rows:
        border = (rows - int(height * (columns / width))) // 2
        return border, 0, rows - 2 * border, columns
    border = (columns - int(width * (rows / height))) // 2
    return 0, border, rows, columns - 2 * border


def _shrunk(rows: int, columns: int, most: int) -> tuple[int, int]:
    times = math.sqrt(rows * columns / most)
    if times > _SHRINK_TOLERANCE:
        return int(rows // times), int(columns // times)
    return rows, columns


def _pooled(features: NDArray[np.float32], block: int) -> NDArray[np.float32]:
    """Average blocks of each tile's square map; those at its end hold what there is."""
    tiles, tokens, width = features.shape
    side = math.isqrt(tokens)
    starts = np.arange(0, side, block)
    counts = np.minimum(block, side - starts).astype(np.float32)
    sums = features.reshape(tiles, side, side, width)
    for axis in (1, 2):
        sums = np.add.reduceat(sums, starts, axis=axis)
    return (sums / np.outer(counts, counts)[..., None]).reshape(tiles, -1, width)


def _joined(features: NDArray[np.float32], grid: Grid) -> NDArray[np.float32]:
    """Join the maps of a grid's tiles to one, [rows, columns, D]."""
    (columns, rows), (_, tokens, width) = grid, features.shape
    side = math.isqrt(tokens)
    maps = features.reshape(rows, columns, side, side, width).transpose(0, 2, 1, 3, 4)
    return maps.reshape(rows * side, columns * side, width)


def _interpolated(joined: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """Resize a map bilinearly: corners not aligned, nothing averaged when it shrinks.

    Args:
        joined: [rows, columns, D].
        size: rows and columns of the result.

    Source: `torch.nn.functional.interpolate`, which computes in single precision too.
    """
    for axis, after in enumerate(size):
        before = joined.shape[axis]
        if before == after:
            continue
        # A scale in single precision, then one rounding: torch multiplies and adds in one step.
        scale = np.float64(np.float32(before / after))
        places = ((np.arange(after) + 0.5) * scale - 0.5).clip(0).astype(np.float32)
        first = np.minimum(places.astype(np.int64), before - 1)
        second = np.minimum(first + 1, before - 1)
        share = np.expand_dims(places - first.astype(np.float32), (1, 2) if axis == 0 else (0, 2))
        low, high = joined.take(first, axis), joined.take(second, axis)
        joined = low * (1 - share) + high * share
    return joined


def _checked(newline: NDArray[np.float32] | None) -> NDArray[np.float32]:
    assert newline is not None  # the tower refuses a graph without it
    return newline
