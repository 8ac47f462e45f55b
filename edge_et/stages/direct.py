"""The baseline of one stage: the answer at once, without extraction and reasoning.

In: the perceiver and a prompt with the image. Out: text as it is written, and a `Thought` without
reasoning as the generator's return value.
"""

from collections.abc import Generator
from dataclasses import replace

from edge_et.bundle import Sampling
from edge_et.generation import ChatModel, Deadline, Generation, Watch
from edge_et.llm import Segment
from edge_et.results import AnswerToken, Progress, Thought
from edge_et.stages.answer_forms import AnswerForm
from edge_et.stages.answering import FreeText, write_answer


def answer_at_once(
    chat_model: ChatModel,
    prompt: tuple[Segment, ...],
    budget: int,
    sampling: Sampling,
    deadline: Deadline,
    form: AnswerForm | None = None,
    free: FreeText | None = None,
    watch: Watch | None = None,
) -> Generator[AnswerToken | Progress, None, Thought]:
    """Run the one-stage baseline.

    Args:
        chat_model: the perceiver.
        prompt: from `image_prompt`.
        budget: most tokens to write, at least 1.
        sampling: how to choose them.
        deadline: ends the answer once it has text.
        form: how the answer is written; None: as free text.
        free: what the caller says of that; None: nothing.
        watch: sees how probable the tokens are; None: nobody does.

    Yields:
        Text as it is written, and progress before every step.

    Returns:
        The answer; its seconds are filled in by `timed`.
    """
    generation = Generation(chat_model, prompt, deadline, watch=watch)
    sampler = generation.sampler(sampling)
    if form is None:
        answer = yield from write_answer(
            generation, sampler, budget, deadline, free=free or FreeText()
        )
    else:
        answer = yield from form.write(
            generation, sampler, budget, deadline, marker="", special_ids=frozenset()
        )
    return Thought(
        answer=answer.text,
        reasoning="",
        tokens=tuple(generation.tokens),
        usage=replace(generation.usage, answer_tokens=len(generation.tokens)),
        finish_reasons={"answer": generation.finish_reason},
        value=answer.value,
        shares=answer.shares,
        logprobs=answer.logprobs,
    )
