"""Random JSON schemas, and whether a value fits one, by other code than that which is tested."""

import re
from typing import Any

import numpy as np

Schema = dict[str, Any]

WORDS = ("red", "blue", "cat", "dog", "left", "naïve", "日本", 'a "b"', "back\\slash", "x y")
PATTERNS = ("^[a-z]{2,5}$", r"^\d{3}-\d{2}$", "^(yes|no|maybe)$", "^[A-F0-9]*x$", "[0-9]")
FORMATS = ("date", "time", "date-time", "uuid")

_FORMAT_PATTERNS = {
    "date": r"\d{4}-\d\d-\d\d",
    "time": r"\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)",
    "date-time": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)",
    "uuid": r"[0-9a-fA-F]{8}-([0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}",
}


class RandomSchemas:
    """Schemas of every kind, of bounded depth and with an end."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)

    def schema(self) -> Schema:
        """Return a schema, most often of an object, as programs ask for."""
        definitions = {"thing": self._scalar(), "Part/s": self._object(1, definitions=False)}
        root = self._object(2) if self._rng.random() < 0.8 else self._value(2)
        if self._rng.random() < 0.1:
            # A tree: it can be endless, and need not.
            item = {"type": "array", "items": {"$ref": "#/$defs/tree"}, "maxItems": 3}
            tree = {"type": "object", "properties": {"name": self._string(), "parts": item}}
            definitions["tree"] = {**tree, "required": ["name", "parts"]}
            root = {"$ref": "#/$defs/tree"}
        return {**root, "$defs": definitions}

    def _chance(self, share: float) -> bool:
        return bool(self._rng.random() < share)

    def _pick(self, *values: Any) -> Any:
        return values[int(self._rng.integers(len(values)))]

    def _value(self, depth: int, *, definitions: bool = True) -> Schema:
        makers = [self._scalar, self._scalar, self._scalar, self._choice]
        if depth > 0:
            makers += [
                lambda: self._object(depth - 1, definitions=definitions),
                lambda: self._array(depth - 1, definitions=definitions),
                lambda: self._any_of(depth - 1, definitions=definitions),
            ]
        if definitions:
            makers.append(lambda: {"$ref": self._pick("#/$defs/thing", "#/$defs/Part~1s")})
        made: Schema = self._pick(*makers)()
        return made

    def _object(self, depth: int, *, definitions: bool = True) -> Schema:
        count = int(self._rng.integers(1, 5))
        names = self._rng.permutation([*WORDS, "n", "answer", "objects"])[:count]
        properties = {str(n): self._value(depth, definitions=definitions) for n in names}
        schema: Schema = {"type": "object", "properties": properties}
        schema["required"] = [name for name in properties if self._chance(0.7)]
        if self._chance(0.1):
            schema["additionalProperties"] = self._scalar()
        return schema

    def _array(self, depth: int, *, definitions: bool = True) -> Schema:
        least = int(self._rng.integers(0, 3))
        items = self._value(depth, definitions=definitions)
        if self._chance(0.2):
            return {"type": "array", "prefixItems": [items], "items": False, "minItems": 1}
        bounds = {"minItems": least, "maxItems": least + int(self._rng.integers(1, 4))}
        return {"type": "array", "items": items, **bounds}

    def _any_of(self, depth: int, *, definitions: bool = True) -> Schema:
        count = int(self._rng.integers(2, 4))
        return {"anyOf": [self._value(depth, definitions=definitions) for _ in range(count)]}

    def _choice(self) -> Schema:
        count = int(self._rng.integers(1, 5))
        values = [self._pick(*WORDS, 0, -17, 2.5, True, False, None) for _ in range(count)]
        if self._chance(0.2):
            return {"const": self._pick(*values, {"a": [1, "b"]})}
        return {"enum": values}

    def _scalar(self) -> Schema:
        made: Schema = self._pick(
            self._string, self._number, lambda: {"type": "boolean"}, lambda: {"type": "null"}
        )()
        if self._chance(0.15) and made["type"] != "null":
            made["type"] = [made["type"], "null"]
        return made

    def _string(self) -> Schema:
        least = int(self._rng.integers(0, 6))
        lengths = {"minLength": least, "maxLength": least + int(self._rng.integers(0, 20))}
        return {
            "type": "string",
            **self._pick(
                {},
                lengths,
                {"minLength": least},
                {"pattern": self._pick(*PATTERNS)},
                {"format": self._pick(*FORMATS)},
            ),
        }

    def _number(self) -> Schema:
        kind = self._pick("integer", "number")
        low = self._pick(0, 1, -5, 10**6)
        if kind == "number" and self._chance(0.5):
            low = round(float(self._rng.normal(0, 10)), 3)
        high = low + self._pick(1, 7, 1000)
        bounds = self._pick(
            {},
            {"minimum": low},
            {"maximum": high},
            {"minimum": low, "maximum": high},
            {"exclusiveMinimum": low, "maximum": high},
            {"exclusiveMinimum": low, "exclusiveMaximum": low + 2},
        )
        if kind == "integer" and self._chance(0.2):
            bounds["multipleOf"] = self._pick(1, 2, 5) if bounds == {} else 1
        return {"type": kind, **bounds}


def fits(schema: Any, value: Any, root: Schema | None = None) -> bool:
    """Say whether a value fits a schema of `RandomSchemas`."""
    root = schema if root is None else root
    if isinstance(schema, bool):
        return schema
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2].replace("~1", "/")
        return fits(root["$defs"][name], value, root)
    if "anyOf" in schema:
        return any(fits(part, value, root) for part in schema["anyOf"])
    if "enum" in schema or "const" in schema:
        choices = schema.get("enum", [schema.get("const")])
        return any(value == c and isinstance(value, bool) == isinstance(c, bool) for c in choices)
    named = schema["type"]
    kinds = named if isinstance(named, list) else [named]
    return any(_fits_type(kind, schema, value, root) for kind in kinds)


def _fits_type(kind: str, schema: Schema, value: Any, root: Schema) -> bool:
    if kind == "null":
        return value is None
    if kind == "boolean":
        return isinstance(value, bool)
    if kind == "string":
        return isinstance(value, str) and _fits_string(schema, value)
    if kind in ("integer", "number"):
        types = int if kind == "integer" else int | float
        return isinstance(value, types) and not isinstance(value, bool) and _in(schema, value)
    if kind == "array":
        if not isinstance(value, list) or len(value) > schema.get("maxItems", len(value)):
            return False
        first = schema.get("prefixItems", [])
        parts = [*first, *[schema["items"]] * (len(value) - len(first))]
        return len(value) >= schema.get("minItems", 0) and all(
            fits(part, item, root) for part, item in zip(parts, value, strict=False)
        )
    if not isinstance(value, dict) or not set(schema["required"]).issubset(value):
        return False
    more = schema.get("additionalProperties", True)
    return all(
        fits(schema["properties"].get(name, more), item, root) for name, item in value.items()
    )


def _fits_string(schema: Schema, value: str) -> bool:
    if not schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", len(value)):
        return False
    if "format" in schema and not re.fullmatch(_FORMAT_PATTERNS[schema["format"]], value):
        return False
    return "pattern" not in schema or re.search(schema["pattern"], value) is not None


def _in(schema: Schema, value: float) -> bool:
    return (
        schema.get("minimum", value) <= value <= schema.get("maximum", value)
        and not value <= schema.get("exclusiveMinimum", value - 1)
        and not value >= schema.get("exclusiveMaximum", value + 1)
        and value % schema.get("multipleOf", 1 if isinstance(value, int) else value or 1) == 0
    )
