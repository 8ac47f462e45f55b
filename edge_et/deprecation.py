"""Old names: they work for one release, and warn.

In: a name as it was and as it is. Out: a `DeprecationWarning` at the caller's line.
"""

import functools
import warnings
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

GONE_WITH = "0.3"


def warn_renamed(old: str, new: str, *, stacklevel: int = 2) -> None:
    """Warn that a name has changed.

    Args:
        old: as it was.
        new: as it is.
        stacklevel: callers between the reader of the warning and this function.
    """
    warnings.warn(
        f"{old} is called {new} now; the old name goes with edge-et {GONE_WITH}",
        DeprecationWarning,
        stacklevel=stacklevel + 1,
    )


def renamed_keywords(**new_names: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Let a function be called with keywords as they were.

    Args:
        new_names: the keyword as it is, by what it was.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def call(*args: P.args, **keywords: P.kwargs) -> R:
            for old in new_names.keys() & keywords.keys():
                new = new_names[old]
                warn_renamed(f"{function.__name__}({old}=)", f"{function.__name__}({new}=)")
                if new in keywords:
                    raise TypeError(f"{function.__name__}() got {new!r} and its old name {old!r}")
                keywords[new] = keywords.pop(old)
            return function(*args, **keywords)

        return call

    return decorate
