"""The lock of a pipeline: one call at a time, in the order in which they came.

A call has the pipeline from its begin to its end. A stream is such a call, which no thread runs
between two events: any thread may go on with it, or nobody may. So access belongs to the call, and
knows which thread is inside. It is referred to weakly here: what a signal handler's exception cut
off between two steps is forgotten with the call.
"""

import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import TypeVar

from edge_et.errors import BusyError, ClosedError, ForkedError
from edge_et.native_threads import THREAD_PREFIX

E = TypeVar("E")
R = TypeVar("R")

# A stream that nobody continues for so long is not waited for: where all workers of a server wait,
# none is left to continue it.
_PATIENCE_S = 30.0

# The same for the only thread that ever ran the stream, and would most likely wait for itself.
_OWN_PATIENCE_S = 5.0

_LOOK_AGAIN_S = 1.0


class Access:
    """What one call has to the pipeline, waits for, or had.

    Attributes:
        thread: which is inside; None: none is.
        threads: all that ever were.
        left_at: when the last one went, seconds of a clock that only goes forward.
    """

    def __init__(self, lock: "PipelineLock") -> None:
        """Begin with this thread inside; `PipelineLock.access` does it.

        Args:
            lock: of the pipeline.
        """
        self._lock = lock
        self.thread: int | None = threading.get_ident()
        self.threads = {self.thread}
        self.left_at = 0.0

    def lend_events(self, events: Generator[E, None, R]) -> Generator[E, None, R]:
        """Pass events on; while the caller has one of them, no thread is inside.

        Raises:
            EdgeETError: as for `PipelineLock.check`, where the caller comes back too late.
        """
        while True:
            try:
                event = next(events)
            except StopIteration as stop:
                result: R = stop.value
                return result
            self._lock.leave(self)
            yield event
            if not self.regain():
                self._lock.check()

    def regain(self) -> bool:
        """Let this thread be inside if it is not; return False where the pipeline is gone."""
        return self._lock.enter(self)


class PipelineLock:
    """Lets calls in one after the other, and closes when no thread is inside."""

    def __init__(self) -> None:
        """Begin free."""
        self._process_id = os.getpid()
        self._changed = threading.Condition()
        self._current: weakref.ref[Access] | None = None
        self._waiting: deque[weakref.ref[Access]] = deque()
        self._closed = False
        self._free: Callable[[], object] | None = None

    def check(self) -> None:
        """Raise what every call would.

        Raises:
            ForkedError: another process opened the pipeline.
            ClosedError: it was closed.
        """
        if not self._is_own_process():
            raise ForkedError("pipeline")
        if self._closed:
            raise ClosedError("pipeline")

    @contextmanager
    def access(self) -> Iterator[Access]:
        """Have the pipeline while the block runs, after all calls that came before.

        Raises:
            BusyError: a stream has it that nobody continues, or this thread is inside already.
            EdgeETError: as for `check`.
        """
        self.check()
        access = Access(self)
        try:
            self._take(access)
            yield access
        finally:
            if self._is_own_process():
                self._give_back(access)
                self._free_if_asked()

    def leave(self, access: Access) -> None:
        """Let no thread be inside; the call keeps its access."""
        with self._changed:
            access.thread, access.left_at = None, monotonic()
            if self._closed:
                self._changed.notify_all()
        self._free_if_asked()

    def enter(self, access: Access) -> bool:
        """Let this thread be inside; return False where the pipeline was closed meanwhile."""
        if not self._is_own_process():
            return False
        with self._changed:
            if self._closed and access.thread is None:
                return False
            access.thread = threading.get_ident()
            access.threads.add(access.thread)
            return True

    def close(self, free: Callable[[], object]) -> None:
        """Let nobody in any more, wait until no thread is inside, and free; may be called again.

        Where this thread is inside, a signal handler calls, and what is held is freed when the
        thread leaves. A forked child frees nothing.

        Args:
            free: frees what the calls use.
        """
        if not self._is_own_process():
            return
        with self._changed:
            if self._closed:
                return
            self._closed = True
            self._changed.notify_all()
            if self._thread_inside() == threading.get_ident():
                self._free = free
                return
            while self._thread_inside() is not None:
                self._changed.wait(_LOOK_AGAIN_S)
        free()

    def _take(self, access: Access) -> None:
        own = weakref.ref(access)
        with self._changed:
            # A signal handler goes before the call of its thread, which cannot go on before it.
            is_nested = any(other.thread == access.thread for other in self._alive())
            (self._waiting.appendleft if is_nested else self._waiting.append)(own)
            while not self._closed and not self._is_next(own):
                self._changed.wait(self._patience(self._access()))
            if self._closed:
                raise ClosedError("pipeline")
            self._current = self._waiting.popleft()

    def _give_back(self, access: Access) -> None:
        own = weakref.ref(access)
        with self._changed:
            if self._current == own:
                self._current = None
            elif own in self._waiting:
                self._waiting.remove(own)
            self._changed.notify_all()

    def _access(self) -> Access | None:
        return None if self._current is None else self._current()

    def _alive(self) -> Iterator[Access]:
        return (access for ref in self._waiting if (access := ref()) is not None)

    def _is_next(self, own: "weakref.ref[Access]") -> bool:
        while self._waiting[0]() is None:
            self._waiting.popleft()
        return self._access() is None and self._waiting[0] is own

    def _patience(self, other: Access | None) -> float:
        """Return for how long to wait before it is looked again who has the pipeline.

        Args:
            other: has it now; None: another one is next.

        Raises:
            BusyError: there is no use in waiting.
        """
        this = threading.get_ident()
        if other is None:
            return _LOOK_AGAIN_S
        if other.thread is None:
            own = other.threads == {this}
            patience = _OWN_PATIENCE_S if own else _PATIENCE_S
            left = other.left_at + patience - monotonic()
            if left > 0 and not (own and _is_only_thread()):
                return min(left, _LOOK_AGAIN_S)
        elif other.thread != this:
            return _LOOK_AGAIN_S
        raise BusyError

    def _is_own_process(self) -> bool:
        """Return whether the lock may be touched: in a fork, a thread that is lost may hold it."""
        return os.getpid() == self._process_id

    def _thread_inside(self) -> int | None:
        access = self._access()
        return None if access is None else access.thread

    def _free_if_asked(self) -> None:
        free, self._free = self._free, None
        if free is not None:
            free()


def _is_only_thread() -> bool:
    """Return whether the program has no other thread; those that edge-et began do not count."""
    others = [t for t in threading.enumerate() if not t.name.startswith(THREAD_PREFIX)]
    return len(others) == 1
