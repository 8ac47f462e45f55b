import random

import pytest

from edge_et.generation import StopTexts


def ended(stops: tuple[str, ...], *pieces: str) -> tuple[str, list[str], bool]:
    """Return the text, what each piece made certain, and whether a stop text ended it."""
    texts = StopTexts(stops)
    told = []
    for piece in pieces:
        told.append(texts.push(piece))
        if texts.found:
            return "".join(told), told, True
    told.append(texts.finish(""))
    return "".join(told), told, texts.found


@pytest.mark.parametrize(
    ("stops", "text", "left"),
    [
        (("STOP",), "a red STOP ball", "a red "),
        (("ball", "red"), "a red ball", "a "),
        (("\n",), "red\nblue", "red"),
        (("\n",), "\n red\nblue", "\n red"),
        (("red",), "red ball, red", "red ball, "),
        (("aa",), "aaa", "aaa"),
        (("aa",), "aaaa", "aa"),
        (("ab",), " abab", " ab"),
        (("abc", "b"), "xabc", "xa"),
        (("bcd", "bc"), "abcd", "a"),
        (("日本",), "red 日本語", "red "),
        (("never",), "a red ball", "a red ball"),
        ((), "a red ball", "a red ball"),
    ],
)
def test_text_ends_before_the_first(stops: tuple[str, ...], text: str, left: str) -> None:
    for pieces in ((text,), text, (text[:2], text[2:]), (text[:5], "", text[5:])):
        found, _, has_ended = ended(stops, *pieces)
        assert (found, has_ended) == (left, left != text)


def test_only_what_may_be_a_beginning_is_held_back() -> None:
    assert ended(("STOP",), "a ST", "ART", " S", "T")[1] == ["a ", "START", " ", "", "ST"]


def test_how_text_is_cut_into_pieces_changes_nothing() -> None:
    numbers = random.Random(5)
    for _ in range(500):
        text = "".join(numbers.choices("ab ", k=12))
        stops = tuple("".join(numbers.choices("ab ", k=numbers.randint(1, 3))) for _ in range(2))
        whole = ended(stops, text)
        places = sorted(numbers.choices(range(13), k=3))
        pieces = [text[i:j] for i, j in zip([0, *places], [*places, 12], strict=True)]
        assert (ended(stops, *pieces)[0], ended(stops, *pieces)[2]) == (whole[0], whole[2])
        assert whole[0].strip() or not text.strip()
        assert not any(stop in whole[0].lstrip()[3:] for stop in stops if whole[2])
