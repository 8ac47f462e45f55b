import inspect
import pickle
from pathlib import Path
from typing import Any

import pytest

from edge_et import errors

EXAMPLES: list[errors.EdgeETError] = [
    errors.BundleNotFoundError("mini", ["other"], "install it"),
    errors.ManifestSyntaxError(Path("bundle.json"), "reason"),
    errors.FileSizeError(Path("a.gguf"), 5, 4),
    errors.WidthMismatchError(Path("bundle.json"), 8, 16),
    errors.ImageTooLargeError(10, 5),
    errors.ImageDecodeError("damaged").at(1, 3),
    errors.TooManyImagesError(17, 16),
    errors.ImagesTooLargeError(10, 5),
    errors.OptionError("seed", -1, "more"),
    errors.PromptTooLongError(10, 5),
    errors.PromptTooLongError(10, 5, image_tokens=8, tiles=2, fitting=[{"max_tiles": 1}]),
    errors.MemoryBudgetError(10, 5),
    errors.BusyError(),
    errors.CacheFolderError("HOME is 'x'"),
    errors.MissingExtraError("torch", "export"),
    errors.BatchInputError("in.csv", "not CSV", 3),
    errors.BatchOutputError("out.jsonl", "in use"),
    errors.WorkerEndedError(-9, "answered row 3"),
    errors.WorkerEndedError(-99, "answered row 3"),
]


def children() -> dict[str, Any]:
    return {
        name: kind
        for name, kind in inspect.getmembers(errors, inspect.isclass)
        if issubclass(kind, errors.EdgeETError)
    }


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    drawn = []
    for line in (errors.__doc__ or "").split("::\n", 1)[1].splitlines():
        words = [word for word in line.replace("│", " ").split() if word not in ("├──", "└──")]
        if words:
            drawn.append(words[0])
    assert sorted(drawn) == sorted(children())


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_errors_are_one_line_and_survive_a_process(error: errors.EdgeETError) -> None:
    assert "\n" not in str(error)
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert (str(copy), vars(copy)) == (str(error), vars(error))


def test_long_values_are_shortened() -> None:
    error = errors.OptionError("question", b"x" * 10_000, "text")
    assert len(str(error)) < 100
    assert error.value == b"x" * 10_000


def test_a_picture_that_is_too_long_says_what_would_fit() -> None:
    def told(**numbers: Any) -> str:
        return str(errors.PromptTooLongError(900, 512, **numbers))

    ways = [{"max_tiles": 5}, {"max_tiles": 7, "pooling": 2}]
    message = told(image_tokens=700, tiles=9, fitting=ways)
    assert (
        "need 900 tokens, the context holds 512, and 700 are the picture's, of 9 tiles" in message
    )
    assert message.endswith("it fits with max_tiles=5 or max_tiles=7 and pooling=2")
    message = told(image_tokens=700, tiles=1, fitting=ways[:1], helps=["lower the token budgets"])
    assert message.endswith("it fits with max_tiles=5, or lower the token budgets")
    message = told(image_tokens=700, fitting=ways[:1], helps=[])
    assert message.endswith("encode the picture with max_tiles=5")
    for numbers in ({}, {"image_tokens": 700}, {"image_tokens": 700, "tiles": 1}):
        assert told(**numbers).endswith("shorten the texts or lower the token budgets")
        assert "no option helps" in told(**numbers, helps=[])
    assert "picture" not in told()


def test_numbers_are_attributes() -> None:
    error = errors.FileSizeError(Path("a.gguf"), 5, 4)
    assert (error.expected_bytes, error.actual_bytes, error.path) == (5, 4, Path("a.gguf"))
