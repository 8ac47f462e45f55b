"""Cancelling a call while its models run, from any thread.

In: a wish to end. Out: a flag that native code looks at between two nodes of a graph, and calls to
whoever has another way to stop. What is stopped is not known here.

llama.cpp asks a callback after every node of its graph. One in Python would wait for the
interpreter there, some thousand times a batch; `strlen` of libc over two bytes is such a callback
as it is: 0 while the first byte is 0, and 1 afterwards.
"""

import ctypes
import functools
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from edge_et.errors import CancelledError


class CancelToken:
    """Ends the calls that it was given to, at once and for good; any thread may cancel it."""

    def __init__(self) -> None:
        """Begin with nothing cancelled."""
        self._flag = ctypes.create_string_buffer(2)
        # A signal handler may come in where its own thread is inside.
        self._lock = threading.RLock()
        self._watchers: list[Callable[[], object]] = []

    def cancel(self) -> None:
        """End the calls; may be called again, and before they begin."""
        self._flag[0] = b"\x01"
        with self._lock:
            watchers = list(self._watchers)
        for watcher in watchers:
            watcher()

    @property
    def is_cancelled(self) -> bool:
        """Whether `cancel` was called."""
        return self._flag[0] != b"\0"

    @property
    def address(self) -> int:
        """Where native code reads a byte, 0 while nothing is cancelled; as long as this lives."""
        return ctypes.addressof(self._flag)

    def check(self) -> None:
        """Raise a `CancelledError` if `cancel` was called."""
        if self.is_cancelled:
            raise CancelledError

    @contextmanager
    def watch(self, watcher: Callable[[], object]) -> Iterator[None]:
        """Call something when the token is cancelled while the block runs, or was before.

        Args:
            watcher: is quick, raises nothing, and may be called by any thread.
        """
        with self._lock:
            self._watchers.append(watcher)
        try:
            if self.is_cancelled:
                watcher()
            yield
        finally:
            with self._lock:
                self._watchers.remove(watcher)


@functools.cache
def native_callback() -> ctypes.c_void_p:
    """Return a C function that says whether the byte it is pointed to is set."""
    libc = ctypes.cdll.msvcrt if os.name == "nt" else ctypes.CDLL(None)
    return ctypes.cast(libc.strlen, ctypes.c_void_p)
