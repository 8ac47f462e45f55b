"""Regions of a frame in which nothing counts: a tree in the wind, a road, a clock in the picture.

In: polygons or an array. Out: which blocks of a frame they touch. How blocks are compared is not
known here.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from edge_et.errors import OptionError

Ignored = Sequence[Sequence[tuple[float, float]]] | NDArray[Any]
"""Polygons, each of three or more corners (x, y), from (0, 0) at the top left to (1, 1); or an
array [H,W] of any size, which is true or over 0 where nothing counts."""

_FINER = 8  # polygons are drawn larger, so that a block that they touch is found


def ignored_blocks(ignored: Ignored, rows: int, columns: int) -> NDArray[np.bool_]:
    """Return which blocks of a frame are ignored, [rows,columns]: all that a region touches.

    Args:
        ignored: the regions.
        rows: of blocks.
        columns: of blocks.

    Raises:
        OptionError: they are neither polygons nor an array.
    """
    if isinstance(ignored, np.ndarray):
        if ignored.ndim != 2 or ignored.size == 0:
            raise OptionError("ignored", ignored.shape, "an array of shape [height, width]")
        if ignored.dtype.kind not in "biuf":
            raise OptionError("ignored", ignored.dtype, "an array of bools or numbers")
        mask = Image.fromarray(np.where(ignored > 0, 255, 0).astype(np.uint8))
        # Enlarged first, so that the boxes that are averaged hold whole pixels of the mask.
        mask = mask.resize((columns * _FINER, rows * _FINER), Image.Resampling.BOX)
    else:
        mask = Image.new("L", (columns * _FINER, rows * _FINER))
        draw = ImageDraw.Draw(mask)
        if not isinstance(ignored, Sequence):
            raise OptionError("ignored", ignored, _EXPECTED)
        for polygon in ignored:
            draw.polygon([(x * mask.width, y * mask.height) for x, y in _corners(polygon)], 255)
    finest = np.asarray(mask).reshape(rows, _FINER, columns, _FINER)
    return np.asarray(finest.any(axis=(1, 3)))


def _corners(polygon: object) -> list[tuple[float, float]]:
    try:
        corners = [(float(x), float(y)) for x, y in polygon]  # type: ignore[attr-defined]
    except (TypeError, ValueError) as err:
        raise OptionError("ignored", polygon, _EXPECTED) from err
    inside = all(0 <= value <= 1 for corner in corners for value in corner)
    if len(corners) < 3 or not inside or not all(map(math.isfinite, sum(corners, ()))):
        raise OptionError("ignored", polygon, _EXPECTED)
    return corners


_EXPECTED = "polygons of three or more corners (x, y), each from 0 to 1; or an array"
