"""What a question about a picture is, with the extraction, the reasoning and the right answer."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One question about a picture, answered in two stages.

    Attributes:
        kind: what sort of question it is; a recipe has its own names for them.
        question: as a person would ask it.
        extraction: what stage 1 should write.
        reasoning: what stage 2 should think, given the extraction.
        answer: what stage 2 should answer after it.
    """

    kind: str
    question: str
    extraction: str
    reasoning: str
    answer: str
