"""Questions about charts and tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import combinations

from edge_et.tuning.mini.facts import ChartEntry, ChartFacts
from edge_et.tuning.mini.questions.dice import Draw
from edge_et.tuning.training.example import Example

_PARTS = {"bar": "bar", "line": "point", "pie": "slice", "table": "row"}
_MOST = {
    "bar": (
        ("tallest", "highest", "longest", "largest", "biggest"),
        ("shortest", "lowest", "smallest"),
    ),
    "line": (("highest",), ("lowest",)),
    "pie": (("largest", "biggest"), ("smallest",)),
    "table": (("largest", "biggest"), ("smallest",)),
}
_MORE = {"largest": ("larger", "higher", "greater"), "smallest": ("smaller", "lower")}
_BY_COLOUR_SHARE = 0.3


def chart_name(kind: str) -> str:
    """Return what a kind of chart is called: "bar chart", "table"."""
    return "table" if kind == "table" else f"{kind} chart"


def describe(facts: ChartFacts, absent: str = "") -> str:
    """Write the extraction: every entry, with its colour where that tells more than the label."""
    entries = ", ".join(_entry(entry) for entry in facts.entries)
    shown = f"The {chart_name(facts.kind)} shows {entries}."
    return f"{shown} There is no {absent}." if absent else shown


def largest_entries(facts: ChartFacts) -> list[ChartEntry]:
    """List the entry with the largest value, if there is one such."""
    return _extreme(facts, max(entry.value for entry in facts.entries))


def smallest_entries(facts: ChartFacts) -> list[ChartEntry]:
    """List the entry with the smallest value, if there is one such."""
    return _extreme(facts, min(entry.value for entry in facts.entries))


def largest(facts: ChartFacts, entry: ChartEntry, draw: Draw) -> Example:
    """Ask for the entry with the largest value."""
    return _ask_extreme(facts, entry, draw, "largest")


def smallest(facts: ChartFacts, entry: ChartEntry, draw: Draw) -> Example:
    """Ask for the entry with the smallest value."""
    return _ask_extreme(facts, entry, draw, "smallest")


def chart_values(facts: ChartFacts) -> list[ChartEntry]:
    """List the entries of a chart, those of a table aside."""
    return [] if facts.kind == "table" else _unique(facts)


def chart_value(facts: ChartFacts, entry: ChartEntry, draw: Draw) -> Example:
    """Ask for the value of an entry, by its label or its colour."""
    named, part = name_entries(facts, [entry.label], draw)[0], _PARTS[facts.kind]
    if _tells_colour(facts) and draw.chance(_BY_COLOUR_SHARE):
        named = f"the {entry.colour} {part}"
    return _ask_value(
        facts,
        entry,
        "chart_value",
        draw.words("chart_value", entry=named, chart=chart_name(facts.kind)),
    )


def table_rows(facts: ChartFacts) -> list[ChartEntry]:
    """List the rows of a table."""
    return _unique(facts) if facts.kind == "table" else []


def table_lookup(facts: ChartFacts, entry: ChartEntry, draw: Draw) -> Example:
    """Ask for a value in a table."""
    return _ask_value(facts, entry, "table_lookup", draw.words("table_lookup", entry=entry.label))


Pair = tuple[ChartEntry, ChartEntry]


def different(facts: ChartFacts) -> list[Pair]:
    """List pairs of entries with different values, the larger first."""
    pairs = combinations(_unique(facts), 2)
    return [(a, b) if a.value > b.value else (b, a) for a, b in pairs if a.value != b.value]


def chart_compare(facts: ChartFacts, pair: Pair, draw: Draw) -> Example:
    """Ask whether one entry is larger, or smaller, than another."""
    big, small = pair
    first, second = pair if draw.chance() else (small, big)
    asks_large = draw.chance()
    named = name_entries(facts, [first.label, second.label], draw)
    than = "more" if first is big else "less"
    return Example(
        kind="chart_compare",
        question=draw.words(
            "chart_compare",
            first=named[0],
            second=named[1],
            more=draw.one(_MORE["largest" if asks_large else "smallest"]),
            chart=chart_name(facts.kind),
        ),
        extraction=describe(facts),
        reasoning=f"{_both(first, second)}; {first.value} is {than} than {second.value}.",
        answer="yes" if (first is big) == asks_large else "no",
    )


def pairs(facts: ChartFacts) -> list[Pair]:
    """List all pairs of entries."""
    return list(combinations(_unique(facts), 2))


def chart_sum(facts: ChartFacts, pair: Pair, draw: Draw) -> Example:
    """Ask for the sum of two entries."""
    first, second = pair if draw.chance() else pair[::-1]
    result = first.value + second.value
    named = name_entries(facts, [first.label, second.label], draw)
    return Example(
        kind="chart_sum",
        question=draw.words(
            "chart_sum",
            first=named[0],
            second=named[1],
            chart=chart_name(facts.kind),
        ),
        extraction=describe(facts),
        reasoning=f"{_both(first, second)}; {first.value} + {second.value} = {result}.",
        answer=str(result),
    )


def word_extreme(chart: str, kind: str, draw: Draw, *, by_colour: bool = False) -> str:
    """Phrase the question for the largest or the smallest entry of a kind of chart."""
    is_large = kind == "largest"
    return draw.words(
        f"{kind}.colour" if by_colour else kind,
        part=_PARTS[chart],
        most=draw.one(_MOST[chart][not is_large]),
        most_value=draw.one(("largest", "highest") if is_large else ("smallest", "lowest")),
        chart=chart_name(chart),
    )


def _ask_extreme(facts: ChartFacts, entry: ChartEntry, draw: Draw, kind: str) -> Example:
    by_colour = _tells_colour(facts) and draw.chance(_BY_COLOUR_SHARE)

    def named(one: ChartEntry) -> str:
        return (one.colour if by_colour else one.label) or ""

    return Example(
        kind=kind,
        question=word_extreme(facts.kind, kind, draw, by_colour=by_colour),
        extraction=describe(facts),
        reasoning=f"{_two_by_two(facts, kind, named)}{entry.value} {named(entry)} is the {kind}.",
        answer=named(entry),
    )


def _two_by_two(facts: ChartFacts, kind: str, named: Callable[[ChartEntry], str]) -> str:
    """Go through the entries, and tell after each the largest, or smallest, so far.

    A small model compares two numbers well, and five at once badly. The number comes before what it
    is of, as writing a name first would decide before the comparison.
    """
    comparative, better = ("larger", max) if kind == "largest" else ("smaller", min)
    best, steps = facts.entries[0], []
    for entry in facts.entries[1:]:
        both = f"{best.value} {named(best)}, {entry.value} {named(entry)}"
        best = better(best, entry, key=lambda one: one.value)
        steps.append(f"{comparative} of {both} is {best.value} {named(best)}; ")
    return "".join(steps)


def _ask_value(facts: ChartFacts, entry: ChartEntry, kind: str, question: str) -> Example:
    return Example(
        kind=kind,
        question=question,
        extraction=describe(facts),
        reasoning=f"The {chart_name(facts.kind)} says {_entry(entry)}.",
        answer=str(entry.value),
    )


def name_entries(facts: ChartFacts, labels: Sequence[str], draw: Draw) -> list[str]:
    """Name entries in a question; letters often as "bar a" and "bar b"."""
    if max(map(len, labels)) > 1 or draw.chance():
        return list(labels)
    return [f"{_PARTS[facts.kind]} {label}" for label in labels]


def _entry(entry: ChartEntry) -> str:
    if entry.colour is None or entry.colour == entry.label:
        return f"{entry.label} {entry.value}"
    return f"{entry.colour} {entry.label} {entry.value}"


def _both(first: ChartEntry, second: ChartEntry) -> str:
    return f"{first.label} {first.value}, {second.label} {second.value}"


def _extreme(facts: ChartFacts, value: int) -> list[ChartEntry]:
    found = [entry for entry in facts.entries if entry.value == value]
    return found if len(found) == 1 and len(facts.entries) > 1 else []


def _unique(facts: ChartFacts) -> list[ChartEntry]:
    counts = Counter(entry.label for entry in facts.entries)
    return [entry for entry in facts.entries if counts[entry.label] == 1]


def _tells_colour(facts: ChartFacts) -> bool:
    """Say whether every entry has a colour of its own that is not its label."""
    colours = [entry.colour for entry in facts.entries]
    labelled = any(entry.colour == entry.label for entry in facts.entries)
    return None not in colours and len(set(colours)) == len(colours) and not labelled
