"""The end of a server: requests that have no reply yet are told of it.

In: the application. Out: an application that does the same until its end begins. Streams are ended
by the application itself, when it closes.
"""

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edge_et.serve.error_replies import error_reply
from edge_et.serve.errors import RequestError


class Ending:
    """An application whose requests can be ended."""

    def __init__(self, app: ASGIApp) -> None:
        """Stand before an application.

        Args:
            app: the application.
        """
        self._app = app
        self._sending: set[asyncio.Task[None]] = set()
        self._waiting: set[asyncio.Task[None]] = set()
        self._has_begun = False

    def begin(self) -> None:
        """Refuse requests that come now, and those whose body is not there as a whole."""
        self._has_begun = True
        _cancel(self._sending)

    def end_waiting(self) -> None:
        """Refuse all that have no reply yet."""
        _cancel(self._waiting)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, unless it is ended before its reply begins."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        task = asyncio.current_task()
        assert task is not None

        async def read() -> Message:
            message = await receive()
            if not message.get("more_body", False):
                self._sending.discard(task)
            return message

        async def reply(message: Message) -> None:
            self._sending.discard(task)
            self._waiting.discard(task)
            await send(message)

        self._sending.add(task)
        self._waiting.add(task)
        try:
            if self._has_begun:
                raise asyncio.CancelledError
            await self._app(scope, read, reply)
        except asyncio.CancelledError:
            if not self._has_begun:
                raise
            if task in self._waiting:
                refusal = RequestError(503, "cancelled", "the server is being stopped")
                await error_reply(refusal, scope["path"])(scope, receive, send)
        finally:
            self._sending.discard(task)
            self._waiting.discard(task)


def _cancel(tasks: set[asyncio.Task[None]]) -> None:
    for task in list(tasks):
        task.cancel()
