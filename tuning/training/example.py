"""What a question about a picture is, with the extraction, the reasoning and the right answer."""

from __future__ import annotations

from dataclasses import dataclass

OBJECT_KINDS = (
    "name",
    "colour",
    "exists",
    "where",
    "what_at",
    "count",
    "count_condition",
    "more",
    "larger",
    "left_of",
    "odd_one_out",
)
PRINT_KINDS = ("read_word", "read_number", "arithmetic")
CHART_KINDS = (
    "largest",
    "smallest",
    "chart_value",
    "chart_compare",
    "chart_sum",
    "table_lookup",
)
KINDS = (*OBJECT_KINDS, *PRINT_KINDS, *CHART_KINDS, "unknown")

RELATION_KINDS = ("more", "larger", "left_of")
"""Kinds that compare two objects, or labels of objects."""

TWO_STEP_KINDS = (
    *RELATION_KINDS,
    "count_condition",
    "arithmetic",
    "chart_sum",
    "chart_compare",
    "largest",
    "smallest",
)
"""Kinds that take a step from what is seen to what is answered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One question about a picture, answered in two stages.

    Attributes:
        kind: One of `KINDS`.
        question: As a person would ask it.
        extraction: What stage 1 should write.
        reasoning: What stage 2 should think, given the extraction.
        answer: What stage 2 should answer after it.
    """

    kind: str
    question: str
    extraction: str
    reasoning: str
    answer: str
