"""JSON schemas of callers: whether an answer can be held to them, and in which words.

In: a JSON schema (Draft 2020-12) from a caller, who need not be trusted. Out: the same without what
describes only, and with what a program expects: no properties that it does not name, numbers that
every reader of JSON can hold, dates that exist. What cannot be held to is refused, and so is what
would take long to compile. What the answer is about is not known here.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

import msgspec

from edge_et.errors import OptionError

MAX_BYTES: Final = 2**16
"""Of a schema as JSON: that of a form with hundreds of fields, and compiled in milliseconds."""

MAX_DEPTH: Final = 32
"""Schemas inside one another; the parser of the compiler stops at 128 brackets."""

MAX_PROPERTIES: Final = 256
"""Of an object; what optional ones take to compile grows with their square, 9 ms for as many."""

MAX_MULTIPLE: Final = 10_000
"""Product of all digits of `multipleOf`: each takes so many states, and together their product."""

LARGEST_NUMBER: Final = 2**53 - 1
"""Whole numbers up to it are the same for every reader of JSON (RFC 8259, section 6)."""

Schema = dict[str, Any]

_DESCRIBES: Final = frozenset(
    {"$comment", "$id", "$schema", "default", "deprecated", "description", "discriminator"}
    | {"examples", "id", "readOnly", "title", "writeOnly"}
)
_NUMBERS: Final = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")
_COUNTS: Final = (
    *("minItems", "maxItems", "minProperties", "maxProperties"),
    *("minLength", "maxLength"),
)
_LISTS: Final = ("allOf", "anyOf", "oneOf", "prefixItems")
_MAPS: Final = ("$defs", "definitions", "patternProperties", "properties")
_SINGLE: Final = ("additionalProperties", "items")
_OTHERS: Final = ("$ref", "const", "enum", "format", "pattern", "required", "type")
_HELD_TO: Final = frozenset((*_NUMBERS, *_COUNTS, *_LISTS, *_MAPS, *_SINGLE, *_OTHERS))
_OF_OBJECTS: Final = frozenset({"additionalProperties", "properties", "required"})
_JOINS: Final = frozenset({"$ref", "allOf", "anyOf", "oneOf"})

# Every month has 28 days, every minute 59 seconds to be named, and Python's years have four digits.
_DATE: Final = (
    r"[1-9]\d{3}-(?:\d{2}-(?:0[1-9]|1\d|2[0-8])|(?:0[13-9]|1[0-2])-(?:29|30)"
    r"|(?:0[13578]|1[02])-31)"
).replace(r"\d{2}-", r"(?:0[1-9]|1[0-2])-")
_TIME: Final = r"(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d(?:\.\d{1,6})?"
_ZONE: Final = r"(?:Z|[+-](?:[01]\d|2[0-3]):[0-5]\d)"
_FORMATS: Final = {
    "date": _DATE,
    "date-time": f"{_DATE}T{_TIME}{_ZONE}",
    "decimal": r"-?(?:0|[1-9]\d{0,14})(?:\.\d{1,15})?",
    "duration": r"P(?:\d{1,5}D(?:T\d{1,5}S)?|T\d{1,5}S)",
    "time": f"{_TIME}{_ZONE}",
}
"""Patterns of formats of which others are too wide: what they allow is read by Python's types."""

_LEFT: Final = frozenset({"email", "hostname", "ipv4", "ipv6", "uri", "uuid"})
"""Formats that the compiler knows."""


