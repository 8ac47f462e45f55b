"""Questions about any picture: the kinds that fit it, and one question of a kind."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from edge_et.tuning.mini.facts import ChartFacts, Facts, ObjectFacts, PrintFacts
from edge_et.tuning.mini.questions import charts, objects, printed, refusals, relations
from edge_et.tuning.mini.questions.dice import Draw
from edge_et.tuning.mini.questions.kinds import KINDS
from edge_et.tuning.training.example import Example

_Maker = tuple[Callable[[Any], Sequence[Any]], Callable[[Any, Any, Draw], Example]]

_MAKERS: dict[type, dict[str, _Maker]] = {
    ObjectFacts: {
        "name": (objects.names, objects.name),
        "colour": (objects.colours, objects.colour),
        "exists": (objects.presents, objects.exists),
        "where": (objects.singles, objects.where),
        "what_at": (objects.placed, objects.what_at),
        "count": (objects.counted, objects.count),
        "count_condition": (relations.sorts, relations.count_condition),
        "more": (relations.uneven, relations.more),
        "larger": (relations.sized, relations.larger),
        "left_of": (relations.apart, relations.left_of),
        "odd_one_out": (relations.odd_ones, relations.odd_one_out),
    },
    PrintFacts: {
        "read_word": (printed.words, printed.read_word),
        "read_number": (printed.numbers, printed.read_number),
        "arithmetic": (printed.sums, printed.arithmetic),
    },
    ChartFacts: {
        "largest": (charts.largest_entries, charts.largest),
        "smallest": (charts.smallest_entries, charts.smallest),
        "chart_value": (charts.chart_values, charts.chart_value),
        "chart_compare": (charts.different, charts.chart_compare),
        "chart_sum": (charts.pairs, charts.chart_sum),
        "table_lookup": (charts.table_rows, charts.table_lookup),
    },
}
"""For each kind: what of the facts it can ask about, and how it asks about one of these."""


def ask(
    facts: Facts, kind: str, rng: np.random.Generator, held_out: bool = False
) -> Example | None:
    """Make one question of a kind about a picture.

    Args:
        facts: what the picture shows.
        kind: one of `KINDS`.
        rng: chooses what is asked about, and the words.
        held_out: whether to word the question as training never does.

    Returns:
        The question, or None where the picture has no answer of that kind.

    Raises:
        ValueError: there is no such kind.
    """
    if kind not in KINDS:
        raise ValueError(f"{kind!r} is no kind of question; there are {', '.join(KINDS)}")
    draw = Draw(rng, held_out)
    if kind == "unknown":
        return refusals.unknown(facts, draw)
    makers = _MAKERS[type(facts)]
    if kind not in makers:
        return None
    list_candidates, make = makers[kind]
    candidates = list_candidates(facts)
    return make(facts, draw.one(candidates), draw) if candidates else None


def kinds_for(facts: Facts) -> list[str]:
    """List the kinds of question that a picture can be asked."""
    makers = _MAKERS[type(facts)]
    return [
        kind for kind in KINDS if kind == "unknown" or (kind in makers and makers[kind][0](facts))
    ]


def caption(facts: Facts) -> str:
    """Describe the whole picture, as no question has asked for: all of it, in reading order."""
    if isinstance(facts, ObjectFacts):
        return objects.describe(facts.objects)
    if isinstance(facts, PrintFacts):
        return printed.describe(facts)
    return charts.describe(facts)
