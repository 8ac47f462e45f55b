"""What a caller says of an answer in free text, through fakes."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny.bundle import build_bundle
from tiny.fakes import FakeTower, ForcedKVCache, new_chat_model, text_of

from edge_et.errors import OptionError
from edge_et.llm import Tokenizer
from edge_et.pipeline import ExtractThink
from edge_et.pipeline.models import Models
from edge_et.results import Answer, AnswerToken

IMAGE = np.full((9, 9, 3), 40, np.uint8)
TURNS = ("a red ball<|im_end|>", "A red ball.\nAnswer:", " a red ball<|im_end|>")
FORMS: tuple[dict[str, Any], ...] = (
    {"choices": ["red", "green"]},
    {"kind": "number"},
    {"schema": {"type": "integer"}},
)


@pytest.fixture
def pipeline(tmp_path: Path) -> ExtractThink:
    return new_pipeline(tmp_path, *TURNS)


def new_pipeline(folder: Path, *texts: str) -> ExtractThink:
    manifest = build_bundle(folder)
    tokenizer = Tokenizer(folder / "tokenizer.json")
    cache = ForcedKVCache(tokenizer, *texts, context_length=2000)
    models = Models(perceiver=new_chat_model(tokenizer, cache))
    return ExtractThink(manifest, tower=FakeTower(), contexts=[models])


def test_stop_texts_end_the_answer_and_nothing_else(pipeline: ExtractThink) -> None:
    *events, answer = pipeline.stream(IMAGE, "Which?", stop=["ball"])
    assert isinstance(answer, Answer)
    assert (answer.extraction, answer.reasoning) == ("a red ball", "A red ball.")
    assert answer.text == "a red"
    assert text_of(events, AnswerToken).strip() == answer.text
    assert answer.finish_reasons["answer"] == "stop"


def test_stop_texts_end_the_baseline_and_text_alone(tmp_path: Path) -> None:
    pipeline = new_pipeline(tmp_path, *["a red ball<|im_end|>"] * 2)
    assert pipeline.answer_directly(IMAGE, "Which?", stop=["ball"]).text == "a red"
    assert pipeline.text_session().answer("Which?", stop=(" red",)).text == "a"


@pytest.mark.parametrize("form", FORMS, ids=lambda form: next(iter(form)))
def test_an_answer_in_a_form_has_no_stop_texts(
    pipeline: ExtractThink, form: dict[str, Any]
) -> None:
    with pytest.raises(OptionError, match="stop"):
        pipeline.answer(IMAGE, "Which?", stop=["x"], **form)
    assert pipeline.answer(IMAGE, "Which?", stop=[], kind="yes/no").value in (True, False)


@pytest.mark.parametrize(
    "stop",
    ["x", [""], ["x"] * 17, ["x" * 257], [5], ["\ud800"], [["x"]]],
    ids=lambda value: repr(value)[:12],
)
def test_stop_texts_that_are_none(pipeline: ExtractThink, stop: Any) -> None:
    with pytest.raises(OptionError, match="stop") as caught:
        pipeline.answer(IMAGE, "Which?", stop=stop)
    assert "surrogates" in caught.value.expected or "of 1 to 256" in caught.value.expected


def test_tokens_of_the_answer_are_told_with_their_logarithms(pipeline: ExtractThink) -> None:
    answer = pipeline.answer(IMAGE, "Which?", top_logprobs=2)
    assert "".join(token.text for token in answer.logprobs).strip() == "a red ball"
    for token in answer.logprobs:
        (first, logprob), second = token.top
        assert (first, logprob) == (token.text, token.logprob)
        assert 0 > logprob > second[1]
        assert token.token_bytes.decode() == token.text
    document = json.loads(json.dumps(answer.to_dict()))["logprobs"]
    assert [token["text"] for token in document] == [token.text for token in answer.logprobs]


def test_tokens_behind_a_stop_text_are_not_told(pipeline: ExtractThink) -> None:
    answer = pipeline.answer(IMAGE, "Which?", top_logprobs=0, stop=[" ball"])
    assert "".join(token.text for token in answer.logprobs).strip() == answer.text == "a red"
    assert all(token.top == () for token in answer.logprobs)


def test_nothing_is_told_where_nobody_asked(tmp_path: Path) -> None:
    pipeline = new_pipeline(tmp_path, *TURNS, *["a red ball<|im_end|>"] * 2)
    assert pipeline.answer(IMAGE, "Which?").logprobs == ()
    assert len(pipeline.answer_directly(IMAGE, "Which?", top_logprobs=1).logprobs) > 1
    assert len(pipeline.text_session().answer("Which?", top_logprobs=1).logprobs) > 1


@pytest.mark.parametrize("form", FORMS, ids=lambda form: next(iter(form)))
def test_an_answer_in_a_form_tells_no_logarithms(
    pipeline: ExtractThink, form: dict[str, Any]
) -> None:
    with pytest.raises(OptionError, match="top_logprobs"):
        pipeline.answer(IMAGE, "Which?", top_logprobs=0, **form)
    for wrong in (-1, 21, 1.5, True):
        with pytest.raises(OptionError, match="top_logprobs"):
            pipeline.answer(IMAGE, "Which?", top_logprobs=wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("form", [{}, *FORMS], ids=lambda form: next(iter(form), "free"))
def test_tokens_of_the_answer_are_counted_apart(tmp_path: Path, form: dict[str, Any]) -> None:
    pipeline = new_pipeline(tmp_path, *TURNS[:2], *[" 2 red<|im_end|>"] * 9)
    tokenizer = Tokenizer(tmp_path / "tokenizer.json")
    answer = pipeline.answer(IMAGE, "Which?", **form)
    usage = answer.usage["think"]
    assert usage.generated_tokens - usage.answer_tokens == len(tokenizer.encode(TURNS[1]))
    assert usage.answer_tokens >= 1
    if not form:
        assert usage.answer_tokens == len(tokenizer.encode(" 2 red"))
    assert answer.usage["extract"].answer_tokens == 0


def test_all_tokens_are_the_answers_where_nothing_is_reasoned(tmp_path: Path) -> None:
    pipeline = new_pipeline(tmp_path, *["a red ball<|im_end|>"] * 2)
    for answer in (
        pipeline.answer_directly(IMAGE, "Which?"),
        pipeline.text_session().answer("Which?"),
    ):
        usage = answer.usage["think"]
        assert usage.answer_tokens == usage.generated_tokens > 1
