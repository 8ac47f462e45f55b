"""Frames: a picture with its number and time, and pixels of any layout as RGB.

In: arrays as cameras give them. Out: arrays of shape [H,W,3], red green blue. Where frames come
from is not known here.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edge_et.errors import ImageInputError
from edge_et.image import ImageSource, load_image

Layout = Literal["RGB", "BGR", "RGBX", "BGRX"]
"""The bytes of a pixel, in the order in which they lie in memory; X means nothing."""

Decode = Callable[[], NDArray[np.uint8]]
"""Returns the pixels of a frame, [H,W,3], red green blue; a frame that is dropped costs nothing."""

STALLED_S = 10.0
"""Without a frame for that long, a camera is lost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """A picture of a camera.

    Attributes:
        number: counts the frames of the source, from 0, dropped ones too.
        time: when it was received, in UTC.
        picture: [H,W,3] uint8, red green blue.
    """

    number: int
    time: datetime
    picture: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class ReceivedFrame:
    """A frame before its pixels are decoded; the fields are those of `Frame`."""

    number: int
    time: datetime
    decode: Decode

    def open(self) -> Frame:
        """Return the frame with its pixels.

        Raises:
            ImageError: they cannot be had.
        """
        return Frame(number=self.number, time=self.time, picture=self.decode())


def decode_picture(source: ImageSource) -> NDArray[np.uint8]:
    """Return the pixels of a picture: [H,W,3] uint8, red green blue.

    Args:
        source: as for `edge_et.answer`.

    Raises:
        ImageError: it is no picture.
    """
    return np.asarray(load_image(source))


def to_rgb(array: NDArray[Any], layout: Layout) -> NDArray[np.uint8]:
    """Return an array of a camera as [H,W,3] uint8, red green blue.

    Args:
        array: [H,W,3] uint8, or [H,W,4] for the layouts with X.
        layout: of its pixels.

    Raises:
        ImageInputError: it has another shape or type.
    """
    channels = array.shape[2] if array.ndim == 3 else 0
    if channels != len(layout) or array.dtype != np.uint8 or array.size == 0:
        found = f"a frame of shape {list(array.shape)} and type {array.dtype}"
        raise ImageInputError(found, f"{layout} has the shape [height, width, {len(layout)}] uint8")
    return array[:, :, 2::-1] if layout.startswith("BGR") else array[:, :, :3]
