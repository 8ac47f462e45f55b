"""Stage 2 as a state machine: a marked thought, prose up to the answer marker, the answer.

In: a chat_model, a prompt, budgets, a deadline. Out: text as it is written, and a `Thought` as the
generator's return value. Where the extraction came from is not known here.

::

    marked thought --end, or put in: closing end--> prose --marker, or put in--> answer
         only where the bundle's reasoner marks thoughts and this call wants one

Thought and prose share one budget: there are never more tokens before the answer than asked for.
`start` and `end` count where the model writes these very tokens in a thought, and nowhere else; the
prose and the answer cannot hold them.
"""

from collections.abc import Generator
from dataclasses import dataclass, field, replace
from typing import Self

import msgspec

from edge_et.bundle import Sampling, ThinkSpec, ThoughtSpec
from edge_et.generation import (
    BlockedWords,
    ChatModel,
    Deadline,
    Generation,
    MarkerSplitter,
    Sampler,
    ShouldStop,
    Watch,
    forced_marker,
)
from edge_et.llm import (
    Part,
    Plain,
    Segment,
    TextStream,
    Tokenizer,
    Trusted,
    begin_reply,
    begin_user_turn,
    count_positions,
    end_turn,
    fill,
    to_segments,
)
from edge_et.results import AnswerToken, FinishReason, Progress, ReasoningToken, Stage, Thought
from edge_et.stages.answer_forms import AnswerCost, AnswerForm
from edge_et.stages.answering import FreeText, write_answer
from edge_et.stages.history import History

RESERVED_ANSWER_TOKENS = 32
"""Tokens of an answer that time is kept for: most are shorter, and budgets are for the longest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """Most tokens that stage 2 may write.

    Attributes:
        thinking: before the answer marker, marked thoughts included; 0 or more.
        answer: behind it, at least 1.
    """

    thinking: int
    answer: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Thinking:
    """How one call goes through stage 2.

    Attributes:
        spec: prompts and marks.
        marked: whether it begins with a marked thought; then `spec` says how.
        budget: most tokens to write.
        sampling: how to choose them.
        form: how the answer is written; None: as free text.
        history: what was said before the question.
        free: what the caller says of an answer in free text.
        choices: text that tells choices with letters; empty: nothing is told of any.
    """

    spec: ThinkSpec
    marked: bool
    budget: Budget
    sampling: Sampling
    form: AnswerForm | None = None
    history: History = field(default_factory=History)
    free: FreeText = field(default_factory=FreeText)
    choices: str = ""

    @property
    def template(self) -> str:
        """The user's turn."""
        thoughts = self.spec.thoughts if self.marked else None
        if self.choices and (told := self.spec.choices):
            return (told.thoughts_prompt if thoughts else None) or told.prompt
        return thoughts.prompt if thoughts else self.spec.prompt

    @property
    def opening(self) -> str:
        """What the assistant's turn begins with."""
        thoughts = self.spec.thoughts
        if thoughts is None:
            return ""
        return thoughts.start + thoughts.start_suffix if self.marked else thoughts.skip

    def without_thinking(self, sampling: Sampling) -> Self:
        """Return the way to the answer when there is no time to think.

        Args:
            sampling: of a call without a marked thought.
        """
        budget = replace(self.budget, thinking=0)
        return replace(self, marked=False, budget=budget, sampling=sampling)

    def as_chat(self) -> Self:
        """Return the way to the answer of a chat: the question alone, no marker and no prose.

        Its form must not rely on what `choices` tells.
        """
        thoughts = self.spec.thoughts
        if thoughts is not None:
            thoughts = msgspec.structs.replace(thoughts, prompt="{question}")
        spec = msgspec.structs.replace(
            self.spec, prompt="{question}", answer_marker="", thoughts=thoughts
        )
        budget = self.budget if self.marked else replace(self.budget, thinking=0)
        return replace(self, spec=spec, budget=budget, choices="")

    def answer_cost(self, tokenizer: Tokenizer) -> AnswerCost:
        """Return what the answer takes at most, and what time is kept for."""
        budget = self.budget.answer
        if self.form is not None:
            return self.form.cost(tokenizer, self.spec.answer_marker, budget)
        return AnswerCost(positions=budget, steps=min(budget, RESERVED_ANSWER_TOKENS))

    def closing_positions(self, tokenizer: Tokenizer) -> int:
        """Return the most positions that are put in before the answer."""
        marker = self.spec.answer_marker
        parts: list[Part] = [Plain(forced_marker(marker, "prose"))] if marker else []
        if self.marked and (thoughts := self.spec.thoughts):
            parts[:0] = [*_end_of_thought(thoughts, cut=True), Trusted(_tail(thoughts))]
        return count_positions(to_segments(parts, tokenizer))

    def positions(self, tokenizer: Tokenizer) -> int:
        """Return the most positions that stage 2 takes behind its prompt."""
        answer = self.answer_cost(tokenizer).positions
        return self.budget.thinking + self.closing_positions(tokenizer) + answer


