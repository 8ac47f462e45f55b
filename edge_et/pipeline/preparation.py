"""Work of a pipeline for the next program, done when its first answer is written.

In: work, which calls back every few milliseconds. Out: nothing; it takes place in a thread that
gives way to all others, and ends with the pipeline, closed or forgotten, done or not. What the work
is, is not known here.
"""

import logging
import os
import sys
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress

from edge_et.errors import EdgeETError
from edge_et.native_threads import THREAD_PREFIX

Work = Callable[[Callable[[], None]], object]
"""Work that calls back every few milliseconds."""

_LOWEST_PRIORITY = 19
_END_WAIT_S = 0.5  # most of the work calls back sooner; the rest may go on, and leaves nothing half

logger = logging.getLogger(__name__)


class _EndedError(Exception):
    """The pipeline is closed."""


class Preparation:
    """The work of one pipeline."""

    def __init__(self) -> None:
        """Begin with nothing to do."""
        self._works: list[Work] = []
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        weakref.finalize(self, self._ended.set).atexit = False

    def add(self, work: Work) -> None:
        """Have work done later.

        Args:
            work: what, holding nothing of the pipeline; an error is logged, and the rest is done.
        """
        self._works.append(work)

    def begin(self) -> None:
        """Do the work from now on, if there is any; may be called again."""
        works, self._works = self._works, []
        if not works or self._ended.is_set():
            return
        thread = threading.Thread(
            target=_run, args=(works, self._ended), name=f"{THREAD_PREFIX}preparation", daemon=True
        )
        try:
            thread.start()
        except RuntimeError:  # the interpreter is about to end, and gives no threads
            return
        self._thread = thread

    def close(self) -> None:
        """End the work; may be called again."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join(_END_WAIT_S)


def _run(works: list[Work], ended: threading.Event) -> None:
    """Do the work, holding nothing of the pipeline, which may be forgotten meanwhile."""

    def go_on() -> None:
        if ended.is_set():
            raise _EndedError

    if sys.platform == "linux":  # where a thread has a priority of its own
        with suppress(OSError):  # some containers forbid it
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _LOWEST_PRIORITY)
    for work in works:
        try:
            go_on()
            work(go_on)
        except _EndedError:
            return
        except (EdgeETError, OSError) as err:
            logger.warning("nothing is prepared for the next time: %s", err)
        except MemoryError:
            logger.warning("nothing is prepared for the next time: there is not enough memory")
        except Exception:
            logger.exception("nothing is prepared for the next time")
