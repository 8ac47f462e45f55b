"""Pictures of a folder as pixel values, to evaluate and calibrate a quantized tower."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edge_et.bundle import Processing
from edge_et.export.errors import QuantizationError
from edge_et.image import choose_grid, load_image, split_tiles, to_pixel_values

_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")


def picture_halves(
    folder: Path, processing: Processing
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Read all pictures of a folder, every other one for each purpose.

    Args:
        folder: holds JPEG, PNG or WebP files; they are taken in the order of their names.
        processing: the tower's image processing.

    Returns:
        Pixel values of all their tiles, to evaluate on and to calibrate with, `[M, 3, H, W]` each.

    Raises:
        QuantizationError: not a folder, or one with fewer than two pictures.
        ImageError: a picture cannot be read.
    """
    pictures = list(read_pictures(folder))
    if len(pictures) < 2:
        raise QuantizationError(f"{folder} holds {len(pictures)} pictures; at least 2 are needed")
    tiles = [_pixel_values(picture, processing) for picture in pictures]
    return np.concatenate(tiles[0::2]), np.concatenate(tiles[1::2])


def read_pictures(folder: Path) -> Iterator[Image.Image]:
    """Read the pictures of a folder.

    Args:
        folder: holds JPEG, PNG or WebP files.

    Yields:
        Pictures of mode RGB, in the order of their names.

    Raises:
        QuantizationError: not a folder.
        ImageError: a picture cannot be read.
    """
    if not folder.is_dir():
        raise QuantizationError(f"{folder} is not a folder of pictures")
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in _SUFFIXES)
    return map(load_image, paths)


def _pixel_values(image: Image.Image, processing: Processing) -> NDArray[np.float32]:
    processing = processing.of_one_size
    tiles = split_tiles(image, processing, choose_grid(image.size, processing, None))
    return np.stack([to_pixel_values(tile, processing) for tile in tiles])
