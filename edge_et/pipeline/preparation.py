"""Work of a pipeline for the next program, done when its first answer is written.

In: work, which calls back every few milliseconds. Out: nothing; it takes place in a thread that
gives way to all others, and ends with the pipeline, done or not. What the work is, is not known
here.
"""

import logging
import os
import sys
import threading
from collections.abc import Callable

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

    def add(self, work: Work) -> None:
        """Have work done later.

        Args:
            work: what; an error of ours, or of the operating system, is logged.
        """
        self._works.append(work)

    def begin(self) -> None:
        """Do the work from now on, if there is any; may be called again."""
        works, self._works = self._works, []
        if not works or self._ended.is_set():
            return
        thread = threading.Thread(
            target=self._run, args=(works,), name=f"{THREAD_PREFIX}preparation", daemon=True
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

    def _run(self, works: list[Work]) -> None:
        if sys.platform == "linux":  # where a thread has a priority of its own
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _LOWEST_PRIORITY)
        for work in works:
            try:
                self._go_on()
                work(self._go_on)
            except _EndedError:
                return
            except (EdgeETError, OSError) as err:
                logger.warning("nothing is prepared for the next time: %s", err)

    def _go_on(self) -> None:
        if self._ended.is_set():
            raise _EndedError
