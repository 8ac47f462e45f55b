import json
from dataclasses import asdict, fields, replace
from typing import Any

import pytest

from edge_et.results import (
    Answer,
    Certainty,
    Confidence,
    Cut,
    Extraction,
    PhaseUsage,
    PictureExtraction,
    Thought,
)

REASONS: dict[Any, Any] = {
    "hint": "length",
    "extract": "deadline",
    "think": "repetition",
    "answer": "stop",
}
CUTS = (Cut("hint", "tokens"), Cut("extract", "deadline"), Cut("think", "repetition"))
USAGE = PhaseUsage(
    seconds=1.5,
    evaluated_tokens=2,
    reused_tokens=3,
    generated_tokens=4,
    pictures=5,
)
ANSWER = Answer(
    text="red",
    extraction="a ball",
    reasoning="It is red.",
    usage={"vision": PhaseUsage(), "think": USAGE},
    hint="the ball",
    finish_reasons=REASONS,
    extractions=(PictureExtraction(text="a ball", finish_reason="deadline", usage=USAGE),),
)
EXTRACTION = Extraction(text="a", tokens=(1,), conversation=(), usage=USAGE, finish_reasons=REASONS)
THOUGHT = Thought(answer="a", reasoning="", tokens=(1,), usage=USAGE, finish_reasons=REASONS)


def test_a_document_holds_every_field_of_an_answer() -> None:
    document = ANSWER.to_dict()
    assert set(document) == {field.name for field in fields(Answer)} | {"cuts"}
    assert json.loads(json.dumps(document)) == document
    for name in ("text", "extraction", "reasoning", "hint"):
        assert document[name] == getattr(ANSWER, name)


def test_a_document_tells_how_sure_an_answer_is() -> None:
    certainty = Certainty(tokens=2, mean=0.9, least=0.8, margin=0.7)
    sure = Confidence(
        answer=0.5, answering=0.6, control=0.25, stages={"think": certainty}, control_usage=USAGE
    )
    document = replace(ANSWER, confidence=sure).to_dict()["confidence"]
    assert set(document) == {field.name for field in fields(Confidence)}
    assert document["stages"] == {"think": asdict(certainty)}
    assert document["control_usage"] == asdict(USAGE)
    assert json.loads(json.dumps(document)) == document
    assert ANSWER.to_dict()["confidence"] is None


def test_a_document_tells_what_every_phase_took() -> None:
    usage = ANSWER.to_dict()["usage"]
    assert list(usage) == ["vision", "think"]
    assert usage["think"] == asdict(USAGE)
    assert set(usage["think"]) == {field.name for field in fields(PhaseUsage)}


def test_a_document_tells_what_was_written_of_every_picture() -> None:
    (extraction,) = ANSWER.to_dict()["extractions"]
    usage = asdict(USAGE)
    assert extraction == {"text": "a ball", "finish_reason": "deadline", "usage": usage}


def test_what_phases_took_is_added_up() -> None:
    assert USAGE + PhaseUsage() == USAGE
    assert PhaseUsage(seconds=1.0, pictures=1) + USAGE == PhaseUsage(
        seconds=2.5,
        evaluated_tokens=2,
        reused_tokens=3,
        generated_tokens=4,
        pictures=6,
    )


def test_a_document_is_a_copy() -> None:
    ANSWER.to_dict()["finish_reasons"]["answer"] = "length"
    assert ANSWER.finish_reasons["answer"] == "stop"


def test_finish_reasons_are_told_in_their_order_and_cuts_in_the_older_words() -> None:
    document = ANSWER.to_dict()
    assert list(document["finish_reasons"].items()) == list(REASONS.items())
    assert document["cuts"] == [
        {"stage": "hint", "reason": "tokens"},
        {"stage": "extract", "reason": "deadline"},
        {"stage": "think", "reason": "repetition"},
    ]


@pytest.mark.parametrize("result", [ANSWER, EXTRACTION, THOUGHT], ids=lambda r: type(r).__name__)
def test_cuts_are_what_was_not_ended_by_the_model(result: Answer | Extraction | Thought) -> None:
    with pytest.warns(DeprecationWarning, match="finish_reasons") as caught:
        assert result.cuts == CUTS
    assert [warning.filename for warning in caught] == [__file__]


def test_the_text_of_a_thought_is_its_answer() -> None:
    with pytest.warns(DeprecationWarning, match=r"Thought\.answer") as caught:
        assert THOUGHT.text == "a"
    assert [warning.filename for warning in caught] == [__file__]


@pytest.mark.filterwarnings("error")
def test_a_document_of_ours_does_not_warn_its_reader() -> None:
    ANSWER.to_dict()
