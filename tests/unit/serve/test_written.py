import asyncio
from collections.abc import AsyncIterator

from edge_et.results import Answer, AnswerToken, Event, ExtractionToken, Progress, ReasoningToken
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
