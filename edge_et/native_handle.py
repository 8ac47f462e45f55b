"""What is held of a native library: used by one thread at a time, freed when nobody uses it.

In: how to open something, and how to free it. Out: the pointer or object, to whoever holds the
lock. Freeing waits for the thread inside. The end of the process waits too, lets nobody in any more
and frees nothing: static objects of the libraries are destroyed next, while daemon threads go on. A
forked child neither uses nor frees what its parent opened: the memory is all there, but the threads
are lost, and so is what they had locked.

An exception of a signal handler may come between any two steps of Python, but not between the steps
of ``with`` and a lock of the interpreter: so users hold the lock itself.
"""

import atexit
import ctypes
import os
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from edge_et.errors import ClosedError, ForkedError
from edge_et.native_threads import call_undisturbed, compute, keep_to_main_thread

T = TypeVar("T")

# A daemon thread that comes when the program ends is stopped with it. If the program has not ended
# by then, a handler of atexit may be waiting for the very thread.
_LAST_WAIT_S = 1.0

_handles: "weakref.WeakSet[NativeHandle[Any]]" = weakref.WeakSet()
_registering = threading.RLock()
_is_ending = False


class NativeHandle(Generic[T]):
    """One thing of a native library."""

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
        self._lock: Any = threading.RLock()
        self._closing = False
        self._value: T | None = None
        with _registering:
            _handles.add(self)
        self._check_end()
        with self._lock:
            call_undisturbed(lambda: self._take_over(opened(), free, over))

    def _take_over(
        self, value: T, free: Callable[[T], object] | None, over: "NativeHandle[Any] | None"
    ) -> None:
        self._free = weakref.finalize(self, _free, self._process_id, value, free, over)
        self._free.atexit = False
        self._value = value

    @property
    def is_open(self) -> bool:
        """Whether it was not closed yet."""
        return self._value is not None and not self._closing

    @property
    def lock(self) -> Any:
        """What to hold while `value` is used: no other thread uses it then, and nobody frees it.

        Raises:
            ForkedError: another process opened it.
            ClosedError: the program ends, and waits for this thread.
        """
        if not self._is_own():
            raise ForkedError(self._what)
        self._check_end()
        return self._lock

    @property
    def value(self) -> T:
        """The pointer or object; the caller holds the lock.

        Raises:
            ClosedError: it was closed.
        """
        if self._closing:
            self._close()
        if self._value is None:
            raise ClosedError(self._what)
        return self._value

    def close(self) -> None:
        """Free it as soon as nobody uses it; may be called again.

        Another thread is waited for. Where this one is inside, a signal handler calls; it is freed
        when it is forgotten, or used next.
        """
        if _is_ending or not self._is_own():
            return
        is_inside = self._lock._is_owned()
        self._closing = True
        if not is_inside:
            with self._lock:
                self._close()

    def _close(self) -> None:
        if self._value is not None:
            self._value = None
            compute(self._free)

    def _is_own(self) -> bool:
        """Return whether this process opened it; in a fork, a lost thread may hold the lock."""
        return os.getpid() == self._process_id

    def _check_end(self) -> None:
        if _is_ending and threading.current_thread() is not threading.main_thread():
            time.sleep(_LAST_WAIT_S)
            raise ClosedError(self._what)


def _free(
    process_id: int, value: T, free: Callable[[T], object] | None, _: "NativeHandle[Any] | None"
) -> None:
    if free is not None and os.getpid() == process_id:
        free(value)


@atexit.register
def _wait_at_the_end() -> None:
    global _is_ending
    _is_ending = True
    keep_to_main_thread()
    with _registering:
        handles = list(_handles)
    for handle in handles:
        if handle._is_own():
            handle._lock.acquire()


def _after_fork() -> None:
    """Keep what a child inherited: freeing it would wait for threads that are lost.

    ONNX Runtime does that when the last reference to a session goes, at the end of the child.
    """
    global _registering
    _registering = threading.RLock()
    for handle in list(_handles):
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(handle._value))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
