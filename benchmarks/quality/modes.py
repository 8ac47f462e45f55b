"""Modes of answering. In: a pipeline, a picture and a question. Out: a reply.

Stage 1 runs once for all modes that use the same extraction, so that they differ in nothing else.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from time import perf_counter
from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta

from edge_et.benchmarks.quality.scoring import is_accepted, mentions
from edge_et.tuning.mini.recipe import CAPTION_PROMPT

if TYPE_CHECKING:
    from edge_et.image import ImageTokens
    from edge_et.keywords import OptionValues
    from edge_et.pipeline import ExtractThink
    from edge_et.results import Extraction

EXTRACTION = "extraction"
"""The mode that answers nothing: right where the extraction mentions the answer."""

CHOICES = "choices"
"""The mode that takes one of the texts that are offered; other modes are not told them."""

LOOKS = 2
"""Details that the reasoner may ask for in the mode `look-again`."""


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """What one mode of answering said."""

    text: Annotated[str, Meta(description="The answer; empty for an extraction alone.")]
    extraction: Annotated[str, Meta(description="What stage 1 wrote; empty for direct answers.")]
    reasoning: Annotated[str, Meta(description="What stage 2 thought.")]
    seconds: Annotated[float, Meta(description="Of the language models, stage after stage.")]
    tokens: Annotated[int, Meta(description="Written in all stages.")] = 0
    shares: Annotated[
        dict[str, float], Meta(description="By text that was offered; empty if none was.")
    ] = {}


class Asking:
    """One question about one picture; what several modes need is made once."""

    def __init__(
        self,
        pipe: ExtractThink,
        image: ImageTokens,
        question: str,
        options: OptionValues | None = None,
        offered: Sequence[str] = (),
    ) -> None:
        """Begin to ask; nothing runs yet.

        Args:
            pipe: answers.
            image: the picture, encoded by it.
            question: not empty.
            options: of every stage; None: the bundle's defaults.
            offered: what `extract_then_choose` chooses among.
        """
        self.pipe = pipe
        self.image = image
        self.question = question
        self.options: OptionValues = options or {}
        self.offered = offered

    @cached_property
    def extraction(self) -> tuple[Extraction, float]:
        """What the bundle writes in stage 1, and the seconds it took, a hint included."""
        return self._extract(self.pipe)

    @cached_property
    def looked_again(self) -> tuple[Extraction, float]:
        """What it writes where the reasoner may ask for `LOOKS` details, and the seconds."""
        return self._extract(self.pipe, {"look_again": LOOKS})

    @cached_property
    def caption(self) -> tuple[Extraction, float]:
        """A description written without knowing the question, and the seconds it took."""
        # The mini learnt this prompt; a second copy of it could come to differ.
        pipe = copy.copy(self.pipe)
        extract = msgspec.structs.replace(pipe.manifest.extract, prompt=CAPTION_PROMPT, hint=None)
        pipe.manifest = msgspec.structs.replace(pipe.manifest, extract=extract)
        return self._extract(pipe)

    def _extract(
        self, pipe: ExtractThink, others: OptionValues | None = None
    ) -> tuple[Extraction, float]:
        start = perf_counter()
        options: OptionValues = {**self.options, **(others or {})}
        extraction = pipe.extract(self.image, self.question, **options)
        return extraction, perf_counter() - start


def extraction_only(asking: Asking) -> Reply:
    """Write down what matters for the question, and answer nothing."""
    extraction, seconds = asking.extraction
    return Reply(
        text="",
        extraction=extraction.text,
        reasoning="",
        seconds=seconds,
        tokens=extraction.usage.generated_tokens,
    )


def extract_then_think(asking: Asking) -> Reply:
    """Answer as the paper does: extraction for the question, reasoning, answer."""
    return _think(asking, asking.extraction)


def look_again_then_think(asking: Asking) -> Reply:
    """Answer as the paper does, but let the reasoner ask for details that it misses first."""
    return _think(asking, asking.looked_again)


def extract_then_answer(asking: Asking) -> Reply:
    """Answer from the extraction, without reasoning."""
    return _think(asking, asking.extraction, {"max_thinking_tokens": 0})


def extract_then_choose(asking: Asking) -> Reply:
    """Answer as the paper does, but with one of the texts that are offered."""
    return _think(asking, asking.extraction, {"choices": asking.offered})


def caption_then_think(asking: Asking) -> Reply:
    """Answer from a description that was written without knowing the question."""
    return _think(asking, asking.caption)


def direct(asking: Asking) -> Reply:
    """Answer at once."""
    answer = asking.pipe.answer_directly(asking.image, asking.question, **asking.options)
    usage = answer.usage["think"]
    return Reply(
        text=answer.text,
        extraction="",
        reasoning="",
        seconds=usage.seconds,
        tokens=usage.generated_tokens,
    )


def _think(
    asking: Asking, extracted: tuple[Extraction, float], others: OptionValues | None = None
) -> Reply:
    extraction, seconds = extracted
    options: OptionValues = {**asking.options, **(others or {})}
    thought = asking.pipe.think(asking.question, extraction, **options)
    return Reply(
        text=thought.answer,
        extraction=extraction.text,
        reasoning=thought.reasoning,
        seconds=seconds + thought.usage.seconds,
        tokens=extraction.usage.generated_tokens + thought.usage.generated_tokens,
        shares=dict(thought.shares),
    )


# Those that can be asked with a question alone.
# Those that go on behind one extraction follow each other, which saves reading it again.
MODES: Mapping[str, Callable[[Asking], Reply]] = {
    "extract-think": extract_then_think,
    "extract-answer": extract_then_answer,
    EXTRACTION: extraction_only,
    "caption-think": caption_then_think,
    "direct": direct,
}

ALL_MODES: Mapping[str, Callable[[Asking], Reply]] = {
    **MODES,
    CHOICES: extract_then_choose,
    "look-again": look_again_then_think,
}


def ask(
    pipe: ExtractThink, image: ImageTokens, question: str, modes: Iterable[str]
) -> dict[str, Reply]:
    """Ask a question in several modes.

    Args:
        pipe: answers.
        image: the picture, encoded by it.
        question: not empty.
        modes: keys of `MODES`.

    Raises:
        EdgeETError: as for `ExtractThink.answer` and `ExtractThink.answer_directly`.
    """
    asking = Asking(pipe, image, question)
    chosen = frozenset(modes)
    return {name: mode(asking) for name, mode in MODES.items() if name in chosen}


def is_reply_right(
    mode: str, reply: Reply, accepted: Sequence[str], choices: Sequence[str] = ()
) -> bool:
    """Say whether a reply is right.

    Args:
        mode: the one that the reply comes from, a key of `ALL_MODES`.
        reply: what was said.
        accepted: any of these answers is right.
        choices: what could be chosen from, if it was told.
    """
    if mode == EXTRACTION:
        return mentions(reply.extraction, accepted)
    return is_accepted(reply.text, accepted, choices)