def prepare_schema(given: object) -> Schema:
    """Return a schema that answers can be held to.

    Args:
        given: a JSON schema as Python values; not changed.

    Returns:
        The schema to compile. Whatever fits it fits the given one. Of objects that name
        `properties` it allows no others, unless the given one says something of them or joins
        schemas; numbers without a bound are bounded by `LARGEST_NUMBER`.

    Raises:
        OptionError: it is no JSON schema, too large, or asks for what cannot be promised.
    """
    refuse = _refuser(given)
    try:
        encoded = msgspec.json.encode(given)
        schema = msgspec.json.decode(encoded)
    except (TypeError, ValueError, RecursionError, OverflowError, msgspec.MsgspecError) as err:
        raise refuse("", f"it is not JSON: {err}") from err
    if not isinstance(schema, dict):
        raise refuse("", "it is no object")
    if len(encoded) > MAX_BYTES:
        raise refuse("", f"it is {len(encoded)} bytes of JSON long, the limit is {MAX_BYTES}")
    joined = any(
        "allOf" in node or not (_JOINS.isdisjoint(node) or _OF_OBJECTS.isdisjoint(node))
        for node in _nodes(schema)
    )
    return _Preparation(refuse, closes=not joined).schema(schema, "", 0)


def resolve(schema: Schema, root: Schema) -> Schema:
    """Follow references inside a prepared schema; one that leads nowhere or round is returned.

    Args:
        schema: a part of it.
        root: all of it.
    """
    for _ in range(MAX_DEPTH):
        reference = schema.get("$ref")
        if reference is None or not {"$ref", "$defs", "definitions"}.issuperset(schema):
            break
        found: Any = root
        for part in reference.removeprefix("#").split("/")[1:]:
            name = part.replace("~1", "/").replace("~0", "~")
            found = found.get(name) if isinstance(found, dict) else None
        if not isinstance(found, dict):
            break
        schema = found
    return schema


def _refuser(given: object) -> Callable[[str, str], OptionError]:
    def refuse(path: str, reason: str) -> OptionError:
        where = f"at {path}: " if path else ""
        return OptionError(
            "schema", given, f"a JSON schema that answers can be held to; {where}{reason}"
        )

    return refuse


def _nodes(value: Any) -> Iterator[dict[str, Any]]:
    waiting = [value]
    while waiting:
        found = waiting.pop()
        if isinstance(found, dict):
            yield found
            waiting += found.values()
        elif isinstance(found, list):
            waiting += found


