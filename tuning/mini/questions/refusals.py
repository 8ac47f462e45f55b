"""Questions about what a picture does not show; the answer is that it is not there.

They are worded like the questions that have answers, so that only the picture tells them apart.
"""

from __future__ import annotations

from collections.abc import Container

from edge_et.tuning.mini.concepts import COLOURS, SHAPES
from edge_et.tuning.mini.facts import ChartFacts, Facts, ObjectFacts, PrintFacts
from edge_et.tuning.mini.questions import charts, objects, printed
from edge_et.tuning.mini.questions.dice import Draw
from edge_et.tuning.mini.questions.labels import absent_label, distinct, is_or_are
from edge_et.tuning.mini.scenes.objects import THING_LABELS
from edge_et.tuning.mini.scenes.words import words
from edge_et.tuning.training.example import Example

_SERIES = (
    tuple("abcdefgh"),
    ("mon", "tue", "wed", "thu", "fri"),
    ("jan", "feb", "mar", "apr", "may"),
    ("tea", "oil", "rye", "nut", "fig"),
    ("x", "y", "z", "p", "q"),
    tuple(COLOURS),
)
"""What the labels of a chart are taken from; those of tables are any words."""
_GROUPS = {
    "sign": ("read_word.carrier", "read_word.word", "read_number.plain"),
    "label": ("read_word.carrier", "read_word.word", "read_number.plain"),
    "clock": ("read_number.clock",),
    "meter": ("read_number.plain",),
    "receipt": ("arithmetic.total",),
    "sum": ("arithmetic.sum",),
}
_ALIKE = {"sign", "label", "meter", "bottle"}
"""What a board with print may be taken for; labels may be on bottles."""
_CARRIERS = tuple(_GROUPS)
_CHARTS = ("bar", "line", "pie", "table")
_OTHER_FAMILY_SHARE = 0.3
_COLOUR_SHARE = 0.3
_ITEM_SHARE = 0.7
_TEXT_SHARE = 0.2

Asked = tuple[str, str]
"""A question, and what it asks about and the picture lacks."""


def unknown(facts: Facts, draw: Draw) -> Example:
    """Ask about something that is not there.

    Args:
        facts: what the picture shows.
        draw: chooses what is missing, and the words.
    """
    elsewhere = draw.chance(_OTHER_FAMILY_SHARE)
    if isinstance(facts, ObjectFacts):
        question, absent = draw.one((_print, _chart) if elsewhere else (_object,))(facts, draw)
        extraction = objects.describe(facts.objects, absent=absent)
    elif isinstance(facts, PrintFacts):
        question, absent = draw.one((_object, _chart) if elsewhere else (_print,))(facts, draw)
        extraction = printed.describe(facts, absent)
    else:
        question, absent = draw.one((_object, _print, _chart) if elsewhere else (_entry,))(
            facts, draw
        )
        extraction = charts.describe(facts, absent)
    return Example(
        kind="unknown",
        question=question,
        extraction=extraction,
        reasoning=f"The description names no {absent}.",
        answer=f"There is no {absent}.",
    )


def shown_words(facts: Facts) -> set[str]:
    """List the words for what a picture shows; none of them may be called absent."""
    if isinstance(facts, ObjectFacts):
        shown = {word for item in facts.objects for word in (item.label.words, item.label.name)}
        return shown | {"clock"} if "watch" in shown else shown
    if isinstance(facts, PrintFacts):
        alike = _ALIKE if facts.carrier in _ALIKE else {facts.carrier}
        return {*alike, *" ".join(facts.lines).split()}
    return {facts.kind, *(entry.label for entry in facts.entries)}


def _object(facts: Facts, draw: Draw) -> Asked:
    """Ask where a missing object is, or for the colour of a missing shape."""
    if isinstance(facts, ObjectFacts):
        present = distinct(facts.objects)
        shapes = {label.name for label in present if label.colour}
        missing = [shape for shape in SHAPES if shape not in shapes]
        if missing and draw.chance(_COLOUR_SHARE if shapes else _COLOUR_SHARE / 3):
            name = draw.one(missing)
            return draw.words("colour", name=name), name
        label = absent_label(present, draw)
    else:  # boards, bars and slices may pass for shapes, so only things are surely absent
        shown = shown_words(facts)
        label = draw.one([label for label in THING_LABELS if label.name not in shown])
    return draw.words("where", name=label.words, **{"is": is_or_are(label)}), label.words


def _print(facts: Facts, draw: Draw) -> Asked:
    """Ask for print where there is none such, or for what a receipt does not list."""
    here = facts.carrier if isinstance(facts, PrintFacts) else ""
    if isinstance(facts, PrintFacts) and here == "receipt" and draw.chance(_ITEM_SHARE):
        bought = {item for item, _ in printed.receipt_items(facts)}
        item = _other_word(bought, draw)
        return draw.words("read_number.item", item=item), item
    if isinstance(facts, ObjectFacts) and draw.chance(_TEXT_SHARE):
        return draw.words("read_word.any"), "text"
    shown = shown_words(facts)
    carrier = draw.one([carrier for carrier in _CARRIERS if carrier not in shown])
    group = draw.one(_GROUPS[carrier])
    return draw.words(group, carrier=carrier), carrier


def _chart(facts: Facts, draw: Draw) -> Asked:
    """Ask for the largest or smallest part of a chart that is not there."""
    here = facts.kind if isinstance(facts, ChartFacts) else ""
    chart = draw.one([chart for chart in _CHARTS if chart != here])
    question = charts.word_extreme(chart, draw.one(("largest", "smallest")), draw)
    return question, charts.chart_name(chart)


def _entry(facts: ChartFacts, draw: Draw) -> Asked:
    """Ask for an entry that the chart does not have, named as its entries are."""
    present = {entry.label for entry in facts.entries} | {entry.colour for entry in facts.entries}
    series = next((names for names in _SERIES if facts.entries[0].label in names), ())
    pool = [name for name in series if name not in present]
    absent = draw.one(pool) if pool else _other_word(present, draw)
    named = charts.name_entries(facts, [absent], draw)[0]
    if facts.kind == "table":
        return draw.words("table_lookup", entry=named), absent
    return draw.words("chart_value", entry=named, chart=charts.chart_name(facts.kind)), absent


def _other_word(taken: Container[str | None], draw: Draw) -> str:
    pool = words(held_out=draw.held_out)
    while True:
        word = draw.one(pool)
        if word not in taken:
            return word