def thinking_prompt(
    chat_model: ChatModel,
    thinking: Thinking,
    question: str,
    extraction: str,
    conversation: tuple[Segment, ...] | None,
) -> tuple[Segment, ...]:
    """Build the prompt of stage 2.

    Args:
        chat_model: the reasoner.
        thinking: how the call goes.
        question: the question.
        extraction: text of stage 1.
        conversation: what was said before, if the reasoner is the perceiver: the prompt goes on in
            a further turn, which tells the history too. None: it is a conversation of its own.
    """
    chat, history = chat_model.chat, thinking.history
    before = history.opening(chat)
    if conversation is not None:
        before = [*end_turn(chat), *begin_user_turn(chat), *history.told()]
    values = {"question": question, "choices": thinking.choices, "extraction": extraction}
    content = fill(thinking.template, values)
    parts = [*before, *content, *begin_reply(chat, thinking.opening)]
    return (*(conversation or ()), *to_segments(parts, chat_model.tokenizer))


def think(
    chat_model: ChatModel,
    prompt: tuple[Segment, ...],
    thinking: Thinking,
    deadline: Deadline,
    watch: Watch | None = None,
) -> Generator[ReasoningToken | AnswerToken | Progress, None, Thought]:
    """Run stage 2.

    A marked thought ends with its end token, or is closed when its budget or the time is used up or
    it repeats itself. If the model stops, or its budget ends, before it has written the answer
    marker, the marker is put in as text, on a line of its own. The answer is never empty; see
    `write_answer`. In a form it begins right behind the marker: what the model wrote in one token
    with the marker's end is left out. Where there is no marker, there is no prose either.

    Args:
        chat_model: the reasoner.
        prompt: from `thinking_prompt`.
        thinking: how the call goes.
        deadline: thoughts and prose end while there is time to read what closes them and to write
            32 tokens of an answer, or the answer's budget if that is smaller.
        watch: sees how probable the tokens are; None: nobody does.

    Yields:
        Text as it is written, and progress before every step.

    Returns:
        The thought; its seconds are filled in by `edge_et.stages.timed`.
    """
    generation = Generation(chat_model, prompt, deadline, "think", watch)
    sampler = generation.sampler(thinking.sampling)
    closing = thinking.closing_positions(chat_model.tokenizer)
    answer_tokens = thinking.answer_cost(chat_model.tokenizer).steps
    special_ids = thought_ids(thinking.spec, chat_model.tokenizer)

    def should_stop() -> bool:
        return deadline.passed(chat_model.throughput.seconds_for(closing, answer_tokens))

    reason: FinishReason = "stop"
    reasoning, tail = "", ""
    left = thinking.budget.thinking
    if thinking.marked and (thoughts := thinking.spec.thoughts):
        reasoning = yield from _write_thought(generation, sampler, thoughts, left, should_stop)
        reason = generation.finish_reason
        left = 0 if reason in ("length", "deadline") else left - len(generation.tokens)
        tail = _tail(thoughts)
    marker = thinking.spec.answer_marker
    prose, begun, stream = "", "", TextStream(chat_model.tokenizer)
    if marker:
        prose, begun, stream = yield from _write_prose(
            generation, sampler, marker, left, should_stop, special_ids=special_ids, tail=tail
        )
        reason = generation.finish_reason if reason == "stop" else reason
    elif tail:
        generation.append(Trusted(tail))
    before = len(generation.tokens)
    if thinking.form is None:
        if watch is not None:
            watch.begun = begun = begun or watch.begun
        answer = yield from write_answer(
            generation,
            sampler,
            thinking.budget.answer,
            deadline,
            begun=begun,
            stream=stream,
            special_ids=special_ids,
            free=thinking.free,
        )
    else:
        if behind := begun + stream.finish():
            _drop_behind_marker(generation, behind)
            before -= 1
        answer = yield from thinking.form.write(
            generation,
            sampler,
            thinking.budget.answer,
            deadline,
            marker=marker,
            special_ids=special_ids,
        )
    reasons: dict[Stage, FinishReason] = {"think": reason} if marker or thinking.marked else {}
    return Thought(
        answer=answer.text,
        reasoning=(reasoning + prose).strip(),
        tokens=tuple(generation.tokens),
        usage=replace(generation.usage, answer_tokens=len(generation.tokens) - before),
        finish_reasons=reasons | {"answer": generation.finish_reason},
        value=answer.value,
        shares=answer.shares,
        logprobs=answer.logprobs,
    )


