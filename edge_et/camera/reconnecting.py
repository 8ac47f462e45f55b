"""A camera in the network is lost and comes back.

In: what reads one connection. Out: frames of one connection after the other, and an error whenever
one is lost. Protocols are not known here.
"""

import logging
import random
from collections.abc import Callable, Generator
from contextlib import closing

from edge_et.camera.frames import Decode
from edge_et.camera.latest_frame import Frames
from edge_et.camera.pauses import pause
from edge_et.cancellation import CancelToken
from edge_et.errors import CameraError

logger = logging.getLogger(__name__)

FIRST_WAIT_S = 1.0
MOST_WAIT_S = 60.0


class ConnectionLostError(Exception):
    """A connection gives no frames, or no more; its text holds nothing that is secret."""

    def __init__(self, reason: str, *, is_refusal: bool = False) -> None:
        """Say why.

        Args:
            reason: what happened.
            is_refusal: whether the camera answers, and to ask again would not help.
        """
        self.is_refusal = is_refusal
        super().__init__(reason)


Connection = Callable[[CancelToken], Generator[Decode, None, None]]
"""Connects and gives frames until it raises a `ConnectionLostError`, ends, or is stopped."""


def reconnecting(connect: Connection, shown: str, stop: CancelToken) -> Frames:
    """Connect again whenever the connection is lost, after 1, 2, 4 seconds, up to a minute.

    Args:
        connect: gives the frames of one connection.
        shown: the camera, as it may be logged.
        stop: ends it.

    Raises:
        CameraError: the camera refuses what it is asked for, and has never given a frame.
    """
    wait_s, has_worked = FIRST_WAIT_S, False
    while not stop.is_cancelled:
        reason = "it ended the connection"
        try:
            with closing(connect(stop)) as frames:
                for frame in frames:
                    if wait_s > FIRST_WAIT_S or not has_worked:
                        logger.info("%s: frames come", shown)
                    wait_s, has_worked = FIRST_WAIT_S, True
                    yield frame
        except ConnectionLostError as err:
            if err.is_refusal and not has_worked:
                raise CameraError(shown, str(err)) from None
            reason = str(err)
        if stop.is_cancelled:
            return
        # Cameras that a power cut ended together are not all asked at the same moment.
        wait_s *= random.uniform(0.8, 1.2)
        logger.warning("%s: %s; connecting again in %.0f s", shown, reason, wait_s)
        yield CameraError(shown, f"{reason}; it is connected to again and again")
        pause(wait_s, stop)
        wait_s = min(2 * wait_s, MOST_WAIT_S)
