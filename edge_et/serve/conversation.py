"""What a conversation asks of a pipeline: pictures, a question, what was said before, options.

In: a `ChatRequest`. Out: events of a call with pictures, or of the reasoner alone where there are
none. Bundles and protocols are not known here.
"""

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, replace
from typing import Any, Self

from edge_et.bundle import Manifest
from edge_et.errors import PromptTooLongError
from edge_et.pipeline import AsyncStream, ExtractThink
from edge_et.results import Event, Progress
from edge_et.serve.bodies import bad_request
from edge_et.serve.chat_request import ChatRequest, Turn

DEFAULT_QUESTION = "Describe the picture."
"""Where a client sends a picture and no word."""

# What LLM Vision writes before each picture; here they are numbered anyway, where there are more.
_LABEL = re.compile(r"^(?:Image|Picture|Photo) \d+:$\n?", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """A question with all that belongs to it.

    Attributes:
        pictures: files, in the order of the turns.
        extraction: what is reasoned over instead of pictures; None: there is none.
        question: the last user's turns; not empty.
        history: what was said before, as the option `history` takes it.
        budget: most tokens of the answer; None: the bundle's.
        options: of a call, but for `history`, budget and deadline.
        least_budget: tokens that an answer gets at least, or the request is too long.
    """

    pictures: tuple[bytes, ...]
    extraction: str | None
    question: str
    history: tuple[dict[str, str], ...]
    budget: int | None
    options: dict[str, Any]
    least_budget: int

    @classmethod
    def of(cls, chat: ChatRequest, manifest: Manifest, max_tokens: int) -> Self:
        """Take a request apart.

        Args:
            chat: the request.
            manifest: of the bundle that will answer.
            max_tokens: most tokens of an answer.

        Raises:
            RequestError: it asks nothing.
        """
        before, asked = _split(chat.turns)
        pictures = tuple(picture for turn in chat.turns for picture in turn.pictures)
        question = "\n".join(turn.text for turn in asked)
        if pictures:
            question = _LABEL.sub("", question).strip() or DEFAULT_QUESTION
        if not question.strip():
            raise bad_request("the conversation asks nothing: its last message has no text")
        options: dict[str, Any] = {
            "temperature": chat.temperature,
            "top_p": chat.top_p,
            "seed": chat.seed,
            "schema": chat.schema,
            "choices": chat.choices,
            "kind": chat.kind,
            "confidence": chat.confidence,
        }
        if manifest.think.thoughts is not None:
            options["thinking"] = chat.thinking
        if chat.schema is None:  # JSON cannot be cut in the middle
            options |= {"stop": chat.stop or None, "top_logprobs": chat.top_logprobs}
        budget = None if chat.max_tokens is None else min(chat.max_tokens, max_tokens)
        return cls(
            pictures=pictures,
            extraction=chat.extraction,
            question=question,
            history=tuple(
                {"role": turn.role, "content": turn.text} for turn in before if turn.text.strip()
            ),
            budget=budget,
            options=options,
            least_budget=min(budget or max_tokens, manifest.think.max_answer_tokens),
        )

    async def ask(
        self, pipe: ExtractThink, deadline_s: float, priority: int
    ) -> AsyncGenerator[Event, None]:
        """Have it answered.

        A budget that the context has no room for is lowered: clients ask for thousands of tokens
        by habit, and get as many as there are.

        Args:
            pipe: the bundle.
            deadline_s: for the whole answer.
            priority: the higher goes first.

        Raises:
            EdgeETError: as for `ExtractThink.answer`.
        """
        keywords: dict[str, Any] = {"deadline_s": deadline_s, "priority": priority, **self.options}
        if self.history:
            keywords["history"] = self.history
        has_text = False
        try:
            async for event in self._stream(pipe, self.budget, keywords):
                has_text |= not isinstance(event, Progress)
                yield event
            return
        except PromptTooLongError as err:
            budget = (self.budget or 0) - (err.tokens - err.limit)
            if has_text or budget < self.least_budget:
                raise
        async for event in self._stream(pipe, budget, keywords):
            yield event

    async def _stream(
        self, pipe: ExtractThink, budget: int | None, keywords: dict[str, Any]
    ) -> AsyncIterator[Event]:
        keywords = {**keywords, "max_answer_tokens": budget}

        def begin() -> AsyncStream:
            if self.pictures:
                return pipe.astream(list(self.pictures), self.question, **keywords)
            return pipe.text_session(self.extraction).astream(self.question, **keywords)

        # In a thread, as a large schema or text is looked through for seconds.
        stream = await asyncio.to_thread(begin)
        async with stream:
            async for event in stream:
                yield event


def _split(turns: tuple[Turn, ...]) -> tuple[tuple[Turn, ...], tuple[Turn, ...]]:
    """Return what was said before, and the user's turns at the end.

    Raises:
        RequestError: the assistant speaks last, or there is no turn.
    """
    if not turns:
        raise bad_request("the conversation has no message")
    if turns[-1].role == "assistant":
        raise bad_request("the last message is the assistant's: a question has to come last")
    first = len(turns) - 1
    while first and turns[first - 1].role == turns[-1].role:
        first -= 1
    return turns[:first], tuple(replace(turn, role="user") for turn in turns[first:])
