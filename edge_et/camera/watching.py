"""Watching: an answer about the newest frame, again and again.

In: a source, a question, options. Out: events. How frames are had, and what a change is, is said in
the modules beside.
"""

import math
import os
import weakref
from contextlib import ExitStack
from datetime import UTC, datetime
from time import monotonic
from typing import Self, Unpack

from edge_et.camera.change import ChangeDetector
from edge_et.camera.events import WatchEvent
from edge_et.camera.frames import Frame, ReceivedFrame
from edge_et.camera.latest_frame import FrameReader, LatestFrame
from edge_et.camera.pauses import pause
from edge_et.camera.sources import FRAME_S, Source, open_source
from edge_et.camera.throttling import Rest
from edge_et.cancellation import CancelToken
from edge_et.errors import (
    AnswerValueError,
    BusyError,
    CameraError,
    CancelledError,
    DecodeError,
    EdgeETError,
    ImageError,
    OptionError,
    QueueFullError,
    VisionRunError,
)
from edge_et.keywords import OptionValues, with_options
from edge_et.options import parse_options
from edge_et.pipeline import ExtractThink, check_asked, load

MOST_FAILURES = 10
"""So many frames in a row may fail; the error of the next one is raised."""

# What another frame, or another moment, may do without. All else ends the watch.
_PASSING = (
    AnswerValueError,
    BusyError,
    DecodeError,
    ImageError,
    QueueFullError,
    VisionRunError,
)


class Watch:
    """An iterator over `WatchEvent`s; `edge_et.watch` returns one. One thread may iterate.

    A context manager. It ends with its source, by `close`, and by an exception that it raises.
    """

    def __init__(
        self,
        read: FrameReader,
        question: str,
        pipeline: ExtractThink,
        options: OptionValues,
        *,
        every: float,
        changed: ChangeDetector | None,
        owned: ExitStack,
    ) -> None:
        """Begin to read frames; `watch` checks the arguments.

        Args:
            read: gives the frames.
            question: as for `watch`.
            pipeline: answers.
            options: of each answer.
            every: as for `watch`.
            changed: as for `watch`.
            owned: is closed at the end.
        """
        self._question = question
        self._pipeline = pipeline
        self._options = options
        self._every_s = every
        self._changed = changed
        self._owned = owned
        self._rest = Rest()
        self._due_s = monotonic()
        self._failures = 0
        self._is_inside = False
        self._stop = CancelToken()
        self._latest = LatestFrame(read, self._stop)
        # A watch that is forgotten leaves no thread behind; the thread does not know the watch.
        self._forgotten = weakref.finalize(self, self._stop.cancel)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> WatchEvent:
        """Wait for a frame that is to be looked at, and return the answer about it.

        Raises:
            StopIteration: the source has ended, or the watch was closed.
            CameraError: the source can never be read.
            EdgeETError: an error of `edge_et.answer` that no other frame helps against, or the last
                of `MOST_FAILURES` and one in a row.
            Exception: whatever a source or a detector of the caller's own raises.
        """
        self._is_inside = True
        try:
            event = self._next()
        except BaseException:
            self._stop.cancel()
            raise
        finally:
            self._is_inside = False
            if self._stop.is_cancelled:
                self._free()
        if event is None:
            self.close()
            raise StopIteration
        return event

    def close(self) -> None:
        """End the watch, an answer under way too; may be called again, from any thread.

        A signal handler may call it. Whoever waits in the watch gets a `StopIteration`.
        """
        self._stop.cancel()
        if not self._is_inside:  # else whoever is there does it
            self._free()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def _free(self) -> None:
        self._latest.join()
        self._owned.close()

    def _next(self) -> WatchEvent | None:
        while not self._stop.is_cancelled and not self._latest.has_ended:
            pause(self._due_s - monotonic(), self._stop)
            taken = self._latest.take(FRAME_S)
            if isinstance(taken, CameraError):
                return WatchEvent(
                    time=datetime.now(UTC), error=taken, dropped=self._latest.take_dropped()
                )
            if taken is not None and (event := self._look(taken)) is not None:
                return event
        return None

    def _look(self, received: ReceivedFrame) -> WatchEvent | None:
        """Answer about a frame; None: it has not changed, or the watch was closed meanwhile."""
        start_s = monotonic()
        frame: Frame | None = None
        answer, error = None, None
        try:
            frame = received.open()
            if self._changed is not None and not self._changed.has_changed(frame):
                self._due_s = start_s + FRAME_S
                return None
            answer = self._pipeline.answer(
                frame.picture, self._question, cancel=self._stop, **self._options
            )
            self._failures = 0
        except CancelledError:
            return None
        except _PASSING as err:
            self._failures += 1
            if self._failures > MOST_FAILURES:
                raise
            error = err
        now_s = monotonic()
        rest_s = self._rest.seconds_behind(now_s - start_s)
        self._due_s = max(start_s + self._every_s, now_s + rest_s)
        return WatchEvent(
            time=received.time,
            frame=frame,
            dropped=self._latest.take_dropped(),
            answer=answer,
            error=_without_traceback(error),
            is_throttled=self._rest.is_throttled,
        )


@with_options
def watch(
    source: Source,
    question: str,
    model: str | os.PathLike[str] | ExtractThink | None = None,
    *,
    every: float = 1.0,
    changed: ChangeDetector | None = None,
    **options: Unpack[OptionValues],
) -> Watch:
    """Ask about the frames of a camera, again and again, the newest one each time.

    A thread reads the source. While an answer is computed, frames are dropped and counted. A frame
    that cannot be used, and a camera that is lost for a while, are told as events; after ten of the
    former in a row, and for what no other frame helps against, there is an error. Network cameras
    are connected to again by themselves. Where the system slows the CPU down for heat, answers come
    less often.

    Args:
        source: a URL of RTSP (extra ``rtsp``) or of MJPEG over HTTP; a folder, whose pictures are
            taken as they appear; a `Picamera2` that is started; an open `cv2.VideoCapture` of a
            camera, or of a file, which is read at its own speed; a function that returns a picture,
            or None while there is none; or an iterable of pictures, which is read as fast as it
            gives them. Pictures are as for `edge_et.answer`.
        question: one or more sentences.
        model: as for `load`; or a pipeline, which stays open.
        every: seconds from one look to the next at least, 0 or more.
        changed: whether a frame is looked at, as `edge_et.camera.BlockChange()` decides it; None:
            every frame may be.
        options: as for `edge_et.answer`; `deadline_s` is that of each answer.

    Returns:
        The events: an iterator and context manager, to be closed.

    Raises:
        OptionError: an argument is out of its range, or the source is none of these.
        CameraError: the source cannot be used as it is.
        EdgeETError: as for `load`.
    """
    check_asked(question, parse_options(options))
    is_number = isinstance(every, int | float) and not isinstance(every, bool)
    if not is_number or not 0 <= every < math.inf:
        raise OptionError("every", every, "a finite number of at least 0")
    if changed is not None and not callable(getattr(changed, "has_changed", None)):
        raise OptionError("changed", changed, "a change detector, such as BlockChange(), or None")
    read = open_source(source)  # before seconds are spent on loading
    with ExitStack() as owned:
        if not isinstance(model, ExtractThink):
            model = owned.enter_context(load(model))
        return Watch(
            read,
            question,
            model,
            options,
            every=every,
            changed=changed,
            owned=owned.pop_all(),
        )


def _without_traceback(error: EdgeETError | None) -> EdgeETError | None:
    # It would keep the frame and all around it for as long as somebody keeps the event.
    return None if error is None else error.with_traceback(None)
