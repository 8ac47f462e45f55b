"""Whole calls with a schema, through fakes."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny.bundle import build_bundle
from tiny.fakes import FakeClock, FakeTower, ForcedKVCache, new_chat_model
from tiny.thoughts import THOUGHTS, change_bundle

from edge_et.errors import AnswerValueError, MissingExtraError, OptionError, PromptTooLongError
from edge_et.llm import Tokenizer
from edge_et.pipeline import ExtractThink
from edge_et.pipeline.models import Models
from edge_et.results import Answer, AnswerToken, ReasoningToken

IMAGE = np.full((9, 9, 3), 40, np.uint8)
QUESTION = "Which animal?"
SAID, THOUGHT = "a dog<|im_end|>", "It barks.\nAnswer:"
WORD = {"type": "object", "properties": {"animal": {"type": "string"}}}
TWO = {
    "type": "object",
    "properties": {"animal": {"type": "string"}, "legs": {"type": "integer"}},
    "required": ["animal", "legs"],
}
SHOWN = {
    "type": "object",
    "properties": {"legs": {"type": "integer"}, "animal": {"type": "string"}},
    "required": ["legs", "animal"],
}
WRITTEN = '4, "animal": "dog"}<|im_end|>'


@dataclass
class Animal:
    legs: int
    animal: str

    def __post_init__(self) -> None:
        if self.legs == 3:
            raise ValueError("that is odd")


class Parts:
    """A pipeline over fakes."""

    def __init__(
        self,
        folder: Path,
        *texts: str,
        context_length: int = 900,
        token_s: float = 0.0,
        endless: bool = False,
        **changes: dict[str, Any],
    ) -> None:
        build_bundle(folder)
        manifest = change_bundle(folder, **changes)
        self.tokenizer = Tokenizer(folder / "tokenizer.json")
        self.clock = FakeClock()
        self.cache = ForcedKVCache(
            self.tokenizer,
            *texts,
            context_length=context_length,
            clock=self.clock,
            token_s=token_s,
            endless=endless,
        )
        self.tower = FakeTower()
        self.pipeline = ExtractThink(
            manifest,
            tower=self.tower,
            contexts=[Models(perceiver=new_chat_model(self.tokenizer, self.cache))],
            clock=self.clock,
        )


def test_the_answer_is_json_behind_the_reasoning(tmp_path: Path) -> None:
    parts = Parts(tmp_path, SAID, THOUGHT, WRITTEN)
    *events, answer = parts.pipeline.stream(IMAGE, QUESTION, schema=SHOWN)
    assert isinstance(answer, Answer)
    assert answer.value == {"animal": "dog", "legs": 4}
    assert answer.text == '{"legs": 4, "animal": "dog"}'
    assert answer.reasoning == "It barks."
    assert "".join(e.text for e in events if isinstance(e, AnswerToken)) == answer.text
    assert answer.finish_reasons == {"extract": "stop", "think": "stop", "answer": "stop"}
    # What has to stand there is read at once, and what is known to be the end is not evaluated.
    assert parts.cache.prompts[-1].endswith('It barks.\nAnswer: {"legs": ')
    assert not parts.tokenizer.decode(parts.cache.appended).endswith("}")
    assert answer.to_dict()["value"] == answer.value


def test_a_single_value_is_asked_for_as_free_text_is(tmp_path: Path) -> None:
    parts = Parts(tmp_path, SAID, THOUGHT, ' "a" dog\n<|im_end|>')
    answer = parts.pipeline.answer(IMAGE, QUESTION, schema=WORD)
    assert answer.value == {"animal": '"a" dog'}
    assert json.loads(answer.text) == answer.value
    assert parts.cache.prompts[-1].endswith("It barks.\nAnswer:")


def test_a_class_gives_an_object_and_plain_values_of_it(tmp_path: Path) -> None:
    parts = Parts(tmp_path, SAID, THOUGHT, WRITTEN)
    answer = parts.pipeline.answer(IMAGE, QUESTION, schema=Animal)
    assert answer.value == Animal(4, "dog")
    assert answer.to_dict()["value"] == {"animal": "dog", "legs": 4}


def test_what_a_class_refuses_is_told_and_the_pipeline_goes_on(tmp_path: Path) -> None:
    texts = (SAID, THOUGHT, '3, "animal": "dog"}', SAID, THOUGHT, WRITTEN)
    pipeline = Parts(tmp_path, *texts).pipeline
    with pytest.raises(AnswerValueError, match="that is odd") as caught:
        pipeline.answer(IMAGE, QUESTION, schema=Animal)
    assert json.loads(caught.value.text)["legs"] == 3
    assert pipeline.answer(IMAGE, QUESTION, schema=Animal).value.legs == 4


def test_thoughts_are_written_before_as_ever(tmp_path: Path) -> None:
    texts = (SAID, 'So {"animal": 5}</think>', "It barks.\nAnswer:", WRITTEN)
    parts = Parts(tmp_path, *texts, think={"thoughts": THOUGHTS})
    *events, answer = parts.pipeline.stream(
        IMAGE, QUESTION, thinking=True, max_thinking_tokens=60, schema=SHOWN
    )
    assert isinstance(answer, Answer)
    assert answer.value == {"animal": "dog", "legs": 4}
    assert "".join(e.text for e in events if isinstance(e, ReasoningToken)).startswith(
        'So {"animal": 5}'
    )


@pytest.mark.parametrize("schema", [SHOWN, WORD], ids=["shown", "bare"])
def test_an_answer_in_one_stage_and_stage_2_alone_take_a_schema_too(
    tmp_path: Path, schema: dict[str, Any]
) -> None:
    text = WRITTEN if schema is SHOWN else "dog<|im_end|>"
    parts = Parts(tmp_path, text, THOUGHT, text)
    assert parts.pipeline.answer_directly(IMAGE, QUESTION, schema=schema).value["animal"] == "dog"
    assert parts.pipeline.rethink(QUESTION, "a dog", schema=schema).value["animal"] == "dog"


@pytest.mark.parametrize("spare", range(6))
def test_the_budget_closes_the_text(tmp_path: Path, spare: int) -> None:
    parts = Parts(tmp_path, SAID, THOUGHT, "on and on and on and on and on and on")
    with pytest.raises(OptionError, match="expected at least") as caught:
        parts.pipeline.answer(IMAGE, QUESTION, schema=TWO, max_answer_tokens=1)
    least = int(caught.value.expected.split()[2].strip(","))
    answer = parts.pipeline.answer(IMAGE, QUESTION, schema=TWO, max_answer_tokens=least + spare)
    assert answer.value["legs"] == 0
    assert answer.finish_reasons["answer"] == "length"
    assert len(parts.tokenizer.encode(answer.text)) <= least + spare


def test_the_deadline_closes_the_text_without_a_further_step(tmp_path: Path) -> None:
    texts = (SAID, THOUGHT, "on and on, so " * 30)
    parts = Parts(tmp_path, *texts, token_s=1.0)
    start = parts.clock.now_s
    answer = parts.pipeline.answer(
        IMAGE, QUESTION, schema=TWO, deadline_s=60, max_answer_tokens=200, max_thinking_tokens=5
    )
    assert answer.finish_reasons["answer"] == "deadline"
    assert answer.value["animal"].startswith("on and on")
    assert answer.value["legs"] == 0
    assert parts.clock.now_s - start <= 61


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        (SHOWN, {"animal": "", "legs": 0}),
        (TWO, {"animal": "d", "legs": 0}),
        (WORD, {"animal": "d"}),
        ({"const": 5}, 5),
    ],
)
def test_a_deadline_that_passed_leaves_an_answer(
    tmp_path: Path, schema: dict[str, Any], value: object
) -> None:
    parts = Parts(tmp_path, "d<|im_end|>", endless=True, token_s=1.0)
    answer = parts.pipeline.answer(IMAGE, QUESTION, schema=schema, deadline_s=0.5)
    assert answer.value == value
    assert answer.finish_reasons["answer"] == ("stop" if schema == {"const": 5} else "deadline")


def test_repetition_closes_the_text(tmp_path: Path) -> None:
    parts = Parts(tmp_path, SAID, THOUGHT, "on " * 300)
    answer = parts.pipeline.answer(IMAGE, QUESTION, schema=TWO, max_answer_tokens=400)
    assert answer.finish_reasons["answer"] == "repetition"
    assert answer.value["legs"] == 0


def test_the_budget_of_the_bundle_is_raised_to_what_the_schema_needs(tmp_path: Path) -> None:
    """It is 8 tokens, for free text; the caller's own is taken at its word."""
    parts = Parts(tmp_path, SAID, THOUGHT, WRITTEN)
    assert parts.pipeline.answer(IMAGE, QUESTION, schema=SHOWN).finish_reasons["answer"] == "stop"
    with pytest.raises(OptionError, match=r"max_answer_tokens=8: expected at least \d\d") as caught:
        parts.pipeline.answer(IMAGE, QUESTION, schema=TWO, max_answer_tokens=8)
    assert caught.value.name == "max_answer_tokens"


