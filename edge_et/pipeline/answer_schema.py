"""What a caller means by a schema: a JSON schema, or a class whose objects the answers are to be.

In: a dict, or a class of msgspec, of dataclasses, of pydantic, or a TypedDict. Out: a JSON schema
that answers can be held to, and what makes the value of an answer. How the answer is written is not
known here. pydantic is never imported: a class of it brings it along.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from edge_et.errors import AnswerValueError, OptionError
from edge_et.generation import Schema, prepare_schema

_LONGEST_INTEGER = 400
"""Digits; longer ones are floats, infinite ones. Python refuses to read some thousand digits."""


@dataclass(frozen=True, slots=True)
class AnswerSchema:
    """What answers are to be.

    Attributes:
        schema: for `edge_et.stages.JsonForm`.
        decode: makes the value of a text that fits the schema.
    """

    schema: Schema
    decode: Callable[[str], Any]


def read_schema(given: object) -> AnswerSchema:
    """Find out what a caller means.

    Args:
        given: a JSON schema as a dict, or a class: a dataclass, TypedDict, `msgspec.Struct` or
            pydantic model, or another type that msgspec knows, such as ``list[int]``.

    Raises:
        OptionError: it is neither, or answers cannot be held to it.
    """
    if isinstance(given, Mapping):
        return AnswerSchema(prepare_schema(dict(given)), _decode_json)
    of_pydantic = getattr(given, "model_json_schema", None)
    validate = getattr(given, "model_validate_json", None)
    if isinstance(given, type) and callable(of_pydantic) and callable(validate):
        try:
            schema = of_pydantic()
        except (TypeError, ValueError, RuntimeError) as err:
            raise OptionError("schema", given, f"a class with a JSON schema: {err}") from err
        return AnswerSchema(_prepared(given, schema), _checked(given, validate))
    if given is None or isinstance(given, str | bytes):
        raise OptionError("schema", given, "a JSON schema as a dict, or a class")
    try:
        schema = msgspec.json.schema(given)
    except (TypeError, RecursionError) as err:
        raise OptionError(
            "schema", given, f"a JSON schema as a dict, or a class that has one: {err}"
        ) from err

    def convert(text: str) -> Any:
        return msgspec.convert(_decode_json(text), given, str_keys=True)

    return AnswerSchema(_prepared(given, schema), _checked(given, convert))


def _prepared(given: object, schema: Schema) -> Schema:
    try:
        return prepare_schema(schema)
    except OptionError as err:
        raise OptionError("schema", given, err.expected) from err


def _checked(given: object, convert: Callable[[str], Any]) -> Callable[[str], Any]:
    """Wrap what makes an object of a text, so that its own objections become ours."""

    def decode(text: str) -> Any:
        try:
            return convert(text)
        except (TypeError, ValueError, ArithmeticError, msgspec.MsgspecError) as err:
            raise AnswerValueError(text, str(err)) from err

    return decode


def _decode_json(text: str) -> Any:
    return json.loads(text, parse_int=_integer)


def _integer(digits: str) -> int | float:
    return int(digits) if len(digits) <= _LONGEST_INTEGER else float(digits)
