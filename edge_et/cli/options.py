"""Options of the library on the command line: the same names, values and defaults.

In: the structs of `edge_et.options`. Out: a command's options, one for each field: ``max_tiles`` is
``--max-tiles``, a yes or no is ``--thinking`` and ``--no-thinking``, and ``--choices`` may be given
several times, once for each text.
"""

from collections.abc import Callable
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import click
from msgspec import Meta

from edge_et.options import AnswerOptions, LoadOptions

F = TypeVar("F", bound=Callable[..., Any])

OF_PROGRAMS = ("contexts", "max_waiting")
"""What no command has: it asks one question at a time."""


def add_options(
    kind: type[AnswerOptions] | type[LoadOptions], only: tuple[str, ...] | None = None
) -> Callable[[F], F]:
    """Give a command the options of a struct.

    Values are passed on as they were written: the library checks them, and its errors name them.

    Args:
        kind: the struct.
        only: some of its fields; None: all but `OF_PROGRAMS`.
    """
    hints = get_type_hints(kind, include_extras=True)
    defaults = kind()

    def decorate(command: F) -> F:
        for name in reversed(only or [name for name in hints if name not in OF_PROGRAMS]):
            flag = name.replace("_", "-")
            value_type, description = read_field(hints[name])
            is_switch = value_type is bool
            is_list = value_type is list
            command = click.option(
                f"--{flag}/--no-{flag}" if is_switch else f"--{flag}",
                type=None if is_switch else str if is_list else value_type,
                default=getattr(defaults, name),
                multiple=is_list,
                callback=_list_or_none if is_list else None,
                help=description + (" Repeatable." if is_list else ""),
            )(command)
        return command

    return decorate


def read_field(hint: Any) -> tuple[type, str]:
    """Return the type and the description of a field."""
    description = ""
    while True:
        origin, arguments = get_origin(hint), get_args(hint)
        if origin is Annotated:
            hint, *metas = arguments
            texts = [meta.description for meta in metas if isinstance(meta, Meta)]
            description = next(filter(None, texts), description)
        elif origin in (Union, UnionType):
            (hint,) = (part for part in arguments if part is not NoneType)
        elif origin is Literal:
            return type(arguments[0]), description
        elif origin is tuple:
            return list, description
        else:
            return hint, description


def _list_or_none(
    context: click.Context, parameter: click.Parameter, value: tuple[str, ...]
) -> tuple[str, ...] | None:
    return value or None
