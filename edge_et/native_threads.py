"""Threads for native work that this thread cannot do: forked children, and signals.

A forked child has the memory of its parent, and of its threads the forking one alone. libgomp keeps
the threads of a parallel region with the thread that began it: in the child the forking thread
waits for ever for threads that are gone, while every thread made after the fork gets new ones. The
thread pools of ONNX Runtime belong to a session, and are lost with it.

Python runs signal handlers in the main thread, also where a library calls back from there: what a
handler raises then is lost. In other threads no handler runs. While the main thread is in native
code, none runs at all: so what takes long is done by another thread, and the main one waits for it.
"""

import os
import queue
import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar

R = TypeVar("R")

THREAD_PREFIX = "edge-et "
"""How the names of our own threads begin."""

_forking_thread: int | None = None  # of the parent, and the first one of this process
_is_ending = False
_computing: "queue.SimpleQueue[_Job[Any]] | None" = None  # what the thread that computes takes


def compute(work: Callable[..., R], *args: object, stop: Callable[[], object] | None = None) -> R:
    """Call what begins a parallel region, in a thread where its threads are alive.

    Args:
        work: a function of a native library.
        args: its arguments.
        stop: lets the work end early, and is called where a signal handler raises meanwhile; None:
            the work is short, and handlers run behind it.

    Returns:
        What it returns.

    Raises:
        BaseException: what a signal handler raised, or else what the work did.
    """
    global _computing
    is_main = not _is_ending and threading.current_thread() is threading.main_thread()
    is_forked = threading.get_ident() == _forking_thread
    if not is_forked and not (is_main and stop):
        return work()
    if _computing is None:
        # One for all calls, so that libgomp has its threads at hand.
        jobs: queue.SimpleQueue[_Job[Any]] = queue.SimpleQueue()
        try:
            _start("compute", _take_jobs, jobs)
        except RuntimeError:  # the interpreter is about to end, and gives no threads
            if is_forked:
                raise
            return work()
        _computing = jobs
    job = _Job(work)
    _computing.put(job)
    return job.result(stop)


def keep_to_main_thread() -> None:
    """Let the main thread compute itself from now on: the program ends, and stops the others."""
    global _is_ending
    _is_ending = True


def call_undisturbed(work: Callable[[], R]) -> R:
    """Call what a signal handler may not interrupt, as it is called back by a library.

    Args:
        work: is done to its end, also where a handler raises meanwhile.

    Returns:
        What it returns.

    Raises:
        BaseException: what it raised, or else what a handler did.
    """
    job = _Job(work)
    if threading.current_thread() is not threading.main_thread():
        job.do()
    else:
        try:
            _start("opening", job.do)
        except RuntimeError:  # the interpreter is about to end, and gives no threads
            job.do()
    return job.result()


class _Job(Generic[R]):
    """Work for another thread."""

    def __init__(self, work: Callable[[], R]) -> None:
        self._work = work
        self._is_done = threading.Event()
        self._error: BaseException | None = None
        self._result: R

    def do(self) -> None:
        """Do it; called once."""
        try:
            self._result = self._work()
        except BaseException as err:
            self._error = err
        finally:
            self._is_done.set()

    def result(self, stop: Callable[[], object] | None = None) -> R:
        """Wait for the end, also when a signal handler raises meanwhile, as a native call would.

        Args:
            stop: is called then.
        """
        raised: BaseException | None = None
        while not self._is_done.is_set():
            try:
                self._is_done.wait()
            except BaseException as err:
                raised = raised or err
                if stop is not None:
                    stop()
        # What was stopped may well fail.
        error = (self._error or raised) if stop is None else (raised or self._error)
        self._error = None  # whose traceback leads here
        if error is not None:
            try:
                raise error
            finally:
                del error
        return self._result


def _take_jobs(jobs: "queue.SimpleQueue[_Job[Any]]") -> None:
    while True:
        jobs.get().do()


def _start(name: str, target: Callable[..., None], *args: object) -> None:
    threading.Thread(target=target, args=args, name=THREAD_PREFIX + name, daemon=True).start()


def _after_fork() -> None:
    global _forking_thread, _computing
    _forking_thread, _computing = threading.get_ident(), None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
