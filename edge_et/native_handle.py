"""What is held of a native library: used by one thread at a time, freed when nobody uses it.

In: how to open something, and how to free it. Out: the pointer or object, for as long as a block
runs. Freeing waits for the thread inside. The end of the process waits too, lets nobody in any more
and frees nothing: static objects of the libraries are destroyed next, while daemon threads go on. A
forked child neither uses nor frees what its parent opened: the memory is all there, but the threads
are lost, and so is what they had locked.
"""

import atexit
import ctypes
import os
import threading
import weakref
from collections.abc import Callable
from types import TracebackType
from typing import Any, Generic, TypeVar

from edge_et.errors import ClosedError, ForkedError

T = TypeVar("T")

_handles: "weakref.WeakSet[NativeHandle[Any]]" = weakref.WeakSet()
_opening = threading.RLock()


class NativeHandle(Generic[T]):
    """One thing of a native library; a context manager around each use of it."""

    def __init__(
        self,
        what: str,
        opened: Callable[[], T],
        free: Callable[[T], object] | None = None,
        *,
        over: "NativeHandle[Any] | None" = None,
    ) -> None:
        """Open it.

        Args:
            what: its name in errors, e.g. ``KV cache``.
            opened: returns the pointer or object, or raises an error of ours.
            free: called once with it; None: it is let go.
            over: what it is made of, which lives until this was freed, unless somebody closes it.
        """
        self._what = what
        self._process_id = os.getpid()
        # A signal handler may come in where its own thread is inside.
        self._lock = threading.RLock()
        self._uses = 0
        self._closing = False
        self._value: T | None = None
        with _opening:
            _handles.add(self)
        with self._lock:
            value = opened()
            self._free = weakref.finalize(self, _free, self._process_id, value, free, over)
            self._free.atexit = False
            self._value = value

    @property
    def is_open(self) -> bool:
        """Whether it was not closed yet."""
        return self._value is not None

    def __enter__(self) -> T:
        """Wait until no other thread uses it.

        Raises:
            ForkedError: another process opened it.
            ClosedError: it was closed.
        """
        if not self._is_own():
            raise ForkedError(self._what)
        self._lock.acquire()
        if self._value is None:
            self._lock.release()
            raise ClosedError(self._what)
        self._uses += 1
        return self._value

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._uses -= 1
        if self._closing:
            self._close()
        self._lock.release()

    def close(self) -> None:
        """Free it as soon as nobody uses it; may be called again.

        Another thread is waited for. Where this one uses it, a signal handler calls, and it is
        freed at the end of that use.
        """
        if self._is_own():
            with self._lock:
                self._closing = True
                self._close()

    def _close(self) -> None:
        if self._uses == 0 and self._value is not None:
            self._value = None
            self._free()

    def _is_own(self) -> bool:
        """Return whether this process opened it; in a fork, a lost thread may hold the lock."""
        return os.getpid() == self._process_id


def _free(
    process_id: int, value: T, free: Callable[[T], object] | None, _: "NativeHandle[Any] | None"
) -> None:
    if free is not None and os.getpid() == process_id:
        free(value)


@atexit.register
def _keep_out() -> None:
    _opening.acquire()
    for handle in list(_handles):
        if handle._is_own():
            handle._lock.acquire()


def _after_fork() -> None:
    """Keep what a child inherited: freeing it would wait for threads that are lost.

    ONNX Runtime does that when the last reference to a session goes, at the end of the child.
    """
    global _opening
    _opening = threading.RLock()
    for handle in list(_handles):
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(handle._value))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
