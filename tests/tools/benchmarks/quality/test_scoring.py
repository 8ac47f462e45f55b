"""When an answer is right, and what shares of right answers are worth."""

import numpy as np
import pytest

from edge_et.benchmarks.quality.accuracy import Accuracy, mean_gain
from edge_et.benchmarks.quality.scoring import (
    chosen,
    is_accepted,
    is_right,
    mentions,
    plain,
    with_choices,
)


@pytest.mark.parametrize(
    ("answered", "expected", "right"),
    [
        ("dog", "dog", True),
        ("A dog.", "dog", True),
        (" The Top Left ", "top left", True),
        ("hot dog", "dog", False),
        ("", "dog", False),
        ("2", "3", False),
        ("Three", "3", True),
        ("1,250", "1250", True),
        ("3.5", "35", False),
        ("-3", "3", False),
        ("10:45", "1045", False),
        ("it's", "its", True),
        ("t-shirt!", "T shirt", True),
        ("CAF\N{LATIN CAPITAL LETTER E WITH ACUTE}", "cafe\N{COMBINING ACUTE ACCENT}", True),
        ("\N{DEVANAGARI LETTER KA}\N{DEVANAGARI VOWEL SIGN I}", "\N{DEVANAGARI LETTER KA}", False),
        ("There is no red dog.", "There is no dog.", True),
        ("red", "There is no dog.", False),
        ("There is no dog.", "red", False),
    ],
)
def test_answers_agree_apart_from_how_they_are_written(answered: str, expected: str, right: bool):
    assert is_right(answered, expected) is right


def test_an_article_alone_is_still_an_answer():
    assert plain("A") == "a"
    assert plain("...") == ""


@pytest.mark.parametrize(
    ("answered", "taken"),
    [
        ("cat", "cat"),
        ("The cat.", "cat"),
        ("b", "dog"),
        ("(B)", "dog"),
        ("B) dog", "dog"),
        ("Answer: C", "bird"),
        ("Option b.", "dog"),
        ("A dog", "dog"),
        ("A bird sits on a dog", None),
        ("D", None),
        ("", None),
    ],
)
def test_a_choice_is_taken_by_text_or_letter(answered: str, taken: str | None):
    assert chosen(answered, ("cat", "dog", "bird")) == taken


def test_the_text_of_a_choice_comes_before_its_letter():
    assert chosen("B", ("B", "A")) == "B"
    assert is_accepted("B", ("dog",), ("cat", "dog"))
    assert not is_accepted("B", ("dog",))


def test_choices_are_asked_with_letters():
    assert with_choices("What is it?", ("cat", "dog")) == "What is it?\nA. cat\nB. dog"
    assert with_choices("What is it?", ()) == "What is it?"


@pytest.mark.parametrize(
    ("extraction", "accepted", "right"),
    [
        ("The picture shows a small red dog.", ["dog"], True),
        ("The picture shows three dogs.", ["dog"], False),
        ("There are Three of them", ["3"], True),
        ("It shows a hot, wide road.", ["hot road", "wide road"], True),
        ("I look. There is no dog.", ["There is no cat."], True),
        ("", ["dog"], False),
    ],
)
def test_an_extraction_mentions_whole_words(extraction: str, accepted: list[str], right: bool):
    assert mentions(extraction, accepted) is right


def test_the_interval_is_wilsons():
    low, high = Accuracy(right=81, asked=263).interval
    assert low == pytest.approx(0.2553, abs=1e-4)
    assert high == pytest.approx(0.3662, abs=1e-4)
    assert str(Accuracy(right=1, asked=2)) == "50% (9% to 91%)"


def test_the_interval_of_a_mean_gain_is_as_wide_as_its_spread():
    gains = np.resize([1.0, 0.0], 400)
    gain = mean_gain(gains)
    assert gain.value == 0.5
    assert gain.interval == pytest.approx((0.451, 0.549), abs=0.008)  # 1.96 x 0.5 / 20
    assert gain.is_above_zero
    assert not mean_gain(gains - 0.5).is_above_zero
