"""Decide whether an answer is right, by the rules that docs/benchmarks.md states."""

import re
import unicodedata
from collections.abc import Sequence
from string import ascii_uppercase

_ARTICLES = frozenset({"a", "an", "the"})
_COUNTING = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen twenty"
)
_NUMBER_WORDS = {word: str(number) for number, word in enumerate(_COUNTING.split())}
_APOSTROPHE = re.compile("['\N{RIGHT SINGLE QUOTATION MARK}]")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_PART_OF_A_NUMBER = re.compile(r"(?<=\d)[.:/](?=\d)|(?<!\w)-(?=\d)")
_LETTERS_MARKS_NUMBERS = "LMN"
_LETTER = re.compile(r"\W*(?:(?:option|choice|answer)\W+)?([A-Za-z])(?:[.):]|\W*$)", re.IGNORECASE)

_NOTHING = "(?:there is|there are|i see) no"
_SAYS_NOTHING = re.compile(rf"\W*{_NOTHING}\b", re.IGNORECASE)
_SAYS_NOTHING_SOMEWHERE = re.compile(rf"\b{_NOTHING}\b", re.IGNORECASE)

MAX_CHOICES = len(ascii_uppercase)


def plain(text: str) -> str:
    """Return what of a text is compared.

    Case, articles, and punctuation outside numbers do not count; "three" is 3 and 1,000 is 1000.
    """
    text = unicodedata.normalize("NFKC", text).casefold()
    text = _THOUSANDS.sub("", _APOSTROPHE.sub("", text))
    kept = {found.start() for found in _PART_OF_A_NUMBER.finditer(text)}
    spaced = "".join(
        c if i in kept or unicodedata.category(c)[0] in _LETTERS_MARKS_NUMBERS else " "
        for i, c in enumerate(text)
    )
    words = [_NUMBER_WORDS.get(word, word) for word in spaced.split()]
    return " ".join([word for word in words if word not in _ARTICLES] or words)


def is_right(answered: str, expected: str) -> bool:
    """Say whether an answer is the expected one.

    Where "There is no ..." is expected, any sentence that begins like this is right.
    """
    if _SAYS_NOTHING.match(expected):
        return _SAYS_NOTHING.match(answered) is not None
    return plain(answered) == plain(expected)


def is_accepted(answered: str, accepted: Sequence[str], choices: Sequence[str] = ()) -> bool:
    """Say whether an answer is one of the accepted ones.

    Args:
        answered: what was answered.
        accepted: any of them is right.
        choices: what could be chosen from, if it was told; then it is the choice that counts.
    """
    if choices:
        choice = chosen(answered, choices)
        return choice is not None and any(is_right(choice, text) for text in accepted)
    return any(is_right(answered, text) for text in accepted)


def chosen(answered: str, choices: Sequence[str]) -> str | None:
    """Return which choice an answer takes; None: none of them.

    An answer takes a choice by its text; or else by its letter, which stands alone or has a full
    stop, colon or bracket behind it, with or without the text: "b", "(B)", "Option B", "B. cat".
    """
    for choice in choices:
        if plain(answered) == plain(choice):
            return choice
    found = _LETTER.match(answered)
    index = ascii_uppercase.index(found[1].upper()) if found else len(choices)
    return choices[index] if index < len(choices) else None


def with_choices(question: str, choices: Sequence[str]) -> str:
    """Return a question as it is asked: a line for each choice below it, with a letter."""
    lines = (
        f"{letter}. {choice}" for letter, choice in zip(ascii_uppercase, choices, strict=False)
    )
    return "\n".join((question, *lines))


def mentions(extraction: str, accepted: Sequence[str]) -> bool:
    """Say whether an extraction contains an accepted answer, as whole words one after another.

    Where "There is no ..." is expected, it has to say so of anything.
    """
    words = f" {plain(extraction)} "
    return any(
        _SAYS_NOTHING_SOMEWHERE.search(extraction) is not None
        if _SAYS_NOTHING.match(text)
        else f" {plain(text)} " in words
        for text in accepted
    )
