"""Draw the picture that is asked about unless another is given: the same pixels everywhere."""

import re
from pathlib import Path

import numpy as np
from PIL import Image

DRAWN_SIZE = (640, 480)
"""Width and height, pixels."""


def drawn_name(size: tuple[int, int] = DRAWN_SIZE) -> str:
    """Return how the file of a drawn picture is called, which tells its pixels.

    Args:
        size: width and height, pixels.
    """
    return "drawn-{}x{}.png".format(*size)


def is_drawn(path: str) -> bool:
    """Return whether a file is called like a drawn picture."""
    return re.fullmatch(r"drawn-\d+x\d+\.png", Path(path).name) is not None


def draw_picture(path: Path, size: tuple[int, int] = DRAWN_SIZE) -> Path:
    """Draw a disc on a coloured ground with noise, so that it compresses about as a photograph.

    Args:
        path: the PNG file to write.
        size: width and height, pixels.

    Returns:
        The same path.
    """
    width, height = size
    y, x = np.mgrid[:height, :width]
    ground = np.stack([x * 255 // width, y * 255 // height, np.full_like(x, 96)], axis=2)
    disc = (x - width // 2) ** 2 + (y - height // 2) ** 2 < (height // 4) ** 2
    ground[disc] = (214, 40, 40)
    noise = np.random.default_rng(0).integers(-12, 13, ground.shape)
    Image.fromarray(np.clip(ground + noise, 0, 255).astype(np.uint8)).save(path)
    return path
