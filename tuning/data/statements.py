"""Turns a question and its answer into a statement that needs no question, by rules.

"What colour is the dog?" and "brown" give "The colour of the dog is brown." Rules are few and
careful: where none fits, the caller asks a model, or quotes both.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

_IS = "is|are|was|were"
_PREPOSITIONS = (
    *("above", "at", "behind", "below", "beside", "between", "by", "in", "inside", "near"),
    *("next", "on", "outside", "over", "to", "under", "with"),
)
# A sentence that begins with one of these says nothing without its question.
_NEEDS_ITS_QUESTION = (
    *("yes", "no", "it", "it's", "its", "they", "their", "he", "she", "his", "her"),
    *("this", "that", "these", "those"),
)
_SMALL_WORDS = {"a", "an", "the", "is", "are", "was", "were", "of", "to", "that", "and"}
_MIN_SENTENCE_WORDS = 4

_Rule = Callable[[re.Match[str], str], str | None]


def statement(question: str, answer: str) -> str | None:
    """Make one self-contained sentence.

    Args:
        question: about a picture.
        answer: the right one.

    Returns:
        The sentence; None if no rule fits.
    """
    told = " ".join(answer.split())
    words = told.lower().replace(",", " ").split()
    if len(words) >= _MIN_SENTENCE_WORDS and told[0].isupper() and told.endswith("."):
        return None if words[0] in _NEEDS_ITS_QUESTION else told
    asked = " ".join(question.split()).rstrip("?.! ")
    told = told.rstrip(".! ")
    if "?" in asked or not told:
        return None
    for pattern, rule in _RULES:
        if match := re.fullmatch(pattern, asked, re.IGNORECASE):
            made = rule(match, told)
            return made and f"{made[0].upper()}{made[1:]}."
    return None


def quoted(question: str, answer: str) -> str:
    """Put question and answer side by side, where no statement can be made of them."""
    return f"Question: {' '.join(question.split())} Answer: {' '.join(answer.split())}"


def holding(description: str, statements: Sequence[str]) -> str:
    """Append to a description what it does not say.

    Args:
        description: of a picture.
        statements: that must be in it. One whose words all occur in one sentence counts as said.

    Returns:
        The description, with the missing statements as sentences behind it.
    """
    said = [_content_words(sentence) for sentence in re.split(r"[.!?;\n]+(?:\s|$)", description)]
    missing = [
        text for text in statements if not any(_content_words(text) <= words for words in said)
    ]
    return " ".join([description.strip(), *dict.fromkeys(missing)]).strip()


def _content_words(text: str) -> set[str]:
    return set(re.findall(r"[\w'.-]*\w", text.lower())) - _SMALL_WORDS


def _there_is(match: re.Match[str], told: str) -> str | None:
    """Answer "Is there a dog?": yes, no, and nothing else."""
    verb, what = (match["be"] or "is").lower(), match["what"]
    if told.lower() == "yes":
        return f"there {verb} {re.sub(r'^any ', '', what, flags=re.I)}"
    if told.lower() == "no":
        return f"there {verb} no {re.sub(r'^(an?|any|some) ', '', what, flags=re.I)}"
    return None


def _is_so(match: re.Match[str], told: str) -> str | None:
    """Answer "Is the dog brown?" and "Is the dog on the sofa?"."""
    if told.lower() not in ("yes", "no"):
        return None
    negation = " not" if told.lower() == "no" else ""
    return f"{match['what']} {match['be'].lower()}{negation} {match['rest']}"


def _where(match: re.Match[str], told: str) -> str:
    place = told[0].lower() + told[1:]
    if place.split()[0] not in _PREPOSITIONS:
        place = f"at {place}" if place.startswith("the ") else f"at the {place}"
    return f"{match['what']} {match['be'].lower()} {place}"


def _what_is(match: re.Match[str], told: str) -> str:
    what, verb = match["what"], match["be"].lower()
    if what.split()[0].lower() in _PREPOSITIONS:
        return f"{what} {verb} {_with_article(told)}"
    return f"{what} {verb} {told}"


def _with_article(noun: str) -> str:
    """Write "a dog" for "dog"; longer answers and plurals are left alone."""
    if not re.fullmatch(r"[a-z]+(?: [a-z]+)?", noun) or noun.endswith("s"):
        return noun
    if noun.split()[0] in ("a", "an", "the", "no", "some", "two", "three", "four", "five"):
        return noun
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def _doing(match: re.Match[str], told: str) -> str | None:
    if not told.split()[0].lower().endswith("ing"):
        return None
    return f"{match['what']} {match['be'].lower()} {told[0].lower()}{told[1:]}"


_RULES: tuple[tuple[str, _Rule], ...] = (
    (rf"(?P<be>{_IS}) there (?P<what>.+)", _there_is),
    (r"(?:do|can) you see (?P<what>an? .+)(?P<be>)", _there_is),
    (rf"(?P<be>{_IS}) (?P<what>the [\w-]+) (?P<rest>[\w-]+)", _is_so),
    (
        rf"(?P<be>{_IS}) (?P<what>the [\w-]+(?: [\w-]+)?) "
        rf"(?P<rest>(?:{'|'.join(_PREPOSITIONS)})(?: (?!\w+(?:ing|ed)\b)[\w-]+){{1,4}})",
        _is_so,
    ),
    (
        rf"(?:what|which) (?P<kind>colou?r|size|shape|number) (?P<be>{_IS}) (?P<what>.+)",
        lambda m, told: f"the {m['kind'].lower()} of {m['what']} is {told}",
    ),
    (
        rf"how many (?P<what>.+?) (?:{_IS}) there(?P<rest> .+)?",
        lambda m, told: f"the number of {m['what']}{m['rest'] or ''} is {told}",
    ),
    (
        rf"how many (?P<what>[\w-]+(?: [\w-]+)?) (?P<be>{_IS}) (?P<rest>.+)",
        lambda m, told: f"the number of {m['what']} that {m['be'].lower()} {m['rest']} is {told}",
    ),
    (
        r"how many (?P<what>.+?) (?:do|can) you (?:see|count)(?P<rest> .+)?",
        lambda m, told: f"the number of {m['what']}{m['rest'] or ''} is {told}",
    ),
    (rf"where (?P<be>{_IS}) (?P<what>.+)", _where),
    (
        r"what(?: is|'s) (?:this|it|shown|in (?:the|this) (?:picture|image|photo))"
        r"|what (?:does|do) (?:the|this) (?:picture|image|photo) show",
        lambda m, told: f"the picture shows {_with_article(told)}",
    ),
    (
        r"what does (?P<what>the .+) (?P<verb>say|read|show|display)",
        lambda m, told: f'{m["what"]} {m["verb"].lower()}s "{told}"',
    ),
    (rf"what (?P<be>{_IS}) (?P<what>.+) doing", _doing),
    (
        rf"what (?P<be>{_IS}) (?P<what>.+) (?P<verb>wearing|holding|eating|riding|carrying)",
        lambda m, told: f"{m['what']} {m['be'].lower()} {m['verb'].lower()} {_with_article(told)}",
    ),
    (
        rf"what (?P<be>{_IS}) (?P<what>(?:the|{'|'.join(_PREPOSITIONS)}) .+)",
        _what_is,
    ),
    (
        rf"which (?P<what>[\w-]+) (?P<be>{_IS}) (?P<rest>.+)",
        lambda m, told: f"the {m['what']} that {m['be'].lower()} {m['rest']} is {told}",
    ),
)