class _Preparation:
    """One walk through a schema."""

    def __init__(self, refuse: Callable[[str, str], OptionError], *, closes: bool) -> None:
        self._refuse = refuse
        self._closes = closes
        self._multiple = 1

    def schema(self, given: Any, path: str, depth: int) -> Any:
        """Prepare a schema, or one inside it."""
        if isinstance(given, bool):
            return given
        if not isinstance(given, dict):
            raise self._refuse(path, "a schema is an object, or true or false")
        if depth > MAX_DEPTH:
            raise self._refuse("", f"it has more than {MAX_DEPTH} schemas inside one another")
        kept = {key: value for key, value in given.items() if key not in _DESCRIBES}
        for key in kept:
            if key not in _HELD_TO and not (key == "uniqueItems" and kept[key] is False):
                raise self._refuse(_join(path, key), "no answer can be held to this keyword")
        kept.pop("uniqueItems", None)
        self._check_values(kept, path)
        for key in _LISTS:
            if key in kept:
                parts = self._list(kept[key], _join(path, key))
                kept[key] = [self.schema(p, f"{path}/{key}/{i}", depth + 1) for i, p in parts]
        for key in _MAPS:
            if key in kept:
                kept[key] = self._map(kept[key], _join(path, key), depth)
        for key in _SINGLE:
            if key in kept:
                kept[key] = self.schema(kept[key], _join(path, key), depth + 1)
        if "oneOf" in kept and "anyOf" not in kept and "discriminator" in given:
            kept["anyOf"] = kept.pop("oneOf")  # the discriminator lets only one of them fit
        return self._narrow(kept)

    def _check_values(self, schema: Schema, path: str) -> None:
        """Refuse what the compiler does not look at, or would take long over."""
        for key in _NUMBERS:
            value = schema.get(key, 0)
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise self._refuse(_join(path, key), "a number is expected")
            if abs(value) > LARGEST_NUMBER:
                raise self._refuse(_join(path, key), f"numbers end at {LARGEST_NUMBER}")
        if "multipleOf" in schema:
            digits = f"{schema['multipleOf']:.15g}".partition("e")[0].replace(".", "").strip("0")
            self._multiple *= max(int(digits.lstrip("-") or 0), 1)
            if self._multiple > MAX_MULTIPLE:
                raise self._refuse(_join(path, "multipleOf"), "it takes too long to keep to this")
        if schema.get("minProperties", 0) not in (0, 1):
            # Names that the schema does not list may come twice, and then are one property.
            raise self._refuse(_join(path, "minProperties"), "it can only be 0 or 1")
        reference = schema.get("$ref", "#")
        if not isinstance(reference, str) or not (reference == "#" or reference.startswith("#/")):
            raise self._refuse(_join(path, "$ref"), "only references like #/... are followed")
        form = schema.get("format")
        if form is not None and "string" in _types(schema, "string"):
            if form not in _FORMATS and form not in _LEFT:
                known = ", ".join(sorted((*_FORMATS, *_LEFT)))
                raise self._refuse(_join(path, "format"), f"the formats are {known}")
            if form in _FORMATS and "pattern" in schema:
                raise self._refuse(_join(path, "format"), "it cannot be joined with a pattern")
        for node in _numbers_in([schema.get("const"), schema.get("enum")]):
            if abs(node) > LARGEST_NUMBER or not math.isfinite(node):
                raise self._refuse(path, f"numbers end at {LARGEST_NUMBER}")

    def _list(self, given: Any, path: str) -> Iterable[tuple[int, Any]]:
        if not isinstance(given, list) or not given:
            raise self._refuse(path, "a list of schemas is expected")
        return enumerate(given)

    def _map(self, given: Any, path: str, depth: int) -> dict[str, Any]:
        if not isinstance(given, dict):
            raise self._refuse(path, "an object of schemas is expected")
        if len(given) > MAX_PROPERTIES:
            raise self._refuse(path, f"{len(given)} are too many, the limit is {MAX_PROPERTIES}")
        return {
            name: self.schema(part, _join(path, name), depth + 1) for name, part in given.items()
        }

    def _narrow(self, schema: Schema) -> Schema:
        """Leave out what fits and no program could use."""
        joins = not _JOINS.isdisjoint(schema)
        if "properties" in schema and not joins:
            schema.setdefault("type", "object")
            if self._closes and "patternProperties" not in schema:
                schema.setdefault("additionalProperties", False)
        elif ("items" in schema or "prefixItems" in schema) and not joins:
            schema.setdefault("type", "array")
        if schema.get("format") in _FORMATS and "string" in _types(schema, "string"):
            schema["pattern"] = f"^{_FORMATS[schema.pop('format')]}$"
        if not {"number", "integer"}.isdisjoint(_types(schema)):
            self._bound_numbers(schema)
        return schema

    def _bound_numbers(self, schema: Schema) -> None:
        if not {"const", "enum"}.isdisjoint(schema):
            return
        bounds = (("minimum", "exclusiveMinimum", 1), ("maximum", "exclusiveMaximum", -1))
        for name, exclusive, sign in bounds:
            schema.setdefault(name, -sign * LARGEST_NUMBER)
            if exclusive in schema and "number" in _types(schema):
                # llguidance 1.9.1 takes 5 to be over 5 where the other bound is below 6.
                bound = schema.pop(exclusive)
                inner = float(f"{bound + sign * 1e-9 * max(abs(bound), 1):.13g}")
                schema[name] = sign * max(sign * schema[name], sign * inner)


def _types(schema: Schema, untyped: str = "") -> tuple[str, ...]:
    found = schema.get("type", untyped)
    return tuple(found) if isinstance(found, list) else (found,)


def _numbers_in(value: Any) -> Iterator[float]:
    waiting = [value]
    while waiting:
        found = waiting.pop()
        if isinstance(found, dict):
            waiting += found.values()
        elif isinstance(found, list):
            waiting += found
        elif isinstance(found, int | float) and not isinstance(found, bool):
            yield found


def _join(path: str, key: str) -> str:
    return f"{path}/{key}" if path else key
