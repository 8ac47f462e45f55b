"""Stage 1 of several pictures: each is written down on its own, and all is told as one text.

In: a chat model, the prompt of each picture, budgets. Out: text as it is written, and an
`Extraction` of all of them. An extraction depends on its own picture alone: it has the prompt that
it would have if there were no other, and a KV cache makes the same bits of that (see
`edge_et.llm.kv_positions`).
"""

from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import replace

from edge_et.bundle import PicturesSpec, Sampling
from edge_et.generation import ChatModel, Deadline, Watch
from edge_et.llm import Segment
from edge_et.results import (
    Extraction,
    ExtractionToken,
    FinishReason,
    PhaseUsage,
    PictureExtraction,
    Progress,
)
from edge_et.stages.extraction import extract
from edge_et.stages.timing import timed

RESERVED_EXTRACTION_TOKENS = 16
"""Tokens of each extraction that time is kept for: a short sentence."""


def extract_each(
    chat_model: ChatModel,
    prompts: Sequence[tuple[Segment, ...]],
    budget: int,
    sampling: Sampling,
    spec: PicturesSpec,
    *,
    deadline: Deadline,
    seconds_left: Callable[[], float],
    should_stop: Callable[[float], bool],
    watch: Watch | None = None,
) -> Generator[ExtractionToken | Progress, None, Extraction]:
    """Run stage 1 for one picture after the other.

    Where time is short, each picture gets the time to read its prompt and to write
    `RESERVED_EXTRACTION_TOKENS`, or its share of the time if that is more; what that leaves is kept
    for the pictures behind it, as far as they need it for the same. So what time is not enough for
    are the last pictures. A picture that is not looked at has an empty extraction.

    Args:
        chat_model: the perceiver.
        prompts: from `extraction_prompt`, one for each picture.
        budget: most tokens to write of each, at least 1.
        sampling: how to choose them.
        spec: how extractions become one text.
        deadline: lends its clock.
        seconds_left: returns the time left for all of it; infinite where there is no hurry.
        should_stop: says whether to cut an extraction if so many seconds are kept for the pictures
            behind it.
        watch: as for `extract`.

    Yields:
        Text as it is written, with its picture, and progress before every step.

    Returns:
        The extractions. No conversation holds them; see `told_conversation`.
    """
    done: list[PictureExtraction] = []
    tokens: tuple[int, ...] = ()
    for number, prompt in enumerate(prompts):
        begun = _Share(chat_model, prompts[number:], budget, seconds_left())

        def has_to_stop(share: _Share = begun) -> bool:
            return should_stop(share.kept_s())

        if has_to_stop():
            done.append(PictureExtraction(text="", finish_reason="deadline", usage=PhaseUsage()))
            continue
        one = extract(
            chat_model,
            prompt,
            budget,
            sampling,
            deadline=deadline,
            should_stop=has_to_stop,
            watch=watch,
        )
        extraction = yield from timed(_of_picture(number, _kept(chat_model, prompts, number, one)))
        tokens += extraction.tokens
        done.append(told_alone(extraction))
    return Extraction(
        text=told_together(spec, done),
        tokens=tokens,
        conversation=(),
        usage=sum((one.usage for one in done), PhaseUsage()),
        finish_reasons={"extract": _reason_of(done)},
        extractions=tuple(done),
    )


class _Share:
    """What of the time left is kept for the pictures behind one of them."""

    def __init__(
        self,
        chat_model: ChatModel,
        prompts: Sequence[tuple[Segment, ...]],
        budget: int,
        seconds_left: float,
    ) -> None:
        """Begin with a picture.

        Args:
            chat_model: the perceiver.
            prompts: of the picture, and of those behind it.
            budget: most tokens of an extraction.
            seconds_left: for all of them.
        """
        self._throughput = chat_model.throughput
        self._missing = [chat_model.kv_cache.missing(prompt) for prompt in prompts]
        self._tokens = min(budget, RESERVED_EXTRACTION_TOKENS)
        self._seconds_left = seconds_left

    def kept_s(self) -> float:
        """Return the seconds kept, at the pace measured so far."""
        first, *behind = self._missing
        needed = self._throughput.seconds_for(sum(behind), self._tokens * len(behind))
        own = self._throughput.seconds_for(first, self._tokens)
        own = max(own, self._seconds_left / (1 + len(behind)))
        return min(needed, max(self._seconds_left - own, 0.0))


def told_alone(extraction: Extraction) -> PictureExtraction:
    """Return what was written of one picture, or of several that were shown together."""
    reason = extraction.finish_reasons["extract"]
    return PictureExtraction(text=extraction.text, finish_reason=reason, usage=extraction.usage)


def told_together(spec: PicturesSpec, extractions: Iterable[PictureExtraction]) -> str:
    """Return the text that stage 2 reads of several pictures.

    Args:
        spec: how it is made.
        extractions: of the pictures, in their order.
    """
    items = []
    for number, extraction in enumerate(extractions):
        if not extraction.text and extraction.finish_reason == "deadline":
            items.append(_numbered(spec.unseen, number))
        else:
            head, _, tail = spec.item.partition("{extraction}")
            items.append(_numbered(head, number) + extraction.text + _numbered(tail, number))
    return spec.separator.join(items)


def _numbered(template: str, number: int) -> str:
    return template.replace("{number}", str(number + 1))


def _reason_of(extractions: Iterable[PictureExtraction]) -> FinishReason:
    reasons = (one.finish_reason for one in extractions)
    return next((reason for reason in reasons if reason != "stop"), "stop")


def _kept(
    chat_model: ChatModel,
    prompts: Sequence[tuple[Segment, ...]],
    number: int,
    events: Generator[ExtractionToken | Progress, None, Extraction],
) -> Generator[ExtractionToken | Progress, None, Extraction]:
    """Run an extraction, and keep what was read of its picture before the next one displaces it."""
    extraction = yield from events
    if extraction.tokens or extraction.finish_reasons["extract"] != "deadline":
        chat_model.kv_cache.keep_image(prompts[number], prompts)
    return extraction


def _of_picture(
    number: int, events: Generator[ExtractionToken | Progress, None, Extraction]
) -> Generator[ExtractionToken | Progress, None, Extraction]:
    """Pass an extraction on, and say which picture it is of."""
    while True:
        try:
            event = next(events)
        except StopIteration as stop:
            extraction: Extraction = stop.value
            return replace(extraction, usage=replace(extraction.usage, pictures=1))
        is_of_picture = isinstance(event, ExtractionToken) or event.stage == "extract"
        yield replace(event, picture=number) if is_of_picture else event
