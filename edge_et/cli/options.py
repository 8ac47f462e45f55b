"""Options of the library on the command line: the same names, values and defaults.

In: the structs of `edge_et.options`. Out: a command's options, one for each field: ``max_tiles`` is
``--max-tiles``, a yes or no is ``--thinking`` and ``--no-thinking``, ``--choices`` may be given
several times, once for each text, ``--schema`` is a file of JSON, and a number of bytes may have a
unit.
"""

import json
import re
from collections.abc import Callable
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import click
from msgspec import Meta

from edge_et.errors import OptionError
from edge_et.options import AnswerOptions, LoadOptions

F = TypeVar("F", bound=Callable[..., Any])

_SHORT = {"max_memory_bytes": "--max-memory"}
_UNITS = {"": 1, "B": 1} | {
    f"{letter}{suffix}": base ** (power + 1)
    for power, letter in enumerate("KMGT")
    for suffix, base in (("B", 1000), ("iB", 1024))
}
_SIZE = re.compile(r"(-?\d{1,19}(?:\.\d{1,9})?)\s*([KMGT]?i?B?)", re.IGNORECASE)

OF_PROGRAMS = ("contexts", "max_waiting", "history")
"""What no command has: it asks one question at a time, which nothing was said before."""


class Bytes(click.ParamType):
    """A number of bytes, with or without a unit: ``320MB`` and ``1.5GB``, or ``64MiB``."""

    name = "bytes"

    def convert(
        self, value: Any, param: click.Parameter | None, context: click.Context | None
    ) -> int:
        """Return the bytes; units of a thousand are those of other commands' output."""
        if isinstance(value, int):
            return value
        units = {unit.lower(): factor for unit, factor in _UNITS.items()}
        found = _SIZE.fullmatch(value.strip())
        factor = None if found is None else units.get(found[2].lower())
        if found is None or factor is None:
            self.fail(f"{value!r} is no number of bytes, such as 320MB or 64MiB", param, context)
        is_whole = "." not in found[1]
        return int(found[1]) * factor if is_whole else round(float(found[1]) * factor)


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
                *((_SHORT[name],) if name in _SHORT else ()),
                f"--{flag}/--no-{flag}" if is_switch else f"--{flag}",
                name,
                type=None if is_switch else _type_of(name, value_type),
                default=getattr(defaults, name),
                multiple=is_list,
                callback=_list_or_none if is_list else _json_of_file if is_json else None,
                metavar="FILE" if is_json else None,
                help=description + (" Repeatable." if is_list else ""),
            )(command)
        return command

    return decorate


def _type_of(name: str, value_type: type) -> type | click.ParamType:
    """Return how click reads a value; a list's and a file's are texts."""
    if value_type in (list, object):
        return str
    return Bytes() if name.endswith("_bytes") else value_type


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
