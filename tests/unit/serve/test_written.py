import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from edge_et.results import Answer, AnswerToken, Event, ExtractionToken, Progress, ReasoningToken
from edge_et.serve.chat_request import ChatRequest
from edge_et.serve.ollama_reply import OllamaReply
from edge_et.serve.openai_reply import Reply
from edge_et.serve.openai_request import Completion
from edge_et.serve.written import Piece, reasoning_of, written

ANSWER = Answer(text="two cats", extraction="A.\nB.", reasoning="So two.", usage={})
EVENTS: list[Event] = [
    Progress(stage="extract", phase="decode", done=0, total=8),
    ExtractionToken(" A"),
    ExtractionToken("."),
    ExtractionToken(" "),
    ExtractionToken("\nB", picture=1),
    ExtractionToken(".", picture=1),
    ReasoningToken("So"),
    ReasoningToken(" two."),
    ReasoningToken("\n"),
    AnswerToken(" "),
    AnswerToken(" two"),
    AnswerToken(" "),
    AnswerToken("cats"),
    AnswerToken("\n"),
    ANSWER,
]


async def events() -> AsyncIterator[Event]:
    for event in EVENTS:
        yield event


def test_the_pieces_together_are_the_answer() -> None:
    async def collect() -> list[Piece | Answer]:
        return [piece async for piece in written(events())]

    *pieces, last = asyncio.run(collect())
    assert last is ANSWER
    texts = {"reasoning": "", "answer": ""}
    for piece in pieces:
        assert isinstance(piece, Piece)
        assert piece.text
        texts[piece.kind] += piece.text
    assert texts == {"reasoning": reasoning_of(ANSWER), "answer": ANSWER.text}


@pytest.mark.parametrize(
    ("reasons", "expected"),
    [
        ({"answer": "stop"}, "stop"),
        ({"answer": "length"}, "length"),
        ({"answer": "deadline"}, "length"),
        ({"answer": "repetition"}, "stop"),
        ({"extract": "length", "think": "length", "answer": "stop"}, "stop"),
        ({"extract": "deadline", "think": "deadline", "answer": "stop"}, "stop"),
        ({}, "stop"),
    ],
)
def test_both_protocols_tell_the_same_end(reasons: Any, expected: str) -> None:
    answer = Answer(text="a", extraction="", reasoning="", usage={}, finish_reasons=reasons)

    async def told() -> AsyncIterator[Event]:
        yield answer

    async def last(parts: AsyncIterator[dict[str, Any]]) -> dict[str, Any]:
        return [part async for part in parts][-1]

    ollama = OllamaReply(model="mini", is_chat=True)
    chat = ChatRequest(model="mini", turns=())
    openai = Reply("mini", Completion(chat=chat, streams=True, includes_usage=False, ignored=()))
    chunk = asyncio.run(last(openai.chunks(told())))
    assert ollama.whole(answer)["done_reason"] == expected
    assert asyncio.run(last(ollama.parts(told())))["done_reason"] == expected
    assert openai.whole(answer)["choices"][0]["finish_reason"] == expected
    assert chunk["choices"][0]["finish_reason"] == expected