def test_a_schema_that_does_not_fit_the_context_is_refused_with_numbers(tmp_path: Path) -> None:
    many = {"type": "array", "items": {"type": "integer"}, "minItems": 60}
    parts = Parts(tmp_path, context_length=300)
    with pytest.raises(PromptTooLongError, match="the context holds 300"):
        parts.pipeline.answer(IMAGE, QUESTION, schema=many)
    assert parts.tower.runs == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"schema": {"type": "string", "not": {}}}, "at not: no answer can be held to"),
        ({"schema": {"type": "string", "pattern": "(?=a)"}}, "look-around"),
        ({"schema": "schema.json"}, "a JSON schema as a dict, or a class"),
        ({"schema": object}, "a JSON schema as a dict, or a class that has one"),
        ({"schema": TWO, "kind": "number"}, "none where there is `choices` or `kind`"),
        ({"schema": TWO, "choices": ["a", "b"]}, "none where there is `choices` or `kind`"),
        ({"schema": {"$ref": "#"}}, "some short text fits; none was found"),
    ],
)
def test_what_cannot_be_held_to_is_refused_before_anything_runs(
    tmp_path: Path, options: dict[str, Any], said: str
) -> None:
    parts = Parts(tmp_path)
    for call in (parts.pipeline.answer, parts.pipeline.stream, parts.pipeline.answer_directly):
        with pytest.raises(OptionError, match=said) as caught:
            call(IMAGE, QUESTION, **options)
        assert caught.value.name == "schema"
    assert parts.tower.runs == 0
    assert parts.cache.prompts == []


def test_without_the_extra_the_error_tells_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "llguidance", None)
    parts = Parts(tmp_path, SAID, THOUGHT, " dog<|im_end|>")
    with pytest.raises(MissingExtraError, match=r'pip install "edge-et\[schema\]"'):
        parts.pipeline.answer(IMAGE, QUESTION, schema=TWO)
    assert parts.pipeline.answer(IMAGE, QUESTION).text == "dog"
