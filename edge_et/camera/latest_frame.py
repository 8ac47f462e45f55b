"""The newest frame of a source, which a thread reads as fast as it comes.

In: an iterator over frames. Out: the newest one, when somebody asks; older ones are dropped and
counted. At most three frames are in memory: the one that is asked about, the newest, and the one
that is being read. What frames show is not known here.
"""

import logging
import threading
from collections.abc import Callable, Generator
from contextlib import closing
from datetime import UTC, datetime

from edge_et.camera.frames import Decode, ReceivedFrame
from edge_et.cancellation import CancelToken
from edge_et.errors import CameraError

logger = logging.getLogger(__name__)

Frames = Generator[Decode | CameraError, None, None]
"""Frames of a source; an error says that it was lost for now."""

FrameReader = Callable[[CancelToken], Frames]
"""Begins to read a source; the token ends that, within `JOIN_S` seconds."""

JOIN_S = 12.0
"""Longer than any source of ours waits for a frame."""


class LatestFrame:
    """Holds the newest frame. One thread takes frames; any may stop it by the token."""

    def __init__(self, read: FrameReader, stop: CancelToken) -> None:
        """Begin to read.

        Args:
            read: gives frames.
            stop: ends the reading.
        """
        self._changed = threading.Condition()
        self._newest: ReceivedFrame | None = None
        self._lost: CameraError | None = None
        self._error: BaseException | None = None
        self._has_ended = False
        self._received = self._dropped = 0
        self._stop = stop
        # A daemon, so that a source of the caller's own that never gives a frame ends with the
        # process.
        self._thread = threading.Thread(
            target=self._read, args=(read,), name="edge-et-camera", daemon=True
        )
        self._thread.start()

    @property
    def has_ended(self) -> bool:
        """Whether the source has ended by itself, and all that it gave was taken."""
        with self._changed:
            left = self._newest or self._lost or self._error
            return self._has_ended and left is None

    def take(self, timeout_s: float) -> ReceivedFrame | CameraError | None:
        """Return the newest frame, or that the source was lost behind it; None: nothing is new.

        Args:
            timeout_s: how long to wait for one.

        Raises:
            BaseException: what ended the source.
        """
        with self._stop.watch(self._wake), self._changed:
            self._changed.wait_for(
                lambda: self._newest or self._lost or self._has_ended or self._stop.is_cancelled,
                timeout_s,
            )
            taken: ReceivedFrame | CameraError | None
            if self._newest is not None:
                taken, self._newest = self._newest, None
            else:
                taken, self._lost = self._lost, None
            if taken is None and self._error is not None:
                raise self._error
            return taken

    def take_dropped(self) -> int:
        """Return how many frames were dropped since this was asked for the last time."""
        with self._changed:
            dropped, self._dropped = self._dropped, 0
            return dropped

    def join(self) -> None:
        """Wait until nothing is read any more; the token was cancelled before."""
        if self._thread is threading.current_thread():
            return
        self._thread.join(JOIN_S)
        if self._thread.is_alive():
            logger.warning(
                "a source of frames does not end: its thread is left behind until it gives a frame"
            )

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _read(self, read: FrameReader) -> None:
        error: BaseException | None = None
        try:
            with closing(read(self._stop)) as frames:
                for item in frames:
                    if self._stop.is_cancelled:
                        break
                    self._put(item)
        except BaseException as err:  # the caller's own may raise anything, and shall see it
            error = err
        with self._changed:
            self._error, self._has_ended = error, True
            if self._stop.is_cancelled:
                self._newest = None
            self._changed.notify_all()

    def _put(self, item: Decode | CameraError) -> None:
        with self._changed:
            if isinstance(item, CameraError):
                self._lost = item
            else:
                self._dropped += self._newest is not None
                self._newest = ReceivedFrame(self._received, datetime.now(UTC), item)
                self._received += 1
                self._lost = None
            self._changed.notify_all()
