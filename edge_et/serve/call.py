"""One request's call: it runs on its own, and whoever answers the client takes its events.

In: a model, a request. Out: events, `edge_et.Answer` last. A client that reads slowly holds no
context: events wait for it here, and the call goes on. One that hangs up ends its call.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, Self

from starlette.requests import Request

from edge_et.results import Answer, Event
from edge_et.serve.errors import RequestError, to_request_error

logger = logging.getLogger(__name__)


class Call(AsyncIterator[Event]):
    """The events of one call."""

    def __init__(
        self,
        work: Callable[[Callable[[Event], None]], Coroutine[Any, Any, None]],
        http: Request,
    ) -> None:
        """Begin; an event loop runs.

        Args:
            work: does it, and tells events.
            http: whose client may hang up; its body was read.
        """
        self._events: asyncio.Queue[Event | None] = asyncio.Queue()
        self._has_begun = asyncio.Event()
        self._error: RequestError | None = None
        self.task = asyncio.create_task(self._run(work))
        self._watching = asyncio.create_task(self._watch(http))
        self.task.add_done_callback(self._finish)

    async def has_begun(self, timeout_s: float) -> None:
        """Wait until there is an event.

        Args:
            timeout_s: seconds after which nothing is waited for any more.

        Raises:
            RequestError: the call failed.
        """
        waiting = asyncio.create_task(self._has_begun.wait())
        await asyncio.wait([waiting], timeout=timeout_s)
        waiting.cancel()
        if self._error is not None:
            raise self._error

    async def answer(self) -> Answer:
        """Wait for the end.

        Raises:
            RequestError: the call failed.
        """
        try:
            last = [event async for event in self if isinstance(event, Answer)]
        finally:
            self.end()
        return last[0]

    def end(self) -> None:
        """Cancel what still runs; may be called again."""
        self.task.cancel()
        self._watching.cancel()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        """Return the next event.

        Raises:
            StopAsyncIteration: the answer was the last one.
            RequestError: the call failed.
        """
        event = await self._events.get()
        if event is not None:
            return event
        if self._error is not None:
            raise self._error
        raise StopAsyncIteration

    async def _run(
        self, work: Callable[[Callable[[Event], None]], Coroutine[Any, Any, None]]
    ) -> None:
        try:
            await work(self._tell)
        except Exception as err:
            self._error = to_request_error(err)
            if self._error.status >= 500:
                logger.exception("a request failed")

    def _finish(self, task: "asyncio.Task[None]") -> None:
        if task.cancelled():
            self._error = RequestError(503, "cancelled", "the request was cancelled")
        self._watching.cancel()
        self._has_begun.set()
        self._events.put_nowait(None)

    def _tell(self, event: Event) -> None:
        self._events.put_nowait(event)
        self._has_begun.set()

    async def _watch(self, http: Request) -> None:
        while (await http.receive())["type"] != "http.disconnect":
            pass
        self.task.cancel()
