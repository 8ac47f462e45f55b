"""Stage 1: the perceiver writes down what matters for a question.

In: a chat model, image tokens, texts and budgets. Out: text as it is written, and an `Extraction`
as the generator's return value. What becomes of it is not known here.
"""

from collections.abc import Generator, Iterable

from edge_et.bundle import ChatSpec, ExtractSpec, Sampling
from edge_et.generation import ChatModel, Deadline, Generation, ShouldStop, Watch
from edge_et.image import ImageTokens
from edge_et.llm import (
    Part,
    Segment,
    TextStream,
    fill,
    system_turn,
    to_segments,
    told_reply,
    user_turn,
    without_unread_rows,
)
from edge_et.results import Extraction, ExtractionToken, Progress


def image_prompt(
    chat_model: ChatModel, template: str, image: ImageTokens | Iterable[Part], question: str
) -> tuple[Segment, ...]:
    """Build the prompt of the one-stage baseline.

    Args:
        chat_model: the perceiver.
        template: the user's turn.
        image: what ``{image}`` stands for.
        question: what ``{question}`` stands for.
    """
    content = fill(template, {"question": question}, image)
    parts = [*system_turn(chat_model.chat), *user_turn(chat_model.chat, content)]
    return to_segments(parts, chat_model.tokenizer)


def extraction_prompt(
    chat_model: ChatModel, spec: ExtractSpec, image: Iterable[Part], question: str, hint: str = ""
) -> tuple[Segment, ...]:
    """Build the prompt of stage 1.

    Args:
        chat_model: the perceiver.
        spec: its turns.
        image: what ``{image}`` stands for: a picture, or several in a row.
        question: what ``{question}`` stands for.
        hint: what ``{hint}`` stands for.
    """
    turns = extraction_turns(chat_model.chat, spec, question, hint, image)
    return to_segments(turns, chat_model.tokenizer)


def extraction_turns(
    chat: ChatSpec,
    spec: ExtractSpec,
    question: str,
    hint: str,
    image: ImageTokens | Iterable[Part] = (),
) -> list[Part]:
    """Return the turns of stage 1, up to what the perceiver is to write.

    Args:
        chat: the perceiver's chat format.
        spec: the turns.
        question: what ``{question}`` stands for.
        hint: what ``{hint}`` stands for.
        image: what ``{image}`` stands for.
    """
    values = {"question": question, "hint": hint}
    told = fill(spec.system, values) if spec.system is not None else ""
    return [*system_turn(chat, told), *user_turn(chat, fill(spec.prompt, values, image))]


def told_conversation(
    chat_model: ChatModel, spec: ExtractSpec, question: str, hint: str, extraction: str
) -> tuple[Segment, ...]:
    """Build the conversation of stage 1 around an extraction from elsewhere, without an image.

    Args:
        chat_model: the perceiver, to whom the extraction is told as if it had written it.
        spec: of stage 1; nothing stands for ``{image}``.
        question: what ``{question}`` stands for.
        hint: what ``{hint}`` stands for.
        extraction: its text.
    """
    turns = extraction_turns(chat_model.chat, spec, question, hint)
    said = told_reply(chat_model.chat, extraction)
    return to_segments([*turns, *said], chat_model.tokenizer)


def extract(
    chat_model: ChatModel,
    prompt: tuple[Segment, ...],
    budget: int,
    sampling: Sampling,
    *,
    deadline: Deadline,
    should_stop: ShouldStop,
    watch: Watch | None = None,
) -> Generator[ExtractionToken | Progress, None, Extraction]:
    """Run stage 1.

    Args:
        chat_model: the perceiver.
        prompt: from `extraction_prompt`.
        budget: most tokens to write, at least 1.
        sampling: how to choose them.
        deadline: lends its clock.
        should_stop: says when to cut the extraction. If that comes before the prompt is read,
            nothing is written, and the conversation has only those rows of the image that were
            read.
        watch: sees how probable the tokens are; None: nobody does.

    Yields:
        Text as it is written, and progress before every step.

    Returns:
        The extraction; its seconds are filled in by `timed`.
    """
    generation = Generation(chat_model, prompt, deadline, watch=watch)
    sampler = generation.sampler(sampling)
    if not (yield from generation.prefill(should_stop)):
        return Extraction(
            text="",
            tokens=(),
            conversation=without_unread_rows(prompt, generation.held),
            usage=generation.usage,
            finish_reasons={"extract": "deadline"},
        )
    stream = TextStream(chat_model.tokenizer)
    text = ""
    for token in generation.generate(sampler, budget, should_stop):
        if piece := stream.push(token):
            text += piece
            yield ExtractionToken(piece)
        yield generation.decode_progress(len(generation.tokens), budget)
    if piece := stream.finish():
        text += piece
        yield ExtractionToken(piece)
    return Extraction(
        text=text.strip(),
        tokens=tuple(generation.tokens),
        conversation=generation.segments,
        usage=generation.usage,
        finish_reasons={"extract": generation.finish_reason},
    )
