"""The control of an answer: how sure the same answer is without the extraction, or the picture.

In: who answered, what a `Watch` saw, what is told instead. Out: a `Control`, or None where nobody
asked for it, or there is no time or no room. Where it is read in the cache that holds the picture,
what is held of the picture is copied before, to come back for the next question.
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass, replace

import msgspec

from edge_et.generation import ChatModel, Deadline, Watch
from edge_et.llm import Segment, count_positions
from edge_et.pipeline.request import Request
from edge_et.results import Progress, StageEvent, Thought
from edge_et.stages import (
    Control,
    Thinking,
    answer_at_once,
    control,
    image_prompt,
    think,
    thinking_prompt,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """An answer that was written.

    Attributes:
        shown: begins with the picture that the cache holds; empty where it holds none.
        watch: saw the answer.
        answer: its text.
    """

    shown: tuple[Segment, ...]
    watch: Watch
    answer: str


Write = Callable[[Deadline, Watch], Generator[StageEvent, None, Thought]]


def without_extraction(
    chat_model: ChatModel,
    request: Request,
    thinking: Thinking,
    told: tuple[Segment, ...] | None,
    written: Written,
    deadline: Deadline,
) -> Generator[Progress, None, Control | None]:
    """Ask stage 2 for an answer that it gave to an extraction.

    Args:
        chat_model: the reasoner.
        request: what the caller wants.
        thinking: how stage 2 goes without thinking.
        told: as for `thinking_prompt`, with an empty extraction and no picture.
        written: the answer.
        deadline: of the call.
    """
    if request.options.confidence != "control":
        return None
    marker = thinking.spec.answer_marker + written.watch.begun
    spec = msgspec.structs.replace(thinking.spec, answer_marker=marker)
    thinking = replace(thinking, spec=spec)
    prompt = thinking_prompt(chat_model, thinking, request.question, "", told)
    tokenizer = chat_model.tokenizer
    steps = len(written.watch.said("answer")) or thinking.answer_cost(tokenizer).steps
    if not _fits(chat_model, prompt, thinking.positions(tokenizer), steps, deadline):
        return None

    def write(unhurried: Deadline, again: Watch) -> Generator[StageEvent, None, Thought]:
        return think(chat_model, prompt, thinking, unhurried, again)

    return (yield from _write_again(chat_model, write, written, deadline))


def without_picture(
    chat_model: ChatModel,
    request: Request,
    template: str,
    budget: int,
    written: Written,
    deadline: Deadline,
) -> Generator[Progress, None, Control | None]:
    """Ask the one-stage baseline for an answer that it gave to a picture.

    Args:
        chat_model: the perceiver.
        request: what the caller wants.
        template: the user's turn.
        budget: most tokens of the answer.
        written: the answer.
        deadline: of the call.
    """
    if request.options.confidence != "control":
        return None
    prompt = image_prompt(chat_model, template, (), request.question)
    steps = len(written.watch.said("answer"))
    if not steps and request.form is not None:
        steps = request.form.cost(chat_model.tokenizer, "", budget).steps
    if not _fits(chat_model, prompt, budget, steps, deadline):
        return None

    def write(unhurried: Deadline, again: Watch) -> Generator[StageEvent, None, Thought]:
        free, sampling = request.thinking.free, request.plain_sampling
        return answer_at_once(
            chat_model, prompt, budget, sampling, unhurried, request.form, free, again
        )

    return (yield from _write_again(chat_model, write, written, deadline))


def _fits(
    chat_model: ChatModel, prompt: tuple[Segment, ...], more: int, steps: int, deadline: Deadline
) -> bool:
    """Return whether there is room for a prompt and so many more positions, and time for it."""
    kv_cache = chat_model.kv_cache
    seconds = chat_model.throughput.seconds_for(kv_cache.missing(prompt), steps)
    has_room = count_positions(prompt) + more <= kv_cache.context_length
    return has_room and not deadline.passed(seconds)


def _write_again(
    chat_model: ChatModel,
    write: Write,
    written: Written,
    deadline: Deadline,
) -> Generator[Progress, None, Control | None]:
    """Write what was written before, to its end or not at all."""
    if written.shown:
        chat_model.kv_cache.keep_image(written.shown, [written.shown])
    again = Watch(written.watch.said("answer"), written.watch.begun)
    events = write(Deadline(clock=deadline.clock), again)
    return (yield from control(events, again, written.answer, deadline))
