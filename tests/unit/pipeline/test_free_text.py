"""What a caller says of an answer in free text, through fakes."""

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
