"""Looking again: between the stages the reasoner names a detail that the extraction lacks.

In: an extraction, and who is asked. Out: the detail, and an extraction that holds what was seen
when it was looked again, too. How the picture is shown is not known here.
"""

from collections.abc import Generator
from dataclasses import replace
from string import punctuation, whitespace

from edge_et.bundle import ThinkSpec
from edge_et.generation import ChatModel, Deadline, Generation, ShouldStop, greedy
from edge_et.llm import (
    Segment,
    begin_reply,
    begin_user_turn,
    end_turn,
    fill,
    system_turn,
    to_segments,
)
from edge_et.results import Extraction, Progress
from edge_et.stages.hints import Hint
from edge_et.stages.several_pictures import told_alone
from edge_et.stages.thinking import thought_ids

BETWEEN_LOOKS = "\n"
"""Stands in an extraction between what was seen first and what was seen when looking again."""

_AROUND = whitespace + punctuation


def missing_prompt(
    chat_model: ChatModel,
    think: ThinkSpec,
    question: str,
    extraction: str,
    conversation: tuple[Segment, ...] | None,
) -> tuple[Segment, ...]:
    """Build the prompt that asks what is missing; a reasoner that marks thoughts is not to think.

    Args:
        chat_model: who is asked.
        think: how it is asked, and how thoughts are marked.
        question: the question.
        extraction: text of stage 1.
        conversation: as for `thinking_prompt`.
    """
    chat = chat_model.chat
    before = end_turn(chat) if conversation is not None else system_turn(chat)
    values = {"question": question, "extraction": extraction}
    content = fill(think.look_again.prompt, values)
    skip = think.thoughts.skip if think.thoughts else ""
    parts = [*before, *begin_user_turn(chat), *content, *begin_reply(chat, skip)]
    return (*(conversation or ()), *to_segments(parts, chat_model.tokenizer))


def ask_for_missing(
    chat_model: ChatModel,
    prompt: tuple[Segment, ...],
    think: ThinkSpec,
    *,
    deadline: Deadline,
    should_stop: ShouldStop,
) -> Generator[Progress, None, Hint]:
    """Let the reasoner name what is missing, in the most probable tokens.

    Args:
        chat_model: who is asked.
        prompt: from `missing_prompt`.
        think: what a reply means; it cannot hold the special tokens of thoughts.
        deadline: lends its clock.
        should_stop: says when there is no time for another look; nothing is missing then.

    Yields:
        Progress before every step.

    Returns:
        The detail, which is empty where nothing is missing; its seconds are filled in by `timed`.
    """
    generation = Generation(chat_model, prompt, deadline, "hint")
    spec = think.look_again
    budget, detail = spec.max_detail_tokens, ""
    if (yield from generation.prefill(should_stop)):
        refuses = thought_ids(think, chat_model.tokenizer).__contains__
        for _ in generation.generate(greedy, budget, should_stop, refuses):
            yield generation.decode_progress(len(generation.tokens), budget)
        if generation.finish_reason != "deadline":
            detail = read_detail(chat_model.tokenizer.decode(generation.tokens), spec.nothing)
    return Hint(text=detail, usage=generation.usage)


def read_detail(reply: str, nothing: str) -> str:
    """Return the detail that a reply names; empty where it says that nothing is missing.

    Args:
        reply: what the reasoner wrote; its first line with a word counts.
        nothing: word with which a reply begins that names none; marks around it are no part of it.
    """
    lines = (line.strip(_AROUND) for line in reply.splitlines())
    detail = next(filter(None, lines), "")
    word = nothing.strip(_AROUND) or nothing
    return "" if detail.casefold().startswith(word.casefold()) else detail


def with_further_look(first: Extraction, seen: Extraction, detail: str) -> Extraction:
    """Return an extraction that holds what was seen in a further look too, and what it took.

    Args:
        first: of the looks before; its conversation stays.
        seen: of the further look; if its text is empty, it only took time.
        detail: what was looked for.
    """
    both = replace(first, usage=replace(first.usage + seen.usage, pictures=first.usage.pictures))
    if seen.text:
        reasons = dict(first.finish_reasons)
        if reasons["extract"] == "stop":
            reasons["extract"] = seen.finish_reasons["extract"]
        both = replace(
            both,
            text=BETWEEN_LOOKS.join(filter(None, (first.text, seen.text))),
            tokens=first.tokens + seen.tokens,
            finish_reasons=reasons,
            details=(*first.details, detail),
        )
    return replace(both, extractions=(told_alone(both),))
