"""The options of a call as keywords: typed, shown by `help()`, and refused as Python does.

In: a function with ``**options``. Out: the same with the fields of `edge_et.options.AnswerOptions`
in its signature. What the options mean is said there.
"""

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypedDict, TypeVar, cast, get_args, get_type_hints

from edge_et.options import AnswerKind, AnswerOptions, ConfidenceKind

F = TypeVar("F", bound=Callable[..., Any])


class TextValues(TypedDict, total=False):
    """The keyword arguments of a question without a picture."""

    max_thinking_tokens: int | None
    max_answer_tokens: int | None
    temperature: float | None
    top_p: float | None
    seed: int | None
    thinking: bool | None
    deadline_s: float | None
    choices: Sequence[str] | None
    kind: AnswerKind | None
    schema: Any
    history: Sequence[Mapping[str, str]] | None
    stop: Sequence[str] | None
    top_logprobs: int | None
    confidence: ConfidenceKind | None


class QuestionValues(TextValues, total=False):
    """The keyword arguments of a question about a picture that is encoded."""

    max_extraction_tokens: int | None
    hint: str | None
    look_again: int | None


class OptionValues(QuestionValues, total=False):
    """The keyword arguments of a call; see `AnswerOptions` for what they mean."""

    max_tiles: int | None
    pooling: int | None


def with_options(function: F) -> F:
    """Let `help()` show the options of a call one by one, and others be refused as Python does.

    Args:
        function: its last parameter is ``**options``, keywords of `AnswerOptions`; of a session,
            those of `QuestionValues` or `TextValues`.
    """
    signature = inspect.signature(function)
    *parameters, rest = signature.parameters.values()
    (values,) = get_args(rest.annotation)
    hints = get_type_hints(AnswerOptions)
    keywords = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=hint)
        for name, hint in hints.items()
        if name in get_type_hints(values)
    ]
    shown = signature.replace(parameters=[*parameters, *keywords])

    def check(options: Mapping[str, object]) -> None:
        for name in options.keys() - shown.parameters.keys():
            told = f"{function.__qualname__}() got an unexpected keyword argument {name!r}"
            raise TypeError(told)

    @functools.wraps(function)
    def call(*args: Any, **options: Any) -> Any:
        check(options)
        return function(*args, **options)

    @functools.wraps(function)
    async def call_async(*args: Any, **options: Any) -> Any:
        check(options)
        return await function(*args, **options)

    wrapper: Any = call_async if inspect.iscoroutinefunction(function) else call
    wrapper.__signature__ = shown
    return cast(F, wrapper)
