"""The two stages, and the baseline of one stage: prompt, evaluate, generate.

In: a speaker (a tokenizer and a context over one model), image tokens, texts and budgets. Out: text
as it is written, and an `Extraction` or a `Thought` as the generator's return value. Loading,
options and the caching of images are not known here.
"""

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from time import perf_counter
from typing import TypeVar

from edge_et.llm import Evaluator
from edge_et.manifest import ChatSpec, Sampling
from edge_et.prompt import (
    Segment,
    TokenSegment,
    end_turn,
    fill,
    system_turn,
    to_segments,
    user_turn,
)
from edge_et.results import (
    AnswerToken,
    Extraction,
    ExtractionToken,
    PhaseUsage,
    ReasoningToken,
    Thought,
)
from edge_et.sampling import Sampler, new_sampler
from edge_et.tokenizer import TextStream, Tokenizer
from edge_et.vision import ImageTokens

E = TypeVar("E")
R = TypeVar("R")
Result = TypeVar("Result", Extraction, Thought)


@dataclass(frozen=True, slots=True, kw_only=True)
class Speaker:
    """Somebody to talk to: one model's tokenizer, cache and manners.

    Attributes:
        tokenizer: the model's tokenizer.
        context: a cache over the model's weights.
        chat: how turns are written.
        stop_ids: tokens that end what the model writes.
    """

    tokenizer: Tokenizer
    context: Evaluator
    chat: ChatSpec
    stop_ids: frozenset[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """Most tokens that stage 2 may write.

    Attributes:
        thinking: before the answer marker, 0 or more.
        answer: behind it, at least 1.
    """

    thinking: int
    answer: int


def drain(events: Generator[object, None, R]) -> R:
    """Run a stage to its end and return its result."""
    while True:
        try:
            next(events)
        except StopIteration as stop:
            result: R = stop.value
            return result


def timed(events: Generator[E, None, Result]) -> Generator[E, None, Result]:
    """Pass a stage on, and put the time spent inside it into its result."""
    seconds = 0.0
    while True:
        start = perf_counter()
        try:
            event = next(events)
        except StopIteration as stop:
            seconds += perf_counter() - start
            result: Result = stop.value
            return replace(result, usage=replace(result.usage, seconds=seconds))
        seconds += perf_counter() - start
        yield event


def image_prompt(
    speaker: Speaker, template: str, image: ImageTokens, question: str
) -> tuple[Segment, ...]:
    """Build the prompt of stage 1, or of the one-stage baseline."""
    content = fill(template, {"question": question}, image)
    parts = [*system_turn(speaker.chat), *user_turn(speaker.chat, content)]
    return to_segments(parts, speaker.tokenizer)


def thinking_prompt(
    speaker: Speaker,
    template: str,
    question: str,
    extraction: str,
    conversation: tuple[Segment, ...] | None,
) -> tuple[Segment, ...]:
    """Build the prompt of stage 2.

    Args:
        speaker: the reasoner.
        template: the manifest's `think.prompt`.
        question: the question.
        extraction: text of stage 1.
        conversation: what was said before, if the reasoner is the perceiver: the prompt goes on in
            a further turn. None: it is a conversation of its own.
    """
    content = fill(template, {"question": question, "extraction": extraction})
    opening = system_turn(speaker.chat) if conversation is None else end_turn(speaker.chat)
    turn = to_segments([*opening, *user_turn(speaker.chat, content)], speaker.tokenizer)
    return (*(conversation or ()), *turn)


def extract(
    speaker: Speaker, prompt: tuple[Segment, ...], budget: int, sampling: Sampling
) -> Generator[ExtractionToken, None, Extraction]:
    """Run stage 1.

    Args:
        speaker: the perceiver.
        prompt: from `image_prompt`.
        budget: most tokens to write, at least 1.
        sampling: how to choose them.

    Yields:
        Text as it is written.

    Returns:
        The extraction; its seconds are filled in by `timed`.
    """
    evaluation = speaker.context.evaluate(prompt)
    stream = TextStream(speaker.tokenizer)
    tokens: list[int] = []
    text = ""
    for token in generate(speaker, new_sampler(sampling), budget):
        tokens.append(token)
        if piece := stream.push(token):
            text += piece
            yield ExtractionToken(piece)
    if piece := stream.finish():
        text += piece
        yield ExtractionToken(piece)
    return Extraction(
        text=text.strip(),
        tokens=tuple(tokens),
        conversation=_continued(prompt, tokens),
        usage=PhaseUsage(
            evaluated_tokens=evaluation.evaluated,
            reused_tokens=evaluation.reused,
            generated_tokens=len(tokens),
        ),
    )


def think(
    speaker: Speaker, prompt: tuple[Segment, ...], marker: str, budget: Budget, sampling: Sampling
) -> Generator[ReasoningToken | AnswerToken, None, Thought]:
    """Run stage 2: reasoning up to the marker, then the answer.

    If the model stops, or its budget ends, before it has written the marker, the marker is put in
    as text, on a line of its own, and the answer generated behind it.

    Args:
        speaker: the reasoner.
        prompt: from `thinking_prompt`.
        marker: text that separates reasoning and answer; it belongs to neither.
        budget: most tokens to write.
        sampling: how to choose them.

    Yields:
        Text as it is written.

    Returns:
        The thought; its seconds are filled in by `timed`.
    """
    first = speaker.context.evaluate(prompt)
    sampler = new_sampler(sampling)
    stream = TextStream(speaker.tokenizer)
    splitter = MarkerSplitter(marker)
    tokens: list[int] = []
    reasoning = ""
    for token in generate(speaker, sampler, budget.thinking):
        tokens.append(token)
        if piece := splitter.push(stream.push(token)):
            reasoning += piece
            yield ReasoningToken(piece)
        if splitter.rest is not None:
            break
    prompt = _continued(prompt, tokens)
    if splitter.rest is None:
        if piece := splitter.finish(stream.finish()):
            reasoning += piece
            yield ReasoningToken(piece)
        stream = TextStream(speaker.tokenizer)
        forced = forced_marker(marker, reasoning)
        prompt = (*prompt, TokenSegment(tuple(speaker.tokenizer.encode(forced))))
    second = speaker.context.evaluate(prompt)
    text = splitter.rest or ""
    if text:
        yield AnswerToken(text)
    for token in generate(speaker, sampler, budget.answer):
        tokens.append(token)
        if piece := stream.push(token):
            text += piece
            yield AnswerToken(piece)
    if piece := stream.finish():
        text += piece
        yield AnswerToken(piece)
    return Thought(
        text=text.strip(),
        reasoning=reasoning.strip(),
        tokens=tuple(tokens),
        usage=PhaseUsage(
            evaluated_tokens=first.evaluated + second.evaluated,
            reused_tokens=first.reused,
            generated_tokens=len(tokens),
        ),
    )


def answer_at_once(
    speaker: Speaker, prompt: tuple[Segment, ...], budget: int, sampling: Sampling
) -> Generator[ExtractionToken, None, Thought]:
    """Run the one-stage baseline; see `extract`."""
    written = yield from extract(speaker, prompt, budget, sampling)
    return Thought(text=written.text, reasoning="", tokens=written.tokens, usage=written.usage)


def forced_marker(marker: str, reasoning: str) -> str:
    """Return the text that is put in where the model has not written the marker itself."""
    return marker if not reasoning or reasoning.endswith("\n") else f"\n{marker}"


def generate(speaker: Speaker, sampler: Sampler, budget: int) -> Iterator[int]:
    """Write tokens until one that stops, or until the budget is used.

    A token is evaluated when the next one is wanted, so the last one is not.

    Args:
        speaker: who writes; its context has been evaluated.
        sampler: chooses the tokens.
        budget: most tokens to write.

    Yields:
        Ids, the stop token not among them.
    """
    token: int | None = None
    for _ in range(budget):
        if token is not None:
            speaker.context.append(token)
        token = sampler(speaker.context.logits)
        if token in speaker.stop_ids:
            return
        yield token


class MarkerSplitter:
    """Splits text that arrives in pieces at the first occurrence of a marker.

    Attributes:
        rest: what came behind the marker in the piece that completed it; None: no marker so far.
    """

    def __init__(self, marker: str) -> None:
        """Begin with no text."""
        self.rest: str | None = None
        self._marker = marker
        self._held = ""

    def push(self, piece: str) -> str:
        """Take text and return what is known to come before the marker."""
        text = self._held + piece
        before, found, rest = text.partition(self._marker)
        if found:
            self.rest, self._held = rest, ""
            return before
        held = next(
            size
            for size in range(min(len(self._marker) - 1, len(text)), -1, -1)
            if text.endswith(self._marker[:size])
        )
        self._held = text[len(text) - held :]
        return text[: len(text) - held]

    def finish(self, piece: str) -> str:
        """Take the last text and return everything that was held back."""
        text, self._held = self._held + piece, ""
        return text


def _continued(prompt: tuple[Segment, ...], tokens: Sequence[int]) -> tuple[Segment, ...]:
    return (*prompt, TokenSegment(tuple(tokens), generated=True)) if tokens else prompt
