"""Questions about words and numbers that are printed on something."""

from __future__ import annotations

import re

from edge_et.tuning.facts import PrintFacts
from edge_et.tuning.questions.draw import Draw
from edge_et.tuning.questions.example import Example

_LARGEST_RESULT = 40
_LONGEST_SUM = 3
_SUM = re.compile(r"(\d+)\s*([+-])\s*(\d+)")
_PRICED = re.compile(r"(.+?)\s+(\d+)")

Item = tuple[str, int]
"""A line of a receipt: what was bought and its price."""


def describe(facts: PrintFacts, absent: str = "") -> str:
    """Writes the extraction: words spelled and then whole, everything else as it is printed."""
    lines = facts.lines if facts.carrier == "receipt" else map(_spelled, facts.lines)
    shown = f"The {facts.carrier} reads {', '.join(lines)}."
    return f"{shown} There is no {absent}." if absent else shown


def receipt_items(facts: PrintFacts) -> list[Item]:
    """Lists what a receipt charges for; nothing where it is no receipt."""
    if facts.carrier != "receipt":
        return []
    matches = (_PRICED.fullmatch(line) for line in facts.lines)
    return [(match[1], int(match[2])) for match in matches if match]


def words(facts: PrintFacts) -> list[str]:
    """Lists all that a sign or label says, as one text, where there is a word in it."""
    said = " ".join(facts.lines)
    if facts.carrier in ("sign", "label") and any(letter.isalpha() for letter in said):
        return [said]
    return []


def read_word(facts: PrintFacts, said: str, draw: Draw) -> Example:
    """Asks what a sign or label says."""
    group = draw.one(("read_word.word", "read_word.carrier", "read_word.any"))
    return Example(
        kind="read_word",
        question=draw.words(group, carrier=facts.carrier),
        extraction=describe(facts),
        reasoning=f'The {facts.carrier} says "{said}".',
        answer=said,
    )


def numbers(facts: PrintFacts) -> list[Item | str]:
    """Lists the numbers that can be asked for: the only one printed, or the prices of a receipt."""
    if facts.carrier == "receipt":
        items = receipt_items(facts)
        names = [name for name, _ in items]
        return [item for item in items if names.count(item[0]) == 1]
    said = " ".join(facts.lines)
    is_number = facts.carrier != "sum" and not any(letter.isalpha() for letter in said)
    return [said] if is_number else []


def read_number(facts: PrintFacts, number: Item | str, draw: Draw) -> Example:
    """Asks for a printed number, a time or a price."""
    if isinstance(number, str):
        answer = number
        group = "read_number.clock" if facts.carrier == "clock" else "read_number.plain"
        if facts.carrier in ("sign", "label"):
            group = draw.one((group, "read_word.carrier", "read_word.any"))
        question = draw.words(group, carrier=facts.carrier)
        reasoning = f"The {facts.carrier} shows {number}."
    else:
        item, price = number
        answer = str(price)
        question = draw.words("read_number.item", item=item)
        reasoning = f"The receipt says {item} {price}."
    return Example(
        kind="read_number",
        question=question,
        extraction=describe(facts),
        reasoning=reasoning,
        answer=answer,
    )


def sums(facts: PrintFacts) -> list[tuple[str, list[Item]]]:
    """Lists what can be worked out: ways to do it, with the items or the two numbers to use."""
    if facts.carrier == "sum":
        match = _SUM.search(facts.lines[0])
        if match is None:
            return []
        return [(match[2], [("", int(match[1])), ("", int(match[3]))])]
    items = receipt_items(facts)
    found = []
    total = sum(price for _, price in items)
    if 2 <= len(items) <= _LONGEST_SUM and total <= _LARGEST_RESULT:
        found.append(("total", items))
    names = [name for name, _ in items]
    for dear in items:
        for cheap in items:
            if dear[1] > cheap[1] and names.count(dear[0]) == names.count(cheap[0]) == 1:
                found.append(("difference", [dear, cheap]))
    return found


def arithmetic(facts: PrintFacts, candidate: tuple[str, list[Item]], draw: Draw) -> Example:
    """Asks for the result of a sum, the total of a receipt, or by how much two prices differ."""
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
    """Adds numbers one after the other; returns the steps in words and the sum."""
    steps, result = [], values[0]
    for value in values[1:]:
        steps.append(f"{result} + {value} = {result + value}")
        result += value
    return ", ".join(steps), result


def _spelled(line: str) -> str:
    """Returns a line with each word spelled before it: `o p e n, "open"`."""
    return ", ".join(
        f'{" ".join(word)}, "{word}"' if word.isalpha() else word
        for word in (line.split() if any(letter.isalpha() for letter in line) else [line])
    )
