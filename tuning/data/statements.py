"""Turns a question and its answer into a statement that needs no question, by rules.

"What colour is the dog?" and "brown" give "The colour of the dog is brown." Where no rule fits, the
statement quotes both. A describing model does this better; the rules cost nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable

_Rule = Callable[[re.Match[str], str], str]

_BE = "is|are|was|were"


def statement(question: str, answer: str) -> str:
    """Returns one sentence that says what question and answer say together."""
    asked = question.strip().rstrip("?.! ")
    told = answer.strip().rstrip(".! ")
    if len(told.split()) > 3 and told[:1].isupper():
        return told + "."
    for pattern, rule in _RULES:
        match = re.fullmatch(pattern, asked, re.IGNORECASE)
        if match is not None:
            made = rule(match, told)
            return made[:1].upper() + made[1:] + "."
    return f'To the question "{asked}?" the answer is: {told}.'


def _there_is(match: re.Match[str], told: str) -> str:
    verb, what = match["be"].lower(), match["what"]
    if told.lower().startswith("yes"):
        return f"there {verb} {what}"
    if told.lower().startswith("no"):
        return f"there {verb} no {re.sub(r'^(an?|any) ', '', what)}"
    return f'to "{verb} there {what}" the answer is {told}'


def _attribute(match: re.Match[str], told: str) -> str:
    return f"the {match['kind'].lower()} of {match['what']} is {told}"


_RULES: tuple[tuple[str, _Rule], ...] = (
    (rf"(?P<be>{_BE}) there (?P<what>.+)", _there_is),
    (rf"(?:what|which) (?P<kind>colou?r|size|shape|number) (?:{_BE}) (?P<what>.+)", _attribute),
    (
        r"how many (?P<what>.+?) (?:are|were) there(?: .*)?",
        lambda m, a: f"there are {a} {m['what']}",
    ),
    (rf"where (?P<be>{_BE}) (?P<what>.+)", lambda m, a: f"{m['what']} {m['be'].lower()} {_at(a)}"),
    (
        r"what (?:is|'s) (?:this|it|shown|in the (?:picture|image|photo))",
        lambda m, a: f"this is {a}",
    ),
    (r"what (?:does|do) (?P<what>.+) (?:say|read|show)", lambda m, a: f'{m["what"]} says "{a}"'),
    (rf"what (?P<be>{_BE}) (?P<what>.+)", lambda m, a: f"{m['what']} {m['be'].lower()} {a}"),
)


def _at(place: str) -> str:
    starts = ("at ", "in ", "on ", "under ", "behind ", "near ", "to ", "next ", "above ", "below ")
    return place if place.lower().startswith(starts) else f"at the {place}"
