"""The OpenAI protocol's reply: a completion, or chunks of one.

In: events of a call. Out: JSON values. Extraction and reasoning are ``reasoning_content``, as
llama-server and its clients have it.
"""

import time
import uuid
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from typing import Any

from edge_et.results import Answer, Event, TokenLogprob
from edge_et.serve.errors import RequestError
from edge_et.serve.openai_request import Completion
from edge_et.serve.usage import usage_of
from edge_et.serve.written import finish_reason_of, reasoning_of, written


@dataclass(frozen=True, slots=True)
class Reply:
    """What all parts of one reply have in common.

    Attributes:
        model: name of the bundle.
        wanted: what was asked for.
        id: of the completion.
        created: seconds since 1970.
    """

    model: str
    wanted: Completion
    id: str = field(default_factory=lambda: f"chatcmpl-{uuid.uuid4().hex}")
    created: int = field(default_factory=lambda: int(time.time()))

    def whole(self, answer: Answer) -> dict[str, Any]:
        """Return a completion."""
        message: dict[str, Any] = {"role": "assistant", "content": answer.text, "refusal": None}
        if self.wanted.chat.shows_reasoning and (reasoning := reasoning_of(answer)):
            message["reasoning_content"] = reasoning
        choice = {
            "index": 0,
            "message": message,
            "logprobs": self._logprobs(answer),
            "finish_reason": finish_reason_of(answer),
        }
        return {**self._head("chat.completion"), "choices": [choice], "usage": usage_body(answer)}

    async def chunks(self, events: AsyncIterator[Event]) -> AsyncIterator[dict[str, Any]]:
        """Yield the chunks of a completion as its text is written."""
        yield self._chunk({"role": "assistant", "content": ""})
        async for piece in written(events):
            if isinstance(piece, Answer):
                yield self._chunk({}, finish_reason_of(piece), self._logprobs(piece))
                if self.wanted.includes_usage:
                    yield {**self._chunk({}), "choices": [], "usage": usage_body(piece)}
            elif piece.kind == "answer":
                yield self._chunk({"content": piece.text})
            elif self.wanted.chat.shows_reasoning:
                yield self._chunk({"reasoning_content": piece.text})

    def _chunk(
        self,
        delta: dict[str, Any],
        finish_reason: str | None = None,
        logprobs: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        choice = {
            "index": 0,
            "delta": delta,
            "logprobs": logprobs,
            "finish_reason": finish_reason,
        }
        return {**self._head("chat.completion.chunk"), "choices": [choice]}

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}

    def _logprobs(self, answer: Answer) -> dict[str, Any] | None:
        if self.wanted.chat.top_logprobs is None or not answer.logprobs:
            return None
        return {"content": [_logprob(token) for token in answer.logprobs], "refusal": None}


def usage_body(answer: Answer) -> dict[str, Any]:
    """Return what an answer took, image tokens and pictures included."""
    usage = usage_of(answer)
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {
            "cached_tokens": usage.cached_tokens,
            "image_tokens": usage.image_tokens,
        },
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "pictures": usage.pictures,
    }


def error_body(err: RequestError) -> dict[str, Any]:
    """Return an error as clients of the protocol read it."""
    kind = "invalid_request_error" if err.status < 500 else "server_error"
    return {"error": {"message": err.message, "type": kind, "code": err.code, "param": None}}


def _logprob(token: TokenLogprob) -> dict[str, Any]:
    return _one(token.text, token.logprob) | {"top_logprobs": _each(token.top)}


def _each(top: Iterable[tuple[str, float]]) -> list[dict[str, Any]]:
    return [_one(text, logprob) for text, logprob in top]


def _one(text: str, logprob: float) -> dict[str, Any]:
    return {"token": text, "logprob": logprob, "bytes": list(text.encode())}
