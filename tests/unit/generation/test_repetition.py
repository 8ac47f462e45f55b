import random

import pytest
from tiny.places import ROOT

from edge_et.generation.repetition import (
    LEAST_REPEATS,
    LEAST_TOKENS,
    LONGEST_BLOCK,
    RepetitionDetector,
)
from edge_et.llm import Tokenizer

TOKENIZERS = (
    ROOT / "tests" / "data" / "golden" / "llava_qwen3_tiny" / "tokenizer.json",
    ROOT / "models" / "mini" / "edge_et_mini" / "tokenizer.json",
)


def noticed_at(tokens: list[int]) -> int | None:
    """Return how many tokens were written when a loop was noticed."""
    watch = RepetitionDetector()
    return next((count for count, token in enumerate(tokens, 1) if watch.push(token)), None)


@pytest.mark.parametrize(
    ("size", "needed"), [(1, 96), (3, 96), (7, 96), (24, 96), (25, 100), (40, 160), (64, 256)]
)
@pytest.mark.parametrize("before", [0, 5, 200])
def test_a_block_is_noticed_when_it_fills_enough(size: int, needed: int, before: int) -> None:
    different = list(range(1000, 1000 + before))
    assert noticed_at(different + list(range(size)) * needed) == before + needed


def test_a_block_of_equal_parts_is_noticed_by_its_parts() -> None:
    assert noticed_at([1, 2, 1, 2] * 100) == LEAST_TOKENS


def test_a_longer_block_is_not_noticed() -> None:
    assert noticed_at(list(range(LONGEST_BLOCK + 1)) * 10) is None


@pytest.mark.parametrize("size", [1, 3, 16, 40])
def test_one_different_token_begins_the_count_anew(size: int) -> None:
    needed = max(LEAST_TOKENS, LEAST_REPEATS * size)
    almost = (list(range(size)) * needed)[: needed - 1]
    assert noticed_at([*almost, 999, *almost]) is None


def test_random_tokens_are_no_loop() -> None:
    numbers = random.Random(0)
    for vocabulary in (2, 3, 100):
        assert noticed_at([numbers.randrange(vocabulary) for _ in range(5_000)]) is None


COLOURS = ("red", "blue", "green", "yellow", "black", "white", "orange", "purple")
SHAPES = ("circle", "square", "triangle", "star", "ring", "heart")
PLACES = ("top left", "top", "top right", "left", "center", "right", "bottom left", "bottom")


@pytest.mark.parametrize(
    "text",
    [
        ", ".join(f"{colour} {shape}" for colour in COLOURS for shape in SHAPES),
        ", ".join(["red circle"] * 10),
        "There are ten objects. " + " ".join(f"{place}: red circle." for place in PLACES),
        "".join(f"{number}. a red ball\n" for number in range(1, 40)),
        "| a | 0 | 0 |\n" * 4,
        "The sign says STOP. " * 3,
        "The picture shows " + ", ".join(["apple (top left)", "apple (center)"] * 3) + ".",
        "The picture shows apple (" + ", ".join(PLACES) + ").",
        "Wait, is it red? Yes, it is red. So it is red.",
    ],
)
def test_lists_and_repeated_items_are_no_loop(text: str) -> None:
    for path in TOKENIZERS:
        assert noticed_at(Tokenizer(path).encode(text)) is None
