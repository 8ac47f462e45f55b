"""The server over a bundle that says what a test tells it to, at the test's own pace."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
import uvicorn

from edge_et.pipeline import ExtractThink
from edge_et.results import Event
from edge_et.serve import ServeSettings, create_app
from edge_et.serve.models import ModelRegistry, ServedModel
from edge_et.serve.process import listen

_POLL_S = 0.01


@dataclass
class Asked:
    """One question.

    Attributes:
        question: its text.
        pictures: files as bytes.
        extraction: what was given instead; None: nothing.
        options: of the call that are not None.
        left: is set when it ends before its last event.
    """

    question: str
    pictures: Sequence[bytes]
    extraction: str | None
    options: dict[str, Any]
    left: threading.Event = field(default_factory=threading.Event)


@dataclass
class ScriptedPipe:
    """Stands in for a loaded bundle.

    Attributes:
        script: what the next questions are told: events; an error is raised; at an event of
            `threading` it waits until that is set.
        asked: the questions so far.
        loaded: names of the bundles that were asked.
    """

    script: Sequence[Event | Exception | threading.Event] = ()
    asked: list[Asked] = field(default_factory=list)
    loaded: list[str] = field(default_factory=list)

    def astream(self, pictures: Sequence[bytes], question: str, **options: Any) -> "_Stream":
        return self._stream(question, pictures, None, options)

    def text_session(self, extraction: str | None) -> "_TextSession":
        return _TextSession(self, extraction)

    def close(self) -> None:
        return

    def _stream(
        self,
        question: str,
        pictures: Sequence[bytes],
        extraction: str | None,
        options: dict[str, Any],
    ) -> "_Stream":
        told = {name: value for name, value in options.items() if value is not None}
        self.asked.append(Asked(question, pictures, extraction, told))
        return _Stream(self.script, self.asked[-1])


@dataclass
class _TextSession:
    pipe: ScriptedPipe
    extraction: str | None

    def astream(self, question: str, **options: Any) -> "_Stream":
        return self.pipe._stream(question, (), self.extraction, options)


@dataclass
class _Stream:
    script: Sequence[Event | Exception | threading.Event]
    asked: Asked

    async def __aenter__(self) -> "_Stream":
        return self

    async def __aexit__(self, *raised: object) -> None:
        if raised[0] is not None:
            self.asked.left.set()

    async def __aiter__(self) -> AsyncIterator[Event]:
        for part in self.script:
            if isinstance(part, Exception):
                raise part
            if not isinstance(part, threading.Event):
                yield part
                continue
            while not part.is_set():
                await asyncio.sleep(_POLL_S)


@contextmanager
def serving_a_script(pipe: ScriptedPipe, settings: ServeSettings) -> Iterator[str]:
    """Serve in a thread while the block runs, and tell the address.

    Args:
        pipe: answers for every bundle.
        settings: name bundles that exist.
    """

    async def load(registry: ModelRegistry, model: ServedModel) -> ExtractThink:
        pipe.loaded.append(model.name)
        return cast(ExtractThink, pipe)

    with pytest.MonkeyPatch.context() as patch, listen(settings) as listener:
        patch.setattr(ModelRegistry, "_load", load)
        config = uvicorn.Config(create_app(settings), http="h11", log_level="warning")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()
