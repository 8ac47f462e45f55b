"""Questions about what a picture does not show; the answer is that it is not there.

They are worded like the questions that have answers, so that only the picture tells them apart.
"""

from __future__ import annotations

from edge_et.tuning.concepts import SHAPES
from edge_et.tuning.facts import ChartFacts, Facts, ObjectFacts, PrintFacts
from edge_et.tuning.questions import charts, objects, printed
from edge_et.tuning.questions.draw import Draw
from edge_et.tuning.questions.example import Example
from edge_et.tuning.questions.labels import absent_label, distinct, is_or_are

_ITEMS = (
    "milk",
    "bread",
    "tea",
    "coffee",
    "rice",
    "soup",
    "apple",
    "juice",
    "cake",
    "salt",
    "fish",
    "egg",
    "butter",
    "cheese",
    "water",
    "sugar",
)
_LETTERS = tuple("abcdefghijklmnopqrstuvwxyz")
_CARRIERS = ("sign", "label", "clock", "meter", "receipt")
_CHARTS = ("bar chart", "line chart", "pie chart", "table")
_OTHER_FAMILY_SHARE = 0.3

Asked = tuple[str, str]
"""A question, and what it asks about and the picture lacks."""


def unknown(facts: Facts, draw: Draw) -> Example:
    """Asks about something that is not there.

    Args:
        facts: What the picture shows.
        draw: Chooses what is missing, and the words.
    """
    if isinstance(facts, ObjectFacts):
        other = draw.chance(_OTHER_FAMILY_SHARE)
        question, absent = _carrier(facts, draw) if other else _object(facts, draw)
        extraction = objects.describe(facts.objects, absent=absent)
    elif isinstance(facts, PrintFacts):
        other = draw.chance(_OTHER_FAMILY_SHARE)
        items = {item for item, _ in printed.receipt_items(facts)}
        if items and not other:
            absent = draw.one([item for item in _ITEMS if item not in items])
            question = draw.words("read_number.item", item=absent)
        else:
            question, absent = _object(facts, draw) if other else _carrier(facts, draw)
        extraction = printed.describe(facts, absent)
    else:
        if draw.chance(_OTHER_FAMILY_SHARE):
            question, absent = _object(facts, draw) if draw.chance() else _carrier(facts, draw)
        else:
            question, absent = _entry(facts, draw)
        extraction = charts.describe(facts, absent)
    return Example(
        kind="unknown",
        question=question,
        extraction=extraction,
        reasoning=f"The description names no {absent}.",
        answer=f"There is no {absent}.",
    )


def _object(facts: Facts, draw: Draw) -> Asked:
    """Asks where a missing object is, or for the colour of a missing shape."""
    present = distinct(facts.objects) if isinstance(facts, ObjectFacts) else []
    shapes = {label.name for label in present if label.colour}
    missing = [shape for shape in SHAPES if shape not in shapes]
    if missing and draw.chance(0.3 if shapes else 0.1):
        name = draw.one(missing)
        return draw.words("colour", name=name), name
    label = absent_label(present, draw)
    return draw.words("where", name=label.words, **{"is": is_or_are(label)}), label.words


def _carrier(facts: Facts, draw: Draw) -> Asked:
    """Asks for print, or for a chart, where there is none such."""
    if not isinstance(facts, ChartFacts) and draw.chance(0.3):
        chart = draw.one(_CHARTS)
        return draw.words("chart_value.whole", chart=chart), chart
    here = facts.carrier if isinstance(facts, PrintFacts) else ""
    carrier = draw.one([carrier for carrier in _CARRIERS if carrier != here])
    if carrier == "clock":
        return draw.words("read_number.clock"), carrier
    if carrier == "receipt":
        return draw.words("arithmetic.receipt"), carrier
    group = "read_number.plain" if carrier == "meter" or draw.chance() else "read_word"
    return draw.words(group, carrier=carrier), carrier


def _entry(facts: ChartFacts, draw: Draw) -> Asked:
    """Asks for an entry that the chart does not have, named as its entries are."""
    present = {entry.label for entry in facts.entries} | {entry.colour for entry in facts.entries}
    pool: tuple[str, ...] = _ITEMS
    if all(label in _LETTERS for label in (entry.label for entry in facts.entries)):
        pool = _LETTERS
    absent = draw.one([word for word in pool if word not in present])
    if facts.kind == "table":
        return draw.words("table_lookup", entry=absent), absent
    chart = charts.chart_name(facts)
    return draw.words("chart_value", entry=absent, chart=chart), absent
