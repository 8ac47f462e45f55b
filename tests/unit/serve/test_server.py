import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from starlette.requests import Request

from edge_et.errors import OptionError
from edge_et.results import Event, Progress
from edge_et.serve.chat_request import ChatRequest, Turn
from edge_et.serve.errors import RequestError
from edge_et.serve.models import ModelRegistry, ServedModel
from edge_et.serve.server import Server
from edge_et.serve.settings import ServeSettings

QUESTION = ChatRequest(model="", turns=(Turn(role="user", text="Why?", pictures=()),))


class Stream:
    """Events of a call that never gets its turn, or never ends."""

    def __init__(self, has_begun: bool) -> None:
        self.has_begun = has_begun
        self.was_closed = False

    async def __aenter__(self) -> "Stream":
        return self

    async def __aexit__(self, *_: object) -> None:
        self.was_closed = True

    async def __aiter__(self) -> AsyncIterator[Event]:
        if self.has_begun:
            yield Progress(stage="think", phase="prefill", done=0, total=1, seconds_left=None)
        await asyncio.Event().wait()


class Pipeline:
    def __init__(self, stream: Stream) -> None:
        self.stream = stream

    def text_session(self, extraction: str | None) -> "Pipeline":
        return self

    def astream(self, question: str, **_: Any) -> Stream:
        return self.stream


def http() -> Request:
    async def receive() -> dict[str, str]:
        await asyncio.Event().wait()
        return {}

    return Request({"type": "http", "headers": []}, receive)


def wait_for_answer(monkeypatch: pytest.MonkeyPatch, stream: Stream) -> RequestError | None:
    """Return what the server says for a second; None: nothing."""
    server = Server(ServeSettings(deadline_s=0.1))

    @asynccontextmanager
    async def lease(model: ServedModel, keep_alive_s: float | None) -> AsyncIterator[Pipeline]:
        yield Pipeline(stream)

    monkeypatch.setattr(server.models, "lease", lease)

    async def ask() -> None:
        async with asyncio.timeout(1):
            await server.answer(QUESTION, http())

    try:
        asyncio.run(ask())
    except RequestError as err:
        return err
    except TimeoutError:
        return None
    raise AssertionError("there was an answer")


def test_who_waits_until_the_deadline_is_told_to_come_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stream = Stream(has_begun=False)
    error = wait_for_answer(monkeypatch, stream)
    assert error is not None
    assert (error.status, error.code) == (429, "overloaded")
    assert int(error.headers["Retry-After"]) >= 1
    assert stream.was_closed


def test_a_call_that_has_begun_has_a_deadline_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Stream(has_begun=True)
    assert wait_for_answer(monkeypatch, stream) is None
    assert stream.was_closed


def test_a_bundle_is_closed_before_it_is_loaded_again(monkeypatch: pytest.MonkeyPatch) -> None:
    happened: list[str] = []

    class Loaded:
        def close(self) -> None:
            happened.append("closing")
            # Long enough for a load that does not wait.
            asyncio.run(asyncio.sleep(0.05))
            happened.append("closed")

    async def load(model: ServedModel) -> Loaded:
        happened.append("loaded")
        return Loaded()

    async def use() -> None:
        models = ModelRegistry(ServeSettings())
        monkeypatch.setattr(models, "_load", load)
        (model,) = models.all()
        async with models.lease(model):
            pass
        unloading = asyncio.create_task(models.unload(model))
        await asyncio.sleep(0)
        async with models.lease(model):
            assert happened[-1] == "loaded"
        await unloading
        await models.close()

    asyncio.run(use())
    assert happened == ["loaded", "closing", "closed"] * 2


def test_two_bundles_of_one_name_are_told_apart() -> None:
    with pytest.raises(OptionError, match="that is taken"):
        ModelRegistry(ServeSettings(bundles=("mini", "mini")))
