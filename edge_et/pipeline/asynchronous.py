"""Calls of asyncio programs: the same calls, in threads that the loop does not wait for.

In: work for a thread, and what cancels it. Out: something to await. A task that is cancelled ends
the work before it ends itself, so that nothing goes on behind its back.
"""

import asyncio
import contextvars
import queue
import threading
from collections.abc import Callable
from typing import Any, Self, TypeVar

from edge_et.cancellation import CancelToken
from edge_et.native_threads import THREAD_PREFIX
from edge_et.pipeline.stream import Stream
from edge_et.results import Event

R = TypeVar("R")


class Worker:
    """A thread that does one thing after the other; it ends with `end`, or with the program."""

    def __init__(self) -> None:
        """Begin with nothing to do."""
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        target = _do_all
        name = f"{THREAD_PREFIX}call"
        threading.Thread(target=target, args=(self._jobs,), name=name, daemon=True).start()

    def submit(self, work: Callable[[], R]) -> "asyncio.Future[R]":
        """Have something done; return what the running event loop waits for."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[R] = loop.create_future()
        context = contextvars.copy_context()

        def tell(set_outcome: Callable[[Any], None], outcome: object) -> None:
            def set_unless_cancelled() -> None:
                if not future.done():
                    set_outcome(outcome)

            try:
                loop.call_soon_threadsafe(set_unless_cancelled)
            except RuntimeError:  # the loop is closed, and nobody waits any more
                return

        def job() -> None:
            try:
                result = context.run(work)
            except StopIteration:  # no future may raise it
                tell(future.set_result, None)
            except BaseException as err:
                tell(future.set_exception, err)
            else:
                tell(future.set_result, result)

        self._jobs.put(job)
        return future

    def end(self) -> None:
        """Let the thread end when all is done; may be called again."""
        self._jobs.put(None)


async def run_in_thread(worker: Worker, work: Callable[[], R], cancel: CancelToken) -> R:
    """Await what a thread does.

    Args:
        worker: is the thread.
        work: is done by it.
        cancel: ends the work, and is cancelled with the task.

    Raises:
        asyncio.CancelledError: the task was cancelled; the work has ended.
    """
    future = worker.submit(work)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        cancel.cancel()
        while not future.done():
            try:
                await asyncio.wait([future])
            except asyncio.CancelledError:  # once more: the work ends soon in any case
                continue
        if not future.cancelled():
            future.exception()  # is known to have been looked at
        raise
    except GeneratorExit:  # the loop is gone, and nobody waits for the end
        cancel.cancel()
        raise


def _do_all(jobs: "queue.SimpleQueue[Callable[[], None] | None]") -> None:
    while (job := jobs.get()) is not None:
        job()
        del job  # what it refers to ends with it


class AsyncStream:
    """The events of one call, the `edge_et.Answer` last; for ``async for``.

    Also an asynchronous context manager, which closes it.
    """

    def __init__(self, stream: Stream) -> None:
        """Begin with nothing done; `ExtractThink.astream` does it.

        Args:
            stream: the same events for threads.
        """
        self._stream = stream
        self._worker: Worker | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        """Return the next event.

        Raises:
            StopAsyncIteration: the answer was the last one, or the stream was closed.
            EdgeETError: as for `ExtractThink.answer`.
            asyncio.CancelledError: the task was cancelled, and the call with it.
        """
        stream = self._stream
        stream.line_up()
        if self._worker is None:
            self._worker = Worker()
        event = await run_in_thread(self._worker, lambda: next(stream, None), stream.cancel)
        if event is None:
            self._end()
            raise StopAsyncIteration
        return event

    async def aclose(self) -> None:
        """End the call, in the middle of a step too; may be called again."""
        stream = self._stream
        stream.cancel.cancel()
        if self._worker is not None:
            await run_in_thread(self._worker, stream.close, stream.cancel)
        stream.close()
        self._end()

    def _end(self) -> None:
        if self._worker is not None:
            self._worker.end()
            self._worker = None

    def __del__(self) -> None:
        self._end()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *raised: object) -> None:
        await self.aclose()
