"""Options of the library on the command line: the same names, values and defaults.

In: the structs of `edge_et.options`. Out: a command's options, one for each field: ``max_tiles`` is
``--max-tiles``, a yes or no is ``--thinking`` and ``--no-thinking``, ``--choices`` may be given
several times, once for each text, and ``--schema`` is a file of JSON.
"""

import json
from collections.abc import Callable
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import click
from msgspec import Meta

from edge_et.errors import OptionError
from edge_et.options import AnswerOptions, LoadOptions

F = TypeVar("F", bound=Callable[..., Any])

OF_PROGRAMS = ("contexts", "max_waiting", "history")
"""What no command has: it asks one question at a time, which nothing was said before."""


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
            is_json = value_type is object
            command = click.option(
                f"--{flag}/--no-{flag}" if is_switch else f"--{flag}",
                type=None if is_switch else str if is_list or is_json else value_type,
                default=getattr(defaults, name),
                multiple=is_list,
                callback=_list_or_none if is_list else _json_of_file if is_json else None,
                metavar="FILE" if is_json else None,
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
        elif hint is Any:
            return object, description
        else:
            return hint, description


def _list_or_none(
    context: click.Context, parameter: click.Parameter, value: tuple[str, ...]
) -> tuple[str, ...] | None:
    return value or None


def _json_of_file(context: click.Context, parameter: click.Parameter, path: str | None) -> Any:
    """Return what a file holds.

    Raises:
        OptionError: it cannot be read, or is not JSON.
    """
    if path is None:
        return None
    try:
        return json.loads(Path(path).read_bytes())
    except (OSError, ValueError, RecursionError) as err:
        reason = err.strerror if isinstance(err, OSError) else str(err)
        raise OptionError(str(parameter.name), path, f"a file of JSON: {reason}") from err
