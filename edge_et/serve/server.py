"""The server behind all protocols: it lets requests in, and has bundles answer them.

In: a `ChatRequest`. Out: a `Call`, whose events a protocol tells. What a request looked like is not
known here.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from math import ceil
from time import monotonic

from starlette.requests import Request

from edge_et.llm import trim_heap
from edge_et.results import Answer, Event
from edge_et.serve.bodies import bad_request
from edge_et.serve.call import Call
from edge_et.serve.chat_request import ChatRequest
from edge_et.serve.conversation import Conversation
from edge_et.serve.errors import RequestError
from edge_et.serve.metrics import Metrics
from edge_et.serve.models import ModelRegistry
from edge_et.serve.settings import ServeSettings

MAX_PRIORITY = 100
PRIORITY_HEADER = "x-edge-et-priority"

_MOST_WAIT_S = 600

_TRIM_AFTER_S = 10
"""Bodies with pictures leave holes in the heap, and a call that follows at once would fill them."""

_LEAST_TIME_S = 0.5
"""What a call gets whose deadline passed while its bundle was loaded."""


class Server:
    """Answers requests.

    Attributes:
        settings: what whoever started it decided.
        models: its bundles.
        metrics: what it counts.
    """

    def __init__(self, settings: ServeSettings) -> None:
        """Check the bundles; nothing is loaded.

        Args:
            settings: what whoever starts it decides.

        Raises:
            BundleError: a bundle cannot be used.
            OptionError: a setting is wrong.
        """
        self.settings = settings
        self.models = ModelRegistry(settings)
        self.metrics = Metrics()
        self._calls: set[Call] = set()
        self._usual_s = 1.0
        self._will_trim = False

    def events(self, chat: ChatRequest, http: Request) -> Call:
        """Begin to answer.

        Args:
            chat: what is asked.
            http: whose client may hang up, and say by a header how urgent it is.

        Raises:
            RequestError: the model is unknown, too many requests wait, or the conversation asks
                nothing.
        """
        arrived = monotonic()
        model = self.models.find(chat.model)
        conversation = Conversation.of(chat, model.manifest, self.settings.max_tokens)
        priority = _priority_of(http)
        self._check_room()

        async def work(tell: Callable[[Event], None]) -> None:
            async with self.models.lease(model, chat.keep_alive_s) as pipe:
                left_s = max(arrived + self.settings.deadline_s - monotonic(), _LEAST_TIME_S)
                async for event in self._in_time(conversation.ask(pipe, left_s, priority), left_s):
                    if isinstance(event, Answer):
                        self.metrics.count(model.name, event)
                    tell(event)

        call = Call(work, http)
        self._calls.add(call)
        self.metrics.under_way.set(len(self._calls))
        call.task.add_done_callback(lambda _: self._forget(call, monotonic() - arrived))
        return call

    async def answer(self, chat: ChatRequest, http: Request) -> Answer:
        """Answer, and tell all at the end; see `events`.

        Raises:
            RequestError: as for `events`, or the call failed.
        """
        return await self.events(chat, http).answer()

    async def close(self) -> None:
        """End what is under way, and free all bundles."""
        calls = list(self._calls)
        for call in calls:
            call.end()
        await asyncio.gather(*(call.task for call in calls), return_exceptions=True)
        await self.models.close()

    async def _in_time(
        self, events: AsyncGenerator[Event, None], seconds: float
    ) -> AsyncIterator[Event]:
        """Pass events on, unless the first one is not there in time."""
        async with aclosing(events):
            try:
                async with asyncio.timeout(seconds):
                    first = await anext(events)
            except TimeoutError:
                raise self._overloaded("the request waited until its deadline") from None
            yield first
            async for event in events:
                yield event

    def _check_room(self) -> None:
        limit = self.settings.max_waiting + self.settings.contexts
        if len(self._calls) < limit:
            return
        self.metrics.refused.inc()
        raise self._overloaded(f"{len(self._calls)} requests are under way or wait")

    def _overloaded(self, why: str) -> RequestError:
        wait_s = ceil(self._usual_s * len(self._calls) / self.settings.contexts)
        headers = {"Retry-After": str(max(1, min(wait_s, _MOST_WAIT_S)))}
        return RequestError(429, "overloaded", f"{why}: ask again later", headers)

    def _forget(self, call: Call, seconds: float) -> None:
        self._calls.discard(call)
        self.metrics.under_way.set(len(self._calls))
        # Some of it was waiting, so that it is long under load.
        self._usual_s += 0.2 * (seconds / (len(self._calls) + 1) - self._usual_s)
        if not self._will_trim:
            self._will_trim = True
            asyncio.get_running_loop().call_later(_TRIM_AFTER_S, self._trim)

    def _trim(self) -> None:
        self._will_trim = False
        trim_heap()


def _priority_of(http: Request) -> int:
    """Return how urgent a client says it is; the higher goes first."""
    told = http.headers.get(PRIORITY_HEADER, "0")
    try:
        priority = int(told)
    except ValueError:
        priority = MAX_PRIORITY + 1
    if abs(priority) > MAX_PRIORITY:
        expected = f"a whole number from {-MAX_PRIORITY} to {MAX_PRIORITY}"
        raise bad_request(f"the header {PRIORITY_HEADER} is {told!r}: expected {expected}")
    return priority