def thought_ids(spec: ThinkSpec, tokenizer: Tokenizer) -> frozenset[int]:
    """Return the tokens that open and close a thought; none where the reasoner has none."""
    texts = (spec.thoughts.start, spec.thoughts.end) if spec.thoughts else ()
    found = map(tokenizer.special_id, texts)
    return frozenset(token for token in found if token is not None)


def _write_thought(
    generation: Generation,
    sampler: Sampler,
    thoughts: ThoughtSpec,
    budget: int,
    should_stop: ShouldStop,
) -> Generator[ReasoningToken | Progress, None, str]:
    """Write a marked thought, or a part of it, and close it.

    Args:
        generation: ends with what opens the thought.
        sampler: chooses the tokens.
        thoughts: how they are marked.
        budget: most tokens, the one that closes the thought not counted.
        should_stop: see `edge_et.generation.generation.ShouldStop`.

    Yields:
        Text as it is written, and progress before every step.

    Returns:
        The text, with a line feed at its end.
    """
    tokenizer = generation.chat_model.tokenizer
    start, end = tokenizer.special_id(thoughts.start), tokenizer.special_id(thoughts.end)
    blocked = BlockedWords(thoughts.blocked_words, tokenizer)

    def refuses(token: int) -> bool:
        return token == start or blocked.refuses(generation.tokens, token)

    yield from generation.prefill()
    stream = TextStream(tokenizer)
    text = ""
    for token in generation.generate(sampler, budget, should_stop, refuses):
        if token == end:
            break
        if piece := stream.push(token):
            text += piece
            yield ReasoningToken(piece)
        yield generation.decode_progress(len(generation.tokens), budget)
    else:
        generation.append(*_end_of_thought(thoughts, cut=generation.finish_reason != "stop"))
    rest = stream.finish()
    if text + rest and not (text + rest).endswith("\n"):
        rest += "\n"
    if rest:
        yield ReasoningToken(rest)
    return text + rest


def _write_prose(
    generation: Generation,
    sampler: Sampler,
    marker: str,
    budget: int,
    should_stop: ShouldStop,
    *,
    special_ids: frozenset[int],
    tail: str,
) -> Generator[ReasoningToken | Progress, None, tuple[str, str, TextStream]]:
    """Write what comes before the answer marker, and put the marker in where it does not come.

    Args:
        generation: what stands before it.
        sampler: chooses the tokens.
        marker: separates prose and answer.
        budget: most tokens; 0 puts the marker in at once.
        should_stop: see `edge_et.generation.generation.ShouldStop`.
        special_ids: tokens that prose cannot hold.
        tail: trusted text that is put in before the marker where there is no prose.

    Yields:
        Text as it is written, and progress before every step.

    Returns:
        The text; that of the answer that came with the end of the marker; and what goes on making
        text of tokens.
    """
    tokenizer = generation.chat_model.tokenizer
    splitter = MarkerSplitter(marker)
    stream = TextStream(tokenizer)
    text = ""
    before = len(generation.tokens)
    if budget:
        yield from generation.prefill()
    for token in generation.generate(sampler, budget, should_stop, special_ids.__contains__):
        if piece := splitter.push(stream.push(token)):
            text += piece
            yield ReasoningToken(piece)
        if splitter.rest is not None:
            return text, splitter.rest, stream
        yield generation.decode_progress(len(generation.tokens) - before, budget)
    if piece := splitter.finish(stream.finish()):
        text += piece
        yield ReasoningToken(piece)
    generation.append(Trusted("" if text else tail), Plain(forced_marker(marker, text or tail)))
    return text, "", TextStream(tokenizer)


def _drop_behind_marker(generation: Generation, behind: str) -> None:
    """Leave nothing behind the marker that came in one token with its end.

    Args:
        generation: what was written.
        behind: what came with it, half a character as U+FFFD.
    """
    text = generation.chat_model.tokenizer.decode([generation.take_back()])
    generation.append(Plain(text[: len(text) - len(behind)]))


def _tail(thoughts: ThoughtSpec) -> str:
    """Return what stands between a thought and what is said, as the skipped thought shows it."""
    return thoughts.skip.rpartition(thoughts.end)[2] if thoughts.end in thoughts.skip else ""


def _end_of_thought(thoughts: ThoughtSpec, *, cut: bool) -> list[Part]:
    return [Trusted((thoughts.closing if cut else "") + thoughts.end)]
