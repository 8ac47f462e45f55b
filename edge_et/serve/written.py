"""The text of a call as protocols tell it: what stands before the answer, the answer, and its end.

In: events of a call. Out: pieces of text, which together are those of the whole `Answer`.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Literal

from edge_et.results import Answer, AnswerToken, Event, ExtractionToken, ReasoningToken


@dataclass(frozen=True, slots=True)
class Piece:
    """Some text.

    Attributes:
        kind: whose text it is; what stage 1 writes counts as reasoning.
        text: not empty.
    """

    kind: Literal["reasoning", "answer"]
    text: str


async def written(events: AsyncIterator[Event]) -> AsyncIterator[Piece | Answer]:
    """Yield text as it is written, without white space around it, and the answer itself last.

    What each stage wrote, and of each of several pictures, begins on a line of its own.

    Args:
        events: of a call.
    """
    part: tuple[type[Event], int] | None = None
    has_reasoning = False
    space = ""
    async for event in events:
        if isinstance(event, Answer):
            yield event
            continue
        if not isinstance(event, ExtractionToken | ReasoningToken | AnswerToken):
            continue
        is_answer = isinstance(event, AnswerToken)
        now = type(event), event.picture if isinstance(event, ExtractionToken) else 0
        text = space + event.text
        if now != part:
            text = event.text.lstrip()
            if not text:
                continue
            part = now
            text = "\n" + text if has_reasoning and not is_answer else text
        has_reasoning |= not is_answer
        kept = text.rstrip()
        space = text[len(kept) :]
        if kept:
            yield Piece("answer" if is_answer else "reasoning", kept)


def reasoning_of(answer: Answer) -> str:
    """Return what stands before an answer: extraction and reasoning, on lines of their own."""
    return "\n".join(filter(None, (answer.extraction, answer.reasoning)))


def finish_reason_of(answer: Answer) -> Literal["stop", "length"]:
    """Return ``length`` where the answer's budget or the deadline cut the answer itself.

    Earlier stages do not count, as clients take ``length`` for a text that breaks off, and some
    refuse such an answer.
    """
    was_cut = answer.finish_reasons.get("answer") in ("length", "deadline")
    return "length" if was_cut else "stop"
