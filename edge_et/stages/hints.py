"""Hints: what the perceiver is asked to pay special attention to.

In: a bundle's prompts, a question, and who may be asked. Out: the text for ``{hint}`` in the prompt
of stage 1. Where a caller gives the hint nobody is asked; otherwise it is the question itself, or
what the reasoner makes of it in one short generation.

The reasoner is asked in a cache of its own, also where it is the perceiver: the fixed words before
the question stay in it from call to call, and neither the picture in the perceiver's cache nor the
fixed words of stage 2 in the reasoner's have to make room.
"""

from collections.abc import Generator
from dataclasses import dataclass

from edge_et.bundle import ExtractSpec, HintSpec, ThinkSpec
from edge_et.generation import ChatModel, Deadline, Generation, ShouldStop, greedy
from edge_et.llm import Segment, fill, system_turn, to_segments, user_turn
from edge_et.results import FinishReason, PhaseUsage, Progress
from edge_et.stages.thinking import thought_ids


@dataclass(frozen=True, slots=True, kw_only=True)
class Hint:
    """What stands for ``{hint}``.

    Attributes:
        text: the hint; empty where the prompt has no place for it.
        usage: what it took; None: nobody was asked.
        finish_reason: why it ended; None: nobody was asked.
    """

    text: str
    usage: PhaseUsage | None = None
    finish_reason: FinishReason | None = None


def fit_hint(spec: ExtractSpec, hint: str) -> str:
    """Return a hint as it goes into its place: without a full stop if the prompt has one there.

    Args:
        spec: of stage 1.
        hint: without white space around it.
    """
    if not spec.hint_places:
        return ""
    return hint.removesuffix(".") if "{hint}." in spec.prompt + (spec.system or "") else hint


def hint_prompt(
    chat_model: ChatModel, spec: HintSpec, think: ThinkSpec, question: str
) -> tuple[Segment, ...]:
    """Build the prompt that asks for a hint; a reasoner that marks thoughts is not to think.

    Args:
        chat_model: who is asked.
        spec: how.
        think: how thoughts are marked.
        question: the question.
    """
    content = fill(spec.prompt, {"question": question})
    skip = think.thoughts.skip if think.thoughts else ""
    parts = [*system_turn(chat_model.chat), *user_turn(chat_model.chat, content, skip)]
    return to_segments(parts, chat_model.tokenizer)


def ask_for_hint(
    chat_model: ChatModel,
    spec: HintSpec,
    think: ThinkSpec,
    question: str,
    *,
    deadline: Deadline,
    should_stop: ShouldStop,
) -> Generator[Progress, None, Hint]:
    """Let the reasoner say what the question depends on.

    The most probable tokens are taken, so that the same question has the same hint.

    Args:
        chat_model: who is asked.
        spec: how.
        think: how thoughts are marked; a hint cannot hold their special tokens.
        question: the question; it is the hint as well if nothing is written.
        deadline: lends its clock.
        should_stop: says when to cut the hint.

    Yields:
        Progress before every step.

    Returns:
        The hint; its seconds are filled in by `timed`.
    """
    prompt = hint_prompt(chat_model, spec, think, question)
    generation = Generation(chat_model, prompt, deadline, "hint")
    reason: FinishReason = "deadline"
    budget = spec.max_hint_tokens
    if (yield from generation.prefill(should_stop)):
        special_ids = thought_ids(think, chat_model.tokenizer)
        refuses = special_ids.__contains__
        for _ in generation.generate(greedy, budget, should_stop, refuses):
            yield generation.decode_progress(len(generation.tokens), budget)
        reason = generation.finish_reason
    text = chat_model.tokenizer.decode(generation.tokens).strip() or question
    return Hint(text=text, usage=generation.usage, finish_reason=reason)
