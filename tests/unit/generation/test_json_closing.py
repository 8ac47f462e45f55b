import json
from typing import Any

import numpy as np
import pytest
from tiny.json_schemas import RandomSchemas, fits

from edge_et.generation import JsonGrammar, prepare_schema
from edge_et.generation.json_closing import Place, find_closing
from edge_et.generation.json_grammar import BytesState


def begin(schema: dict[str, Any]) -> BytesState:
    return JsonGrammar(prepare_schema(schema)).bytes_state()


def all_of(count: int, value: dict[str, Any]) -> dict[str, Any]:
    names = [f"p{number}" for number in range(count)]
    return {"type": "object", "properties": dict.fromkeys(names, value), "required": names}


@pytest.mark.parametrize(
    ("schema", "closed"),
    [
        ({"type": "object", "properties": {"a": {"type": "string"}}}, b"{}"),
        (all_of(2, {"type": "string"}), b'{"p0": "", "p1": ""}'),
        ({"type": "array", "items": {"type": "integer"}, "minItems": 3}, b"[0, 0, 0]"),
        ({"type": "integer", "minimum": 0}, b"0"),
        ({"type": ["boolean", "null", "integer"]}, b"0"),
        ({"enum": ["red", "a"]}, b'"a"'),
        ({"const": {"a": [1, None]}}, b'{"a": [1, null]}'),
        ({"type": "string", "minLength": 4}, b'"aaaa"'),
        ({"type": "string", "pattern": "^[A-F0-9]*x$"}, b'"x"'),
        ({"type": "string", "pattern": "q#"}, b'"q#"'),
        ({"type": "string", "pattern": "\N{LATIN SMALL LETTER E WITH ACUTE}$"}, b'"\xc3\xa9"'),
        # The one that needs less is found, though both begin alike.
        (
            {
                "anyOf": [
                    {"properties": {"k": {"const": "a"}, "x": {"minLength": 20, "type": "string"}},
                     "required": ["k", "x"]},
                    {"properties": {"k": {"const": "b"}}, "required": ["k"]},
                ]
            },
            b'{"k": "b"}',
        ),
    ],
)  # fmt: skip
def test_a_short_text_is_found(schema: dict[str, Any], closed: bytes) -> None:
    assert find_closing(begin(schema)) == closed


@pytest.mark.parametrize(
    "form", ["date", "time", "date-time", "duration", "decimal", "uuid", "uri"]
)
def test_texts_of_a_format_are_found(form: str) -> None:
    found = find_closing(begin({"type": "string", "format": form}))
    assert found is not None
    assert len(found) > 2


def test_trees_end_and_what_has_no_end_is_found_out() -> None:
    kids = {"type": "array", "items": {"$ref": "#/$defs/t"}}
    tree = {"type": "object", "properties": {"kids": kids}, "required": ["kids"]}
    assert find_closing(begin({"$ref": "#/$defs/t", "$defs": {"t": tree}})) == b'{"kids": []}'
    endless = {"type": "array", "items": {"$ref": "#/$defs/t"}, "minItems": 1}
    assert find_closing(begin({"$ref": "#/$defs/t", "$defs": {"t": endless}})) is None
    assert find_closing(begin({"$ref": "#"})) is None


def test_many_values_are_searched_one_by_one() -> None:
    """All ways together would be more than there are atoms."""
    value = {"anyOf": [{"type": "string", "minLength": 9}, {"type": "array", "minItems": 2},
                       {"type": "integer", "minimum": 10}]}  # fmt: skip
    found = find_closing(begin(all_of(60, value)))
    assert found is not None
    assert json.loads(found) == {f"p{number}": 10 for number in range(60)}


@pytest.mark.parametrize("seed", range(12))
def test_whatever_was_written_is_closed(seed: int) -> None:
    rng = np.random.default_rng(seed)
    schema = RandomSchemas(seed).schema()
    state, written = begin(schema), b""
    for _ in range(60):
        rest = find_closing(state, Place().behind(written))
        assert rest is not None
        assert fits(schema, json.loads(written + rest))
        if not (allowed := state.allowed()):
            break
        # No byte that begins a character of several: these are closed in the tests of writers.
        byte = rng.choice([b for b in allowed if b < 0x80] or allowed)
        assert state.push(bytes([byte]))
        written += bytes([byte])


def test_the_place_is_that_of_the_text() -> None:
    place = Place().behind(b'{"a": [1, "x]\\"", 2, {"b": ')
    assert (place.commas, place.in_string, place.is_escaped) == ((0, 3, 0), False, False)
    assert place.behind(b'"\\').is_escaped
    assert place.behind(b"1}]").commas == (0,)
