import json
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tiny.fakes import new_tokenizer
from tiny.json_schemas import RandomSchemas, fits

from edge_et.bundle import Sampling
from edge_et.errors import OptionError
from edge_et.generation import (
    BareWriter,
    JsonGrammar,
    JsonWriter,
    LeadingWriter,
    bare_value,
    greedy,
    new_sampler,
    prepare_schema,
)
from edge_et.llm import Tokenizer

PLENTY = 400
TWO = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "count": {"type": "integer"}},
    "required": ["name", "count"],
}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return new_tokenizer(tmp_path_factory.mktemp("tokenizer"))


def answer(value: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": {"answer": value}}


def new_writer(schema: dict[str, Any], tokenizer: Tokenizer, budget: int) -> JsonWriter:
    prepared = prepare_schema(schema)
    bare = bare_value(prepared)
    if bare is None:
        writer = JsonWriter(JsonGrammar(prepared), tokenizer, budget)
        if writer.leads_with_text:
            return LeadingWriter(JsonGrammar(prepared), tokenizer, budget)
        return writer
    return BareWriter(JsonGrammar(bare[1]), tokenizer, budget, bare[0])


class Written:
    """What a writer makes of a model that insists on a text, and then wants to stop."""

    def __init__(
        self, tokenizer: Tokenizer, schema: dict[str, Any], text: str, budget: int = PLENTY
    ) -> None:
        self.writer = new_writer(schema, tokenizer, budget)
        stops = [tokenizer.special_id(t) for t in ("<|im_end|>", "<|endoftext|>")]
        stop_ids = [token for token in stops if token is not None]
        choose = self.writer.sampler(greedy, stop_ids, ())
        script = tokenizer.encode(text)
        self.text = self.writer.opening
        self.tokens = 0
        while not self.writer.is_done and self.writer.left > 0:
            logits = np.linspace(0, -1, tokenizer.size, dtype=np.float32)
            logits[script[0] if script else stop_ids[0]] = 9
            token = choose(logits)
            if token in stop_ids:
                break
            if script and token == script[0]:
                del script[0]
            self.text += self.writer.take()
            self.tokens += 1
        self.text += self.writer.finish()
        self.value = json.loads(self.text)


@pytest.mark.parametrize(
    ("value", "said", "meant"),
    [
        ({"type": "string"}, " a dog", "a dog"),
        ({"type": "string"}, "a dog\n", "a dog"),
        ({"type": "string"}, ' "Stop", it says\nand \\ \n\n', '"Stop", it says\nand \\'),
        ({"type": "string"}, " naïve 日本", "naïve 日本"),
        ({"enum": ["dog", "dog food", "cat"]}, " dog", "dog"),
        ({"enum": ["dog", "dog food", "cat"]}, " dog food", "dog food"),
        ({"const": "dog"}, " cat", "dog"),
        # What they all begin with is written by the model, too.
        ({"enum": ["large dog", "large cat"]}, " large cat", "large cat"),
        ({"type": "integer", "minimum": 10, "maximum": 19}, " 14", 14),
        ({"type": "string", "maxLength": 3}, " doghouse", "dog"),
        ({"type": "string", "pattern": "^[0-9]+$"}, " 27", "27"),
        ({"type": "integer"}, " 27", 27),
        ({"type": "integer"}, "-4 dogs", -4),
        ({"type": "number", "maximum": 5}, " 2.5", 2.5),
        ({"type": "boolean"}, " yes", True),
        ({"type": "boolean"}, "No.", False),
        ({"type": "boolean"}, " false", False),
    ],
)
def test_a_single_value_is_written_as_the_model_says_it(
    tokenizer: Tokenizer, value: dict[str, Any], said: str, meant: object
) -> None:
    written = Written(tokenizer, answer(value), said)
    assert written.value == {"answer": meant}
    assert written.writer.shown == ""
    alone = Written(tokenizer, value, said)
    assert (alone.value, alone.writer.shown) == (meant, "")


def test_what_a_program_asks_for_by_reference_is_bare_too() -> None:
    schema = {"$ref": "#/$defs/A", "$defs": {"A": answer({"type": "boolean"})}}
    kind, asked = bare_value(prepare_schema(schema)) or ("", {})
    assert (kind, asked["required"]) == ("boolean", ["answer"])


@pytest.mark.parametrize(
    "schema",
    [
        TWO,
        answer({"type": "array"}),
        answer({"type": ["string", "null"]}),
        answer({"enum": ["a", 1]}),
        answer({"enum": [" a"]}),
        answer({"anyOf": [{"type": "string"}, {"type": "integer"}]}),
        {**answer({"type": "string"}), "additionalProperties": True},
        {},
    ],
)
def test_all_else_is_shown_to_the_model(schema: dict[str, Any]) -> None:
    assert bare_value(prepare_schema(schema)) is None


def test_the_model_sees_json_as_it_grows(tokenizer: Tokenizer) -> None:
    counted = {**TWO, "properties": {"count": {"type": "integer"}, "name": {"type": "string"}}}
    written = Written(tokenizer, counted, '2, "name": "a dog"}')
    assert written.text == '{"count": 2, "name": "a dog"}'
    assert written.writer.shown == ' {"count": '


@pytest.mark.parametrize("said", [" a dog", "a dog\n", ' "a dog"'])
def test_a_text_that_comes_first_is_written_as_the_model_says_it(
    tokenizer: Tokenizer, said: str
) -> None:
    written = Written(tokenizer, TWO, said)
    assert written.value["name"] == said.strip()
    assert written.writer.shown == ""
    named = {**TWO, "properties": {"name": {"enum": ["dog", "dog food"]}, "count": {"const": 2}}}
    assert Written(tokenizer, named, " dog").value == {"name": "dog", "count": 2}
    assert Written(tokenizer, named, " dog food").value == {"name": "dog food", "count": 2}


@pytest.mark.parametrize("end", ['"}', '"]', "\n", ""])
def test_a_string_ends_where_the_model_would_end_it(tokenizer: Tokenizer, end: str) -> None:
    """Behind a quote the schema asks for more than the model had in mind."""
    names = {"count": {"const": 2}, "name": {"type": "string"}, "more": {"type": "string"}}
    schema = {"type": "object", "properties": names, "required": [*names]}
    written = Written(tokenizer, schema, f"a dog{end}")
    assert (written.value["count"], written.value["name"]) == (2, "a dog")


@pytest.mark.parametrize("end", ["}", " dogs", ""])
def test_a_number_ends_where_the_model_would_end_it(tokenizer: Tokenizer, end: str) -> None:
    schema = {"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 2}
    written = Written(tokenizer, schema, f"3{end}")
    assert written.value[0] == 3


def test_within_the_least_budget_there_is_an_answer_and_below_it_none(
    tokenizer: Tokenizer,
) -> None:
    for schema in (TWO, answer({"type": "string"}), {"type": "array", "minItems": 2}):
        least = new_writer(schema, tokenizer, 0).least
        for budget in range(least, least + 12):
            written = Written(tokenizer, schema, "on and on and on and on and on", budget)
            count = len(tokenizer.encode(written.text))
            assert count <= budget + 1  # put together, pieces may take another token
            assert written.writer.left >= 0


def test_a_cut_is_told(tokenizer: Tokenizer) -> None:
    least = new_writer(TWO, tokenizer, 0).least
    written = Written(tokenizer, TWO, "on and on and on", least + 2)
    assert written.writer.is_cut
    assert written.value["count"] == 0
    assert "on and on".startswith(written.value["name"])
    assert not Written(tokenizer, TWO, "a").writer.is_cut


def test_a_begun_character_is_made_whole(tokenizer: Tokenizer) -> None:
    schema = answer({"type": "string"})
    least = new_writer(schema, tokenizer, 0).least
    texts = {Written(tokenizer, schema, "日本", least + more).text for more in range(8)}
    assert texts == {'{"answer": ""}', '{"answer": "日"}', '{"answer": "日本"}'}


def noise(tokenizer: Tokenizer, seed: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(0, 5, tokenizer.size).astype(np.float32)


@pytest.mark.parametrize("seed", range(40))
def test_whatever_a_model_says_fits_a_random_schema(tokenizer: Tokenizer, seed: int) -> None:
    schema = RandomSchemas(seed).schema()
    rng = np.random.default_rng(seed)
    special = {token for token in range(tokenizer.size) if not tokenizer.token_bytes(token)}
    added = {tokenizer.special_id(text) for text in ("<think>", "</think>")} - {None}
    stop = tokenizer.special_id("<|im_end|>")
    assert stop is not None
    least = new_writer(schema, tokenizer, 0).least
    writer = new_writer(schema, tokenizer, least + int(rng.integers(0, 60)))
    sampler = new_sampler(Sampling(temperature=1.0, seed=seed))
    choose = writer.sampler(sampler, [stop], [token for token in added if token is not None])
    text, steps = writer.opening, int(rng.integers(1, 80))
    while not writer.is_done and writer.left > 0 and steps > 0:
        logits = noise(tokenizer, seed + steps)
        logits[[*special]] += 5  # it would like to, most of the time
        token = choose(logits)
        if token == stop:
            break
        assert token not in special | added
        text += writer.take()
        steps -= 1
    text += writer.finish()
    assert fits(schema, json.loads(text)), text


def test_numbers_are_refused_that_no_budget_holds(tokenizer: Tokenizer) -> None:
    with pytest.raises(OptionError, match="some short text fits; none was found"):
        new_writer({"type": "string", "minLength": 10**6}, tokenizer, PLENTY)


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"type": "string", "pattern": "^(?!a)b"}, "look-around"),
        ({"type": "integer", "minimum": 5, "maximum": 1}, "minimum .5. is greater than"),
        ({"enum": []}, "anyOf is empty"),
        ({"$ref": "#/$defs/nothing"}, "does not exist"),
        ({"type": "text"}, "Invalid type: text"),
        ({"type": "string", "minLength": -1}, "minLength"),
        ({"oneOf": [{"type": "integer"}, {"type": "number"}]}, "oneOf constraints are not"),
        ({"properties": {"a": False}, "required": ["a"]}, "'a' is unsatisfiable"),
    ],
)
def test_what_cannot_be_expressed_is_refused_in_one_line(schema: dict[str, Any], said: str) -> None:
    with pytest.raises(OptionError, match=said) as caught:
        JsonGrammar(prepare_schema(schema))
    assert "\n" not in str(caught.value)
    assert caught.value.name == "schema"
