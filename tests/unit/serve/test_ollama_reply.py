import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any

import pytest

from edge_et.results import Answer, AnswerToken, Event, ExtractionToken, PhaseUsage, ReasoningToken
from edge_et.serve import ollama_reply
from edge_et.serve.errors import RequestError
from edge_et.serve.ollama_reply import OllamaReply

ANSWER = Answer(
    text="two cats",
    extraction="A grey cat.",
    reasoning="One and one.",
    usage={
        "vision": PhaseUsage(seconds=0.25, evaluated_tokens=126, pictures=1),
        "extract": PhaseUsage(seconds=0.5, evaluated_tokens=150, generated_tokens=4),
        "think": PhaseUsage(seconds=1.0, evaluated_tokens=20, generated_tokens=6),
    },
    finish_reasons={"extract": "stop", "think": "stop", "answer": "stop"},
)
EVENTS = [
    ExtractionToken("A grey"),
    ExtractionToken(" cat."),
    ReasoningToken("One and one."),
    AnswerToken("two"),
    AnswerToken(" cats"),
    ANSWER,
]


async def events(told: list[Event], wait_s: float = 0) -> AsyncIterator[Event]:
    for event in told:
        await asyncio.sleep(wait_s)
        yield event


def parts(reply: OllamaReply, told: list[Event], wait_s: float = 0) -> list[dict[str, Any]]:
    async def collect() -> list[dict[str, Any]]:
        return [part async for part in reply.parts(events(told, wait_s))]

    return asyncio.run(collect())


def joined(told: list[dict[str, Any]], name: str) -> str:
    return "".join(part["message"].get(name, "") for part in told)


def test_the_parts_together_are_the_whole() -> None:
    reply = OllamaReply(model="mini", is_chat=True)
    told = parts(reply, [*EVENTS])
    whole = reply.whole(ANSWER)
    assert whole["message"] == {
        "role": "assistant",
        "content": "two cats",
        "thinking": "A grey cat.\nOne and one.",
    }
    assert joined(told, "content") == whole["message"]["content"]
    assert joined(told, "thinking") == whole["message"]["thinking"]
    assert [part["done"] for part in told] == [False] * 5 + [True]
    assert all(part["model"] == "mini" for part in told)
    assert told[-1].keys() == whole.keys()


def test_a_text_is_no_message() -> None:
    reply = OllamaReply(model="mini", is_chat=False)
    whole = reply.whole(ANSWER)
    assert (whole["response"], whole["thinking"]) == ("two cats", "A grey cat.\nOne and one.")
    assert "message" not in whole
    told = parts(reply, [*EVENTS])
    assert "".join(part["response"] for part in told) == "two cats"


def test_reasoning_that_nobody_wants_is_not_told() -> None:
    reply = OllamaReply(model="mini", is_chat=True, shows_reasoning=False)
    assert reply.whole(ANSWER)["message"] == {"role": "assistant", "content": "two cats"}
    told = parts(reply, [*EVENTS])
    assert all("thinking" not in part["message"] for part in told)
    assert joined(told, "content") == "two cats"


def test_what_an_answer_took() -> None:
    whole = OllamaReply(model="mini", is_chat=True).whole(ANSWER)
    assert (whole["prompt_eval_count"], whole["eval_count"]) == (150, 10)
    assert whole["prompt_eval_duration"] + whole["eval_duration"] == pytest.approx(1.75e9)
    for name in ("total_duration", "load_duration", "prompt_eval_duration", "eval_duration"):
        assert isinstance(whole[name], int)
        assert whole[name] >= 0
    created = datetime.fromisoformat(whole["created_at"])
    assert created.utcoffset() == timedelta()


def test_a_long_silence_is_broken_without_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ollama_reply, "QUIET_S", 0.02)
    reply = OllamaReply(model="mini", is_chat=True, shows_reasoning=False)
    told = parts(reply, [*EVENTS], wait_s=0.03)
    silent = [part for part in told[:-1] if not part["message"]["content"]]
    assert len(silent) >= 3
    assert joined(told, "content") == "two cats"
    assert told[-1]["done"]


def test_an_error_of_the_call_is_that_of_the_parts() -> None:
    async def failing() -> AsyncIterator[Event]:
        yield AnswerToken("two")
        raise RequestError(500, "server_error", "the model failed")

    async def collect() -> None:
        reply = OllamaReply(model="mini", is_chat=True)
        told = reply.parts(failing())
        assert (await anext(told))["message"]["content"] == "two"
        await anext(told)

    with pytest.raises(RequestError, match="the model failed"):
        asyncio.run(collect())
