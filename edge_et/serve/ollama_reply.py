"""The Ollama protocol's reply: one JSON object, or parts of it as they are written.

In: events of a call. Out: JSON values. Extraction and reasoning are ``thinking``.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import monotonic
from typing import Any

from edge_et.results import Answer, Event
from edge_et.serve.usage import usage_of
from edge_et.serve.written import Piece, finish_reason_of, reasoning_of, written

QUIET_S = 10.0
"""A stream has a part, be it without text, that long after the one before: many clients give up
after a minute in which they read nothing."""

_NS = 1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class OllamaReply:
    """What all parts of one reply have in common.

    Attributes:
        model: name, as the client wrote it.
        is_chat: whether the text is a message, as in a chat.
        shows_reasoning: whether extraction and reasoning are told.
        arrived: when the request came, on the clock of `time.monotonic`.
    """

    model: str
    is_chat: bool
    shows_reasoning: bool = True
    arrived: float = field(default_factory=monotonic)

    def whole(self, answer: Answer) -> dict[str, Any]:
        """Return all of an answer."""
        thinking = reasoning_of(answer) if self.shows_reasoning else ""
        return self._part(answer.text, thinking) | self._end(answer)

    def without_text(self, done_reason: str) -> dict[str, Any]:
        """Return the reply to a request that asks nothing: ``load`` or ``unload``."""
        return self._part() | {"done": True, "done_reason": done_reason}

    async def parts(self, events: AsyncIterator[Event]) -> AsyncIterator[dict[str, Any]]:
        """Yield parts as the text is written, and what it took with the last one."""
        loop = asyncio.get_running_loop()
        told_at = loop.time()
        pieces = written(events)
        while True:
            coming = asyncio.ensure_future(anext(pieces))
            try:
                while not coming.done():
                    await asyncio.wait([coming], timeout=told_at + QUIET_S - loop.time())
                    if loop.time() >= told_at + QUIET_S:
                        told_at = loop.time()
                        yield self._part()
                piece = coming.result()
            except StopAsyncIteration:
                return
            finally:
                coming.cancel()
            if part := self._part_of(piece):
                told_at = loop.time()
                yield part

    def _part_of(self, piece: Piece | Answer) -> dict[str, Any] | None:
        if isinstance(piece, Answer):
            return self._part() | self._end(piece)
        if piece.kind == "answer":
            return self._part(piece.text)
        return self._part("", piece.text) if self.shows_reasoning else None

    def _part(self, text: str = "", thinking: str = "") -> dict[str, Any]:
        part: dict[str, Any] = {"model": self.model, "created_at": timestamp(datetime.now(UTC))}
        told = {"thinking": thinking} if thinking else {}
        if self.is_chat:
            part["message"] = {"role": "assistant", "content": text, **told}
        else:
            part |= {"response": text, **told}
        return {**part, "done": False}

    def _end(self, answer: Answer) -> dict[str, Any]:
        """Return what an answer took; durations are nanoseconds.

        What no phase of the call took is told as loading: the model was loaded, or others had it.
        """
        usage = usage_of(answer)
        total_s = monotonic() - self.arrived
        call_s = sum(phase.seconds for phase in answer.usage.values())
        return {
            "done": True,
            "done_reason": finish_reason_of(answer),
            "total_duration": int(total_s * _NS),
            "load_duration": int(max(0.0, total_s - call_s) * _NS),
            "prompt_eval_count": usage.prompt_tokens,
            "prompt_eval_duration": int(usage.prompt_s * _NS),
            "eval_count": usage.completion_tokens,
            "eval_duration": int(max(0.0, call_s - usage.prompt_s) * _NS),
        }


def timestamp(moment: datetime) -> str:
    """Return a moment in UTC as JSON of Ollama has it."""
    return moment.isoformat().replace("+00:00", "Z")
