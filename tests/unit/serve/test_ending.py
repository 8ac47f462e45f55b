import asyncio
from collections.abc import Callable

import pytest
from starlette.types import Message, Receive, Scope, Send

from edge_et.serve.ending import Ending


async def slow_app(scope: Scope, receive: Receive, send: Send) -> None:
    """Reads a body, works, begins its reply, and never ends it."""
    while (await receive())["more_body"]:
        pass
    if scope["path"] == "/works":
        await asyncio.Event().wait()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await asyncio.Event().wait()


def statuses(path: str, has_body: bool, end: Callable[[Ending, "asyncio.Task[None]"], None]) -> str:
    """Return what a request got: the statuses of its reply, and whether it still runs."""

    async def ask() -> str:
        got: list[str] = []
        parts: asyncio.Queue[Message] = asyncio.Queue()
        parts.put_nowait({"type": "http.request", "body": b"{", "more_body": not has_body})

        async def send(message: Message) -> None:
            if "status" in message:
                got.append(str(message["status"]))

        ending = Ending(slow_app)
        task = asyncio.ensure_future(ending({"type": "http", "path": path}, parts.get, send))
        await asyncio.sleep(0.01)
        end(ending, task)
        await asyncio.wait([task], timeout=0.01)
        if not task.done():
            got.append("runs")
            task.cancel()
        await asyncio.gather(task)
        return " ".join(got)

    return asyncio.run(ask())


def begin(ending: Ending, task: "asyncio.Task[None]") -> None:
    ending.begin()


def begin_and_end(ending: Ending, task: "asyncio.Task[None]") -> None:
    ending.begin()
    ending.end_waiting()


@pytest.mark.parametrize(
    ("path", "has_body", "end", "expected"),
    [
        ("/works", False, begin, "503"),
        ("/works", True, begin, "runs 503"),
        ("/works", True, begin_and_end, "503"),
        ("/replies", True, begin_and_end, "200 runs"),
    ],
)
def test_requests_without_a_reply_are_told(
    path: str,
    has_body: bool,
    end: Callable[[Ending, "asyncio.Task[None]"], None],
    expected: str,
) -> None:
    assert statuses(path, has_body, end) == expected


def test_who_comes_after_the_end_began_is_told() -> None:
    async def ask() -> int:
        ending = Ending(slow_app)
        ending.begin()
        got: list[Message] = []

        async def send(message: Message) -> None:
            got.append(message)

        async def receive() -> Message:
            raise AssertionError("its body is not read")

        await ending({"type": "http", "path": "/works"}, receive, send)
        status: int = got[0]["status"]
        return status

    assert asyncio.run(ask()) == 503


def test_a_request_that_something_else_cancels_is_cancelled() -> None:
    def cancel(ending: Ending, task: "asyncio.Task[None]") -> None:
        task.cancel()

    with pytest.raises(asyncio.CancelledError):
        statuses("/works", True, cancel)
