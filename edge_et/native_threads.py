"""Threads for native work: parallel regions, forked children, and signals.

libgomp keeps the threads of a parallel region with the thread that began it. Where several threads
of a program begin such regions, it counts more threads than CPUs, lets all of them sleep at every
barrier, and models take 1.4 times as long. And a forked child has of its parent's threads the
forking one alone, which waits for ever for those of its region. So regions are begun by threads
made for that, by the same one as long as one is enough; a child makes its own.

Python runs signal handlers in the main thread, also where a library calls back from there: what a
handler raises then is lost. In other threads no handler runs. While the main thread is in native
code, none runs at all: so it waits for another thread instead.
"""

import _thread
import os
import queue
import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar

R = TypeVar("R")

THREAD_PREFIX = "edge-et "
"""How the names of our own threads begin."""

_is_ending = False
_idle: "list[_ComputeThread]" = []  # the one used last is last


def compute(work: Callable[[], R], stop: Callable[[], object] | None = None) -> R:
    """Call what begins a parallel region or takes long, in a thread made for that.

    Args:
        work: calls a native library, and holds what nobody else may use meanwhile: where a signal
            handler raises at the wrong moment, this thread goes on before the work has ended.
        stop: lets the work end early, and is called where a signal handler raises meanwhile; None:
            the work is short, and is waited for.

    Returns:
        What it returns.

    Raises:
        BaseException: what a signal handler raised, or else what the work did.
    """
    if _is_ending and threading.current_thread() is threading.main_thread():
        return work()
    try:
        thread = _idle.pop()
    except IndexError:
        try:
            thread = _ComputeThread()
        except RuntimeError:  # the interpreter is about to end, and gives no threads
            return work()
    job = _Job(work)
    thread.jobs.put(job)
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
        return job.result()
    raised: BaseException | None = None
    while not job.is_begun:
        try:
            _start("opening", job.do)
        except RuntimeError:  # the interpreter is about to end, and gives no threads
            job.do()
        except BaseException as err:  # a handler's, and whether there is a thread is unknown
            raised = raised or err
        else:
            break
    return job.result(raised=raised)


class _Job(Generic[R]):
    """Work for another thread.

    Attributes:
        is_begun: a thread does it, or has done it.
    """

    def __init__(self, work: Callable[[], R]) -> None:
        self._work = work
        self.is_begun = False
        self._unbegun = threading.Lock()
        self._is_done = False
        self._running = threading.Lock()  # which is waited for faster than an event
        self._running.acquire()
        self._error: BaseException | None = None
        self._result: R

    def do(self, at_end: Callable[[], object] | None = None) -> None:
        """Do it, or nothing where a thread has begun it.

        Args:
            at_end: is called before whoever waits goes on.
        """
        if not self._unbegun.acquire(blocking=False):
            return
        self.is_begun = True
        try:
            self._result = self._work()
        except BaseException as err:
            self._error = err
        finally:
            del self._work  # what it holds is not to outlive it
            if at_end is not None:
                at_end()
            self._is_done = True
            self._running.release()

    def result(
        self, stop: Callable[[], object] | None = None, raised: BaseException | None = None
    ) -> R:
        """Wait for the end, also when a signal handler raises meanwhile, as a native call would.

        Args:
            stop: is called then.
            raised: what a handler has raised already.
        """
        while not self._is_done:
            try:
                with self._running:
                    pass
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


class _ComputeThread:
    """A thread that computes one thing after the other, and waits among the idle ones.

    Attributes:
        jobs: what it takes.
    """

    def __init__(self) -> None:
        self.jobs: queue.SimpleQueue[_Job[Any]] = queue.SimpleQueue()
        _start("compute", self._take_jobs)

    def _take_jobs(self) -> None:
        while True:
            self._take_one()

    def _take_one(self) -> None:  # so that nothing refers to a job that is done
        job = self.jobs.get()
        job.do(at_end=lambda: _idle.append(self))  # for whoever waits may need it again at once


def _start(name: str, target: Callable[[], None]) -> None:
    """Start a thread of ours.

    Python starts a thread and waits for an event. A handler that raises meanwhile leaves the wait
    with any error, also with that of no thread to be had. So another thread waits, and here is one
    call alone.
    """
    thread = threading.Thread(target=target, name=THREAD_PREFIX + name, daemon=True)

    def start() -> None:
        try:
            thread.start()
        except RuntimeError:  # the interpreter is about to end, and gives no threads
            thread.run()

    _thread.start_new_thread(start, ())


def _after_fork() -> None:
    _idle.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
