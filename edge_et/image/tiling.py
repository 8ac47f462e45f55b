"""Tiles: from an upright picture to the pictures of the tower's size that stand for it.

In: a picture of mode RGB and the bundle's rules. Out: tiles, and their pixel values as float32.
Which grid a picture gets is decided in `edge_et.image.grids`. What becomes of the tiles' tokens is
not known here: see `edge_et.image.packing`.
"""

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edge_et.bundle import Processing
from edge_et.image.grids import Grid, Size, canvas_size, edge_sizes, whole_size

_RESAMPLE = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}

# Pillow resizes rows first: a tile's width times the picture's height is held in between. Higher
# pictures, which JPEG cannot hold anyway, are made so high before.
_MAX_HEIGHT = 65_536

# Longer pictures are made so long before they become a square, whose work grows with its area.
_MAX_SQUARE_SIDE = 16_384

# Rows of a picture that are widened to a square at once.
_BAND_ROWS = 256


def split_tiles(image: Image.Image, processing: Processing, grid: Grid | None) -> list[Image.Image]:
    """Cut a picture into the tower's tiles.

    Args:
        image: mode RGB.
        processing: the bundle's rules.
        grid: from `choose_grid`.

    Returns:
        Tiles of mode RGB, W pixels wide and H high: the grid's row by row, and before or behind
        them the whole picture, as the bundle says, and perhaps of a size of its own.
    """
    tiling = processing.tiling
    if tiling is not None and tiling.rule == "edge":
        image = _scaled_to_edge(image, processing, grid)
    whole = _whole(image, processing)
    if tiling is None or grid is None:
        return [whole]
    columns, rows = grid
    width, height = processing.width, processing.height
    size = canvas_size(grid, processing)
    if tiling.rule == "area":
        image = _canvas(image, processing, size)
    elif tiling.rule == "ratio":
        image = _squashed(image, processing, size)
    tiles = [
        image.crop((x * width, y * height, (x + 1) * width, (y + 1) * height))
        for y in range(rows)
        for x in range(columns)
    ]
    return [*tiles, whole] if tiling.whole == "last" else [whole, *tiles]


def to_pixel_values(tile: Image.Image, processing: Processing) -> NDArray[np.float32]:
    """Turn a tile of any size into what the vision tower reads.

    Each 8-bit value is multiplied by `rescale` in double precision, rounded to single, the mean
    subtracted and the difference divided by the deviation: the order and the precisions of the
    Hugging Face image processors.

    Args:
        tile: mode RGB.
        processing: the bundle's rules.

    Returns:
        pixel_values [3,H,W] float32, of the tile's height and width, C-contiguous.
    """
    # Every result depends on one 8-bit value alone, so 256 of them for each channel are enough.
    values = (np.arange(256, dtype=np.float64) * processing.rescale).astype(np.float32)
    mean = np.asarray(processing.mean, np.float32)[:, None]
    std = np.asarray(processing.std, np.float32)[:, None]
    table = (values[None, :] - mean) / std
    pixels = np.asarray(tile)
    return np.stack([table[channel][pixels[..., channel]] for channel in range(3)])


def _whole(image: Image.Image, processing: Processing) -> Image.Image:
    """Return the tile that shows all of a picture (of `crop`: its middle)."""
    size = (processing.width, processing.height)
    resample = _RESAMPLE[processing.resample]
    if processing.fit == "crop":
        return image.resize(size, resample, box=_centred_box(image.size, size))
    if processing.fit == "pad":
        scaled = image.resize(_fitting_size(image.size, size), resample)
        return _centred(scaled, processing, size)
    if processing.fit == "expand":
        return _expanded(image, processing)
    return _squashed(image, processing, whole_size(image.size, processing))


def _squashed(image: Image.Image, processing: Processing, size: Size) -> Image.Image:
    resample = _RESAMPLE[processing.resample]
    if image.height > _MAX_HEIGHT:
        image = image.resize((image.width, _MAX_HEIGHT), resample)
    return image.resize(size, resample)


def _scaled_to_edge(image: Image.Image, processing: Processing, grid: Grid | None) -> Image.Image:
    """Scale a picture to its longest edge, then to whole tiles; it is cut and shown whole so.

    Source: `Idefics3ImageProcessor`, which rounds to 8 bits in between.
    """
    edge = 1 if grid is None else max(grid)
    for size in edge_sizes(image.size, processing, edge):
        image = _squashed(image, processing, size)
    return image


def _canvas(image: Image.Image, processing: Processing, size: Size) -> Image.Image:
    """Scale a picture until it touches a canvas from inside, and put it in the middle.

    Source: `resize_and_pad_image` of LLaVA-NeXT, to the last rounding.
    """
    scale_x, scale_y = size[0] / image.width, size[1] / image.height
    if scale_x < scale_y:
        scaled = size[0], min(math.ceil(image.height * scale_x), size[1])
    else:
        scaled = min(math.ceil(image.width * scale_y), size[0]), size[1]
    return _centred(image.resize(scaled, _RESAMPLE[processing.resample]), processing, size)


def _centred(image: Image.Image, processing: Processing, size: Size) -> Image.Image:
    canvas = Image.new("RGB", size, processing.pad_color)
    canvas.paste(image, ((size[0] - image.width) // 2, (size[1] - image.height) // 2))
    return canvas


def _expanded(image: Image.Image, processing: Processing) -> Image.Image:
    """Make a picture square by a border, then a tile of it.

    As if the whole square were made and resized: its rows are resized in bands, which saves the
    memory of a panorama's square.

    Source: `expand2square` of LLaVA-NeXT.
    """
    resample = _RESAMPLE[processing.resample]
    if max(image.size) > _MAX_SQUARE_SIDE:
        scale = _MAX_SQUARE_SIDE / max(image.size)
        image = image.resize(
            (max(int(image.width * scale), 1), max(int(image.height * scale), 1)), resample
        )
    side = max(image.size)
    left, top = (side - image.width) // 2, (side - image.height) // 2
    narrowed = Image.new("RGB", (processing.width, side), processing.pad_color)
    for start in range(0, image.height, _BAND_ROWS):
        stop = min(start + _BAND_ROWS, image.height)
        band = Image.new("RGB", (side, stop - start), processing.pad_color)
        band.paste(image.crop((0, start, image.width, stop)), (left, 0))
        narrowed.paste(band.resize((processing.width, stop - start), resample), (0, top + start))
    return narrowed.resize((processing.width, processing.height), resample)


def _centred_box(image_size: Size, tile_size: Size) -> tuple[float, float, float, float]:
    """Return the largest centred box of a tile's shape, in the image's pixels."""
    (width, height), (tile_width, tile_height) = image_size, tile_size
    scale = min(width / tile_width, height / tile_height)
    left = (width - tile_width * scale) / 2
    top = (height - tile_height * scale) / 2
    return (max(left, 0.0), max(top, 0.0), min(width - left, width), min(height - top, height))


def _fitting_size(image_size: Size, tile_size: Size) -> Size:
    """Return the size of the image when it is scaled to touch the tile from inside."""
    (width, height), (tile_width, tile_height) = image_size, tile_size
    # Whole numbers: a quotient of floats could be rounded up past the tile.
    if width * tile_height >= height * tile_width:
        return tile_width, min(-(-height * tile_width // width), tile_height)
    return min(-(-width * tile_height // height), tile_width), tile_height
