"""Calls of asyncio programs: the same calls, in threads that the loop does not wait for.

In: work for a thread, and what cancels it. Out: something to await. A task that is cancelled ends
the work before it ends itself, so that nothing goes on behind its back.
"""

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Self, TypeVar

from edge_et.cancellation import CancelToken
from edge_et.pipeline.stream import Stream
from edge_et.results import Event

R = TypeVar("R")


async def run_in_thread(executor: Executor, work: Callable[[], R], cancel: CancelToken) -> R:
    """Await what a thread does.

    Args:
        executor: has the threads.
        work: is done by one of them.
        cancel: ends the work, and is cancelled with the task.

    Raises:
        asyncio.CancelledError: the task was cancelled; the work has ended.
    """
    context = contextvars.copy_context()
    future = asyncio.get_running_loop().run_in_executor(executor, context.run, work)
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


class AsyncStream:
    """The events of one call, the `edge_et.Answer` last; for ``async for``.

    Also an asynchronous context manager, which closes it.
    """

    def __init__(self, stream: Stream, executor: Executor) -> None:
        """Begin with nothing done; `ExtractThink.astream` does it.

        Args:
            stream: the same events for threads.
            executor: has the threads.
        """
        self._stream = stream
        self._executor = executor

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        """Return the next event.

        Raises:
            StopAsyncIteration: the answer was the last one, or the stream was closed.
            EdgeETError: as for `ExtractThink.answer`.
            asyncio.CancelledError: the task was cancelled, and the call with it.
        """
        self._stream.line_up()
        stream = self._stream
        event = await run_in_thread(self._executor, lambda: next(stream, None), stream.cancel)
        if event is None:
            raise StopAsyncIteration
        return event

    async def aclose(self) -> None:
        """End the call, in the middle of a step too; may be called again."""
        await run_in_thread(self._executor, self._stream.close, self._stream.cancel)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *raised: object) -> None:
        await self.aclose()
