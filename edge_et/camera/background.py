"""OpenCV's background subtractor as a change detector. The only door to OpenCV.

In: frames. Out: whether something is in front of the background. It learns what moves all the time
(leaves, water) as background, which `BlockChange` does not. For that it needs frames often, and ten
before it notices anything.
"""

from typing import Any

import numpy as np

from edge_et.camera.change import has_cluster, to_blocks
from edge_et.camera.frames import Frame
from edge_et.camera.ignored_regions import Ignored, ignored_blocks
from edge_et.errors import MissingExtraError, OptionError

_FOREGROUND = 255  # 127 is what MOG2 takes for a shadow


class BackgroundChange:
    """A `ChangeDetector` with OpenCV's MOG2; needs the extra ``opencv``."""

    def __init__(self, *, history: int = 500, ignored: Ignored = ()) -> None:
        """Learn nothing yet: the first frame has changed.

        Args:
            history: frames in which the background is learnt, at least 1.
            ignored: regions in which nothing counts; see `Ignored`.

        Raises:
            MissingExtraError: OpenCV is not installed.
            OptionError: an argument is none of these.
        """
        try:
            import cv2
        except ModuleNotFoundError as err:
            raise MissingExtraError("cv2", "opencv", ", or apt install python3-opencv") from err
        if isinstance(history, bool) or not isinstance(history, int) or not 1 <= history < 2**31:
            raise OptionError("history", history, "a whole number of at least 1")
        ignored_blocks(ignored, 1, 1)
        self._ignored = ignored
        self._subtractor: Any = cv2.createBackgroundSubtractorMOG2(history=history)
        self._size: tuple[int, ...] = ()

    def has_changed(self, frame: Frame) -> bool:
        """Return whether something is in front of the background; see `ChangeDetector`."""
        blocks = np.round(to_blocks(frame.picture)).astype(np.uint8)
        found = self._subtractor.apply(blocks)
        if self._size != frame.picture.shape:
            self._size = frame.picture.shape
            return True
        in_front = found == _FOREGROUND
        return has_cluster(in_front & ~ignored_blocks(self._ignored, *in_front.shape))
