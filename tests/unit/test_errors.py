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
    errors.OptionError("seed", -1, "more"),
    errors.PromptTooLongError(10, 5),
    errors.BusyError(),
    errors.MissingExtraError("torch", "export"),
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


def test_numbers_are_attributes() -> None:
    error = errors.FileSizeError(Path("a.gguf"), 5, 4)
    assert (error.expected_bytes, error.actual_bytes, error.path) == (5, 4, Path("a.gguf"))
