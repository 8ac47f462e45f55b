from typing import Any

import pytest
from tiny.json_schemas import RandomSchemas, fits

from edge_et.errors import OptionError
from edge_et.generation.json_schema import (
    LARGEST_NUMBER,
    MAX_DEPTH,
    MAX_PROPERTIES,
    prepare_schema,
    resolve,
)


def nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(depth):
        schema = {"type": "array", "items": schema}
    return schema


def itself() -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "array"}
    schema["items"] = schema
    return schema


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ("string", "it is no object"),
        (5, "it is no object"),
        ({"type": object()}, "it is not JSON"),
        (itself(), "it is not JSON"),
        ({"type": "string", "not": {"const": "a"}}, "at not: no answer can be held to"),
        ({"items": {"uniqueItems": True}}, "at items/uniqueItems: no answer can be held to"),
        ({"properties": {"a": {"contains": {}}}}, "at properties/a/contains: no answer"),
        ({"if": {}, "then": {}}, "at if: no answer can be held to"),
        ({"type": "string", "maxlength": 3}, "at maxlength: no answer can be held to"),
        ({"type": "string", "contentEncoding": "base64"}, "at contentEncoding: no answer"),
        ({"x-guidance": {"lenient": True}}, "at x-guidance: no answer can be held to"),
        ({"$ref": "https://example.com/schema.json"}, r"at \$ref: only references like #"),
        ({"$ref": 5}, r"at \$ref: only references like #"),
        ({"type": "string", "format": "credit-card"}, "at format: the formats are date, date-time"),
        ({"type": "string", "format": "date", "pattern": "^2"}, "at format: it cannot be joined"),
        ({"type": "integer", "exclusiveMinimum": True}, "at exclusiveMinimum: a number"),
        ({"type": "number", "minimum": "5"}, "at minimum: a number is expected"),
        ({"type": "number", "minimum": 1e300}, f"at minimum: numbers end at {LARGEST_NUMBER}"),
        ({"enum": [1, 2**70]}, f"numbers end at {LARGEST_NUMBER}"),
        ({"const": {"a": [2**53]}}, f"numbers end at {LARGEST_NUMBER}"),
        ({"type": "integer", "multipleOf": 10_007}, "at multipleOf: it takes too long"),
        ({"anyOf": [{"multipleOf": 997}, {"multipleOf": 0.0997}]}, "anyOf/1/multipleOf: it takes"),
        ({"type": "object", "minProperties": 2}, "at minProperties: it can only be 0 or 1"),
        ({"anyOf": []}, "at anyOf: a list of schemas is expected"),
        ({"anyOf": {"type": "string"}}, "at anyOf: a list of schemas is expected"),
        ({"properties": []}, "at properties: an object of schemas is expected"),
        ({"items": [{"type": "string"}]}, "at items: a schema is an object"),
        ({"properties": {"a": 5}}, "at properties/a: a schema is an object, or true or false"),
        (nested(MAX_DEPTH + 1), "more than 32 schemas inside one another"),
        ({"description": "x" * 70_000}, "bytes of JSON long, the limit is 65536"),
        ({"properties": dict.fromkeys(map(str, range(MAX_PROPERTIES + 1)), True)}, "257 are too"),
    ],
)
def test_what_answers_cannot_be_held_to_is_refused_with_its_place(schema: Any, said: str) -> None:
    with pytest.raises(OptionError, match=said) as caught:
        prepare_schema(schema)
    assert caught.value.name == "schema"
    assert caught.value.value is schema


def test_the_largest_schemas_are_taken() -> None:
    prepare_schema(nested(MAX_DEPTH))
    prepare_schema({"properties": dict.fromkeys(map(str, range(MAX_PROPERTIES)), True)})
    prepare_schema({"description": "x" * 60_000})


def test_what_only_describes_is_left_out() -> None:
    given = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "T",
        "type": "object",
        "properties": {"title": {"type": "string", "description": "its title", "default": ""}},
        "uniqueItems": False,
    }
    kept = {"title": {"type": "string"}}
    assert prepare_schema(given) == {
        "type": "object",
        "properties": kept,
        "additionalProperties": False,
    }
    assert "title" in given


def test_properties_that_are_not_named_come_only_where_the_schema_speaks_of_them() -> None:
    named = {"properties": {"a": {"type": "null"}}}
    assert prepare_schema(named)["additionalProperties"] is False
    assert prepare_schema({**named, "additionalProperties": True})["additionalProperties"] is True
    assert "additionalProperties" not in prepare_schema({**named, "patternProperties": {"b": {}}})
    assert "additionalProperties" not in prepare_schema({"type": "object"})
    # Schemas that are joined may each name some.
    joined = prepare_schema({"allOf": [named, {"properties": {"b": {"type": "null"}}}]})
    assert not any("additionalProperties" in part for part in joined["allOf"])
    beside = prepare_schema({"$ref": "#/$defs/a", "required": ["b"], "$defs": {"a": named}})
    assert "additionalProperties" not in beside["$defs"]["a"]


def test_numbers_have_bounds_that_every_reader_can_hold() -> None:
    def bounds(**given: float) -> tuple[float, float]:
        schema = prepare_schema({"type": ["number", "null"], **given})
        return schema["minimum"], schema["maximum"]

    assert bounds() == (-LARGEST_NUMBER, LARGEST_NUMBER)
    assert bounds(minimum=2, maximum=3.5) == (2, 3.5)
    low, high = bounds(exclusiveMinimum=5, exclusiveMaximum=5.5)
    assert 5 < low < 5.001
    assert 5.499 < high < 5.5
    assert bounds(minimum=6, exclusiveMinimum=5)[0] == 6
    whole = prepare_schema({"type": "integer", "exclusiveMinimum": 5})
    assert whole["exclusiveMinimum"] == 5
    assert prepare_schema({"type": "integer", "enum": [1, 2]}) == {
        "type": "integer",
        "enum": [1, 2],
    }


def test_one_of_several_that_a_property_tells_apart_is_any_of_them() -> None:
    given = {"oneOf": [{"type": "string"}, {"type": "null"}], "discriminator": {}}
    assert prepare_schema(given) == {"anyOf": [{"type": "string"}, {"type": "null"}]}
    assert "oneOf" in prepare_schema({"oneOf": given["oneOf"]})


def test_references_are_followed_inside_the_schema_alone() -> None:
    thing = {"type": "string"}
    root = {"$defs": {"a/b": thing, "c": {"$ref": "#/$defs/a~1b"}, "d": {"$ref": "#/$defs/d"}}}
    assert resolve({"$ref": "#/$defs/c"}, root) is thing
    assert resolve({"$ref": "#/$defs/d"}, root) == {"$ref": "#/$defs/d"}
    assert resolve({"$ref": "#/nowhere"}, root) == {"$ref": "#/nowhere"}


def test_random_schemas_are_taken_and_do_not_change_what_fits() -> None:
    """The values that the tests' own check takes for right are the ground of other tests."""
    assert fits({"type": "integer", "minimum": 3}, 3)
    assert not fits({"type": "integer", "minimum": 3}, 2)
    assert not fits({"type": "integer"}, True)
    assert not fits({"enum": [1]}, True)
    assert not fits({"type": "string", "format": "date"}, "today")
    for seed in range(50):
        given = RandomSchemas(seed).schema()
        assert prepare_schema(given)["$defs"].keys() == given["$defs"].keys()
