"""Forked children: whether this process is one, and where it may compute.

A child has the memory of its parent, and of its threads the forking one alone. libgomp keeps the
threads of a parallel region with the thread that began it: in the child the forking thread waits
for ever for threads that are gone, while every thread made after the fork gets new ones. The thread
pools of ONNX Runtime belong to a session, and are lost with it.
"""

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar

R = TypeVar("R")

_forking_thread: int | None = None  # of the parent, and the first one of this process
_computing: ThreadPoolExecutor | None = None


def compute(work: Callable[..., R], *args: object) -> R:
    """Call what begins a parallel region, in a thread where its threads are alive.

    Args:
        work: a function of a native library, which is not interrupted.
        args: its arguments.

    Returns:
        What it returns.
    """
    global _computing
    if threading.get_ident() != _forking_thread:
        return work(*args)
    if _computing is None:
        _computing = ThreadPoolExecutor(1, "edge-et compute")
    return _finished(_computing.submit(work, *args))


def _finished(future: "Future[R]") -> R:
    """Wait for the end, also when a signal handler raises meanwhile, as a native call would."""
    try:
        return future.result()
    finally:
        while not future.done():
            with suppress(BaseException):
                future.exception()


def _after_fork() -> None:
    global _forking_thread, _computing
    _forking_thread, _computing = threading.get_ident(), None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
