"""Whether a frame differs from the one that was asked about last, by blocks of pixels.

In: frames. Out: yes or no. What is in them is not known here.

A frame is made 160 blocks wide, of the mean of their pixels, which leaves an eighth of the noise
of a sensor in a picture 1280 wide. Light that changes everywhere is a factor and an offset, which
are fitted and taken out; light that drifts is followed, block by block, where nothing has changed.
What remains is averaged over 3 x 3 blocks, and stands out by its size and by the noise of this very
frame. So a small figure shows that covers some blocks (30 x 70 of 1280 x 720 pixels), which hashes
of whole pictures do not see.
"""

import math
from datetime import datetime
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edge_et.camera.frames import Frame
from edge_et.camera.ignored_regions import Ignored, ignored_blocks
from edge_et.errors import OptionError

BLOCKS_ACROSS = 160
"""Blocks in a row of a frame, about."""

_SIGMAS = 6.0
"""What stands out by less may be noise: of 14,400 blocks one in a month at 5 frames a second."""

_LEAST_BLOCKS = 4
"""Of 3 x 3 blocks, those that have to stand out together."""

_FOLLOW_S = 5.0
"""In that time the light that is compared with becomes that of the frames, all but a third."""


class ChangeDetector(Protocol):
    """Decides whether a frame is worth a question.

    It is asked about each frame that could be looked at, at most five times a second, and not
    while an answer is computed or before `every` is over.
    """

    def has_changed(self, frame: Frame) -> bool:
        """Return whether to look at this frame; the caller does if it is true.

        Args:
            frame: the newest.
        """
        ...  # pragma: no cover


class BlockChange:
    """A `ChangeDetector` in numpy: differences of blocks to the frame that was looked at last."""

    def __init__(self, *, contrast: float = 6.0, ignored: Ignored = ()) -> None:
        """Compare with nothing yet: the first frame has changed.

        Args:
            contrast: the least difference in brightness that counts, 0 to 255, over 0. A noisy
                frame needs more by itself.
            ignored: regions in which nothing counts; see `Ignored`.

        Raises:
            OptionError: an argument is none of these.
        """
        if not isinstance(contrast, int | float) or not 0 < contrast <= 255:
            raise OptionError("contrast", contrast, "a number over 0 and up to 255")
        self._contrast = float(contrast)
        self._ignored = ignored
        self._size = (0, 0)
        self._counts = ignored_blocks(ignored, 1, 1)
        self._reference: NDArray[np.float32] | None = None
        self._time: datetime | None = None

    def has_changed(self, frame: Frame) -> bool:
        """Return whether blocks of the frame differ; see `ChangeDetector`."""
        blocks = to_blocks(frame.picture)
        if self._reference is None or self._size != frame.picture.shape[:2]:
            self._size = (frame.picture.shape[0], frame.picture.shape[1])
            self._counts = ~ignored_blocks(self._ignored, *blocks.shape[:2])
            self._reference, self._time = blocks, frame.time
            return True
        left = self._left_over(blocks, self._reference)
        passed_s = max((frame.time - self._time).total_seconds(), 0.0) if self._time else 0.0
        self._time = frame.time
        is_changed = has_cluster(self._stand_out(left))
        follow = 1.0 if is_changed else -math.expm1(-passed_s / _FOLLOW_S)
        self._reference += np.float32(follow) * (blocks - self._reference)
        return is_changed

    def _left_over(
        self, blocks: NDArray[np.float32], reference: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Return the differences [rows,columns,3] that the light does not explain."""
        left = np.zeros_like(blocks)
        for channel in range(blocks.shape[2]):
            now, before = blocks[..., channel], reference[..., channel]
            factor, offset = _fit(before[self._counts], now[self._counts])
            left[..., channel] = now - factor * before - offset
        left[~self._counts] = 0
        return left

    def _stand_out(self, left: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Return which blocks [rows,columns] differ by more than noise."""
        mean = sum_3x3(left) / 9
        # The median is that of the blocks in which nothing happens, as long as they are half.
        noise = 1.4826 * np.median(np.abs(mean[self._counts]), axis=0) if self._counts.any() else 0
        least = np.maximum(self._contrast, _SIGMAS * noise)
        return np.asarray((np.abs(mean) > least).any(axis=2))


def to_blocks(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the means of the blocks of a picture, [rows,columns,3] float32.

    Args:
        picture: [H,W,3] uint8.
    """
    side = max(1, round(picture.shape[1] / BLOCKS_ACROSS))
    image = Image.fromarray(np.ascontiguousarray(picture))
    return np.asarray(image.reduce(side), np.float32)


def sum_3x3(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the sum of each block and its eight neighbours; beyond the edge there is nothing.

    Args:
        values: [rows,columns,...].
    """
    summed = values.copy()
    summed[1:] += values[:-1]
    summed[:-1] += values[1:]
    across = summed.copy()
    across[:, 1:] += summed[:, :-1]
    across[:, :-1] += summed[:, 1:]
    return across


def has_cluster(stands_out: NDArray[np.bool_]) -> bool:
    """Return whether some blocks that stand out are neighbours.

    Args:
        stands_out: [rows,columns].
    """
    return bool((sum_3x3(stands_out.astype(np.float32)) >= _LEAST_BLOCKS).any())


def _fit(before: NDArray[np.float32], now: NDArray[np.float32]) -> tuple[float, float]:
    """Return factor and offset of the light, of the blocks in which nothing else happened.

    Args:
        before: [blocks].
        now: [blocks].
    """
    if before.size == 0:
        return 1.0, 0.0
    difference = now - before
    distance = np.abs(difference - np.median(difference))
    calm = distance <= 3 * max(float(np.median(distance)), 0.5)
    x, y = before[calm].astype(np.float64), now[calm].astype(np.float64)
    spread = float(np.var(x))
    if spread < 1:  # one plain surface, whose factor cannot be told from an offset
        return 1.0, float(np.mean(y - x))
    factor = float(np.mean((x - x.mean()) * (y - y.mean()))) / spread
    return factor, float(y.mean() - factor * x.mean())
