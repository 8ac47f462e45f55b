"""Grids: on how many tiles a picture is shown, and how large they are, which its size tells.

In: width and height, the bundle's rules. Out: columns and rows, and a tile's size. Pixels are not
known here. The floating-point expressions are those of the sources, so that each rounding is.
"""

import math

from edge_et.bundle import Processing, Tiling, WholeSize

Size = tuple[int, int]
"""Width and height, pixels."""

Grid = tuple[int, int]
"""Columns and rows of tiles."""


def choose_grid(size: Size, processing: Processing, max_tiles: int | None) -> Grid | None:
    """Choose the grid of tiles on which a picture is shown.

    Args:
        size: the picture's.
        processing: the bundle's rules.
        max_tiles: most tiles, that of the whole picture included; None: any number.

    Returns:
        The grid beside the tile of the whole picture; None: that tile is all there is.
    """
    tiling = processing.tiling
    if tiling is None:
        return None
    if tiling.edge_tiles is not None:
        return _by_edge(size, processing, tiling.edge_tiles, max_tiles)
    allowed = [
        (columns, rows)
        for columns, rows in tiling.grids
        if max_tiles is None or columns * rows + 1 <= max_tiles
    ]
    if tiling.rule == "ratio":
        if _is_small(size, tiling, processing.whole_size):
            return None
        return _by_ratio(size, processing, tiling, allowed)
    return _by_area(size, processing, allowed)


def whole_size(size: Size, processing: Processing) -> Size:
    """Return the size of the tile that shows all of a picture.

    Args:
        size: the picture's.
        processing: the bundle's rules.

    Returns:
        W and H, or where these may vary whole blocks of nearly the picture's shape. No side has
        more than `max_tokens` of them, where the source, whose pictures are more than 256 times as
        long as wide then, knows no bound.

    Source: `smart_resize` of transformers' LFM2-VL and Qwen2-VL, which refuses pictures that are
        more than 200 times as long as wide.
    """
    rule = processing.whole_size
    if rule is None:
        return processing.width, processing.height
    block, area = rule.block, size[0] * size[1]
    least, most = (tokens * block**2 for tokens in (rule.min_tokens, rule.max_tokens))
    blocks = [max(rule.least_blocks, round(side / block)) for side in size]
    covered = blocks[0] * blocks[1] * block**2
    if covered > most:
        scale = math.sqrt(area / most)
        blocks = [max(1, math.floor(side / scale / block)) for side in size]
    elif covered < least:
        scale = math.sqrt(least / area)
        blocks = [math.ceil(side * scale / block) for side in size]
    width, height = (min(count, rule.max_tokens) * block for count in blocks)
    return width, height


def tile_counts(processing: Processing) -> list[int]:
    """Return how many tiles pictures may have, most first."""
    grids = () if processing.tiling is None else processing.tiling.possible_grids
    return sorted({1, *(columns * rows + 1 for columns, rows in grids)}, reverse=True)


def canvas_size(grid: Grid, processing: Processing) -> Size:
    """Return the size of all tiles of a grid together."""
    return grid[0] * processing.width, grid[1] * processing.height


def edge_sizes(size: Size, processing: Processing, edge_tiles: int) -> tuple[Size, Size]:
    """Return the two sizes that a picture is scaled to, one after the other.

    Args:
        size: the picture's.
        processing: the bundle's rules; tiles are square.
        edge_tiles: tiles along the longest edge.

    Returns:
        The longest edge as long as so many tiles, then both sides whole tiles.

    Source: `_resize_output_size_rescale_to_max_len` and `resize_for_vision_encoder` of
    transformers' Idefics3.
    """
    tile = processing.width
    width, height = size
    ratio = width / height
    if width >= height:
        width = edge_tiles * tile
        height = int(width / ratio)
        height += height % 2
    else:
        height = edge_tiles * tile
        width = int(height * ratio)
        width += width % 2
    scaled = max(width, 1), max(height, 1)
    ratio = scaled[0] / scaled[1]
    if scaled[0] >= scaled[1]:
        width = math.ceil(scaled[0] / tile) * tile
        height = math.ceil(int(width / ratio) / tile) * tile
    else:
        height = math.ceil(scaled[1] / tile) * tile
        width = math.ceil(int(height * ratio) / tile) * tile
    return scaled, (width, height)


def _by_area(size: Size, processing: Processing, allowed: list[Grid]) -> Grid | None:
    """Return the grid on which the most pixels survive; of those the one with the least border.

    Source: `select_best_resolution` of LLaVA-NeXT.
    """
    width, height = size

    def worth(grid: Grid) -> tuple[int, int]:
        canvas_width, canvas_height = canvas_size(grid, processing)
        scale = min(canvas_width / width, canvas_height / height)
        shown = min(int(width * scale) * int(height * scale), width * height)
        return shown, shown - canvas_width * canvas_height

    return max(allowed, key=worth, default=None)


def _is_small(size: Size, tiling: Tiling, rule: WholeSize | None) -> bool:
    """Tell whether a picture is too small for a grid.

    Source: `_is_image_too_large` of transformers' LFM2-VL, for which a side that is rounded to no
    block has the half of one.
    """
    if tiling.over_pixels is None or rule is None:
        return False
    sides = [max(rule.block // 2, round(side / rule.block) * rule.block) for side in size]
    return sides[0] * sides[1] <= tiling.over_pixels


def _by_ratio(
    size: Size, processing: Processing, tiling: Tiling, allowed: list[Grid]
) -> Grid | None:
    """Return the grid whose shape is the nearest; of several a later one, if the picture fills it.

    Source: `get_optimal_tiled_canvas` of transformers' GOT-OCR2, which InternVL uses, and
    `find_closest_aspect_ratio` of LFM2-VL.
    """
    width, height = size
    ratio, area = width / height, width * height
    half_a_tile = 0.5 * processing.height * processing.width
    nearest, best = math.inf, (1, 1)
    for columns, rows in allowed:
        difference = abs(ratio - columns / rows)
        if difference < nearest:
            nearest, best = difference, (columns, rows)
        elif difference == nearest and area > columns * rows * half_a_tile:
            best = columns, rows
    return None if best == (1, 1) else best


def _by_edge(
    size: Size, processing: Processing, edge_tiles: int, max_tiles: int | None
) -> Grid | None:
    """Return how many whole tiles a picture covers; it is scaled less where they are too many."""
    for edge in range(edge_tiles, 1, -1):
        _, (width, height) = edge_sizes(size, processing, edge)
        columns, rows = width // processing.width, height // processing.height
        if max_tiles is None or columns * rows + 1 <= max_tiles:
            return columns, rows
    return None
