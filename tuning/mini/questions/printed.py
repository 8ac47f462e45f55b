"""Questions about words and numbers that are printed on something."""

from __future__ import annotations

import re

from edge_et.tuning.mini.facts import PrintFacts
from edge_et.tuning.mini.questions.dice import Draw
from edge_et.tuning.training.example import Example

_LARGEST_RESULT = 40
_LONGEST_SUM = 3
_SUM = re.compile(r"(\d+)\s*([+-])\s*(\d+)")
_PRICED = re.compile(r"(.+?)\s+(\d+)")

Item = tuple[str, str]
"""A line of a receipt: what was bought and its price; or any other name of a number."""
Sum = tuple[str, list[tuple[str, int]]]
"""A way to work something out, with the items or the two numbers to use."""


def describe(facts: PrintFacts, absent: str = "") -> str:
    """Write the extraction: all lines."""
    shown = f"The {facts.carrier} reads {', '.join(facts.lines)}."
    return f"{shown} There is no {absent}." if absent else shown


def receipt_items(facts: PrintFacts) -> list[Item]:
    """List what a receipt charges for; nothing where it is no receipt."""
    if facts.carrier != "receipt":
        return []
    matches = (_PRICED.fullmatch(line) for line in facts.lines)
    return [(match[1], match[2]) for match in matches if match]


def words(facts: PrintFacts) -> list[str]:
    """List the wordings that fit, of asking for the words on a sign or label that has some."""
    if facts.carrier not in ("sign", "label") or not _word_lines(facts):
        return []
    return ["read_word.word", "read_word.carrier", "read_word.any"]


def read_word(facts: PrintFacts, group: str, draw: Draw) -> Example:
    """Ask what a sign or label says: all of it, or the words alone if it asks for words."""
    said = " ".join(_word_lines(facts) if group == "read_word.word" else facts.lines)
    return Example(
        kind="read_word",
        question=draw.words(group, carrier=facts.carrier),
        extraction=describe(facts),
        reasoning=f"The {facts.carrier} says {said}.",
        answer=said,
    )


def numbers(facts: PrintFacts) -> list[Item]:
    """List the numbers that can be asked for, by wording or, on a receipt, by item."""
    if facts.carrier == "receipt":
        return _unique_items(facts)
    lines = [line for line in facts.lines if line not in _word_lines(facts)]
    if facts.carrier == "sum" or len(lines) != 1:
        return []
    if facts.carrier == "clock":
        return [("read_number.clock", lines[0])]
    groups = ["read_number.plain"]
    if facts.carrier in ("sign", "label") and len(facts.lines) == 1:
        groups += ["read_word.carrier", "read_word.any"]
    return [(group, lines[0]) for group in groups]


def read_number(facts: PrintFacts, number: Item, draw: Draw) -> Example:
    """Ask for a printed number, a time or a price."""
    about, value = number
    if facts.carrier == "receipt":
        question = draw.words("read_number.item", item=about)
        reasoning = f"The receipt says {about} {value}."
    else:
        question = draw.words(about, carrier=facts.carrier)
        reasoning = f"The {facts.carrier} shows {value}."
    return Example(
        kind="read_number",
        question=question,
        extraction=describe(facts),
        reasoning=reasoning,
        answer=value,
    )


def sums(facts: PrintFacts) -> list[Sum]:
    """List what can be worked out."""
    if facts.carrier == "sum":
        match = _SUM.search(facts.lines[0])
        return [(match[2], [("", int(match[1])), ("", int(match[3]))])] if match else []
    items = [(name, int(price)) for name, price in _unique_items(facts)]
    found: list[Sum] = []
    is_whole = len(items) == len(facts.lines) and 2 <= len(items) <= _LONGEST_SUM
    if is_whole and sum(price for _, price in items) <= _LARGEST_RESULT:
        found += [("total", items)] * 2  # as many totals as differences, about
    pairs = ((dear, cheap) for dear in items for cheap in items if dear[1] > cheap[1])
    return found + [("difference", list(pair)) for pair in pairs]


def arithmetic(facts: PrintFacts, candidate: Sum, draw: Draw) -> Example:
    """Ask for the result of a sum, the total of a receipt, or by how much two prices differ."""
    way, items = candidate
    values = [value for _, value in items]
    if way == "total":
        steps, result = add_up(values)
        question = draw.words("arithmetic.total")
    elif way == "difference":
        (first, dear), (second, cheap) = items
        result = dear - cheap
        steps = f"{first} {dear}, {second} {cheap}; {dear} - {cheap} = {result}"
        question = draw.words("arithmetic.difference", first=first, second=second)
    else:
        result = values[0] + values[1] if way == "+" else values[0] - values[1]
        steps = f"{values[0]} {way} {values[1]} = {result}"
        question = draw.words("arithmetic.sum")
    return Example(
        kind="arithmetic",
        question=question,
        extraction=describe(facts),
        reasoning=f"{steps}.",
        answer=str(result),
    )


def add_up(values: list[int]) -> tuple[str, int]:
    """Add numbers one after the other; return the steps in words and the sum."""
    steps, result = [], values[0]
    for value in values[1:]:
        steps.append(f"{result} + {value} = {result + value}")
        result += value
    return ", ".join(steps), result


def _unique_items(facts: PrintFacts) -> list[Item]:
    items = receipt_items(facts)
    names = [name for name, _ in items]
    return [item for item in items if names.count(item[0]) == 1]


def _word_lines(facts: PrintFacts) -> list[str]:
    return [line for line in facts.lines if any(letter.isalpha() for letter in line)]
