from inspect import currentframe
from types import FrameType

import pytest

from edge_et.deprecation import GONE_WITH, renamed_keywords, warn_renamed


def line_of(frame: FrameType | None) -> int:
    assert frame is not None
    return frame.f_lineno


def old_name() -> None:
    warn_renamed("old_name", "new_name")


def wrapped_old_name() -> None:
    def inner() -> None:
        warn_renamed("old_name", "new_name", stacklevel=3)

    inner()


@renamed_keywords(lookup="prompt_lookup", vocab="vocabulary")
def opened(path: str, *, prompt_lookup: bool = False, vocabulary: int = 0) -> tuple[object, ...]:
    """Open it."""
    return path, prompt_lookup, vocabulary


def test_a_warning_says_what_to_write_and_until_when() -> None:
    with pytest.warns(DeprecationWarning, match="new_name") as caught:
        old_name()
    (warning,) = caught
    assert str(warning.message).startswith("old_name is called new_name now")
    assert GONE_WITH in str(warning.message)


@pytest.mark.parametrize("call", [old_name, wrapped_old_name])
def test_a_warning_points_at_the_line_that_uses_the_old_name(call: object) -> None:
    assert callable(call)
    with pytest.warns(DeprecationWarning, match="new_name") as caught:
        line, _ = line_of(currentframe()), call()
    assert [(warning.filename, warning.lineno) for warning in caught] == [(__file__, line)]


def test_an_old_keyword_is_passed_on_and_blamed_on_its_caller() -> None:
    with pytest.warns(DeprecationWarning, match="prompt_lookup") as caught:
        line, given = line_of(currentframe()), opened("a", lookup=True, vocabulary=5)  # type: ignore[call-arg]
    assert given == ("a", True, 5)
    (warning,) = caught
    assert (warning.filename, warning.lineno) == (__file__, line)
    assert "opened(lookup=) is called opened(prompt_lookup=)" in str(warning.message)


def test_every_old_keyword_has_its_own_warning() -> None:
    with pytest.warns(DeprecationWarning, match="opened") as caught:
        given = opened("a", lookup=True, vocab=7)  # type: ignore[call-arg]
    assert given == ("a", True, 7)
    assert len(caught) == 2


@pytest.mark.filterwarnings("error")
def test_names_as_they_are_do_not_warn() -> None:
    assert opened("a", prompt_lookup=True, vocabulary=5) == ("a", True, 5)
    assert (opened.__name__, opened.__doc__) == ("opened", "Open it.")


def test_a_keyword_that_never_was_is_still_an_error() -> None:
    with pytest.raises(TypeError, match="nonsense"):
        opened("a", nonsense=1)  # type: ignore[call-arg]


def test_an_old_keyword_beside_the_new_one_is_refused() -> None:
    with (
        pytest.warns(DeprecationWarning, match="prompt_lookup"),
        pytest.raises(TypeError, match="'lookup'"),
    ):
        opened("here", lookup=True, prompt_lookup=True)  # type: ignore[call-arg]
