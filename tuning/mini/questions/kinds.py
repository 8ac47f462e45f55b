"""The kinds of questions about scenes."""

from __future__ import annotations

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
