"""The mini's answers to twenty pictures and questions, as they were before code was moved."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from tiny.places import ROOT

import edge_et

FOLDER = ROOT / "tests" / "data" / "mini_answers"
QUESTIONS = json.loads((FOLDER / "questions.json").read_text())
ANSWERS = json.loads((FOLDER / "answers.json").read_text())


@pytest.fixture(scope="module")
def pipe() -> Iterator[edge_et.ExtractThink]:
    with edge_et.load(use_profile=False) as pipe:
        yield pipe


@pytest.mark.parametrize(("asked", "expected"), list(zip(QUESTIONS, ANSWERS, strict=True)))
def test_answers_are_as_before(pipe: edge_et.ExtractThink, asked: Any, expected: Any):
    pipe.clear()  # as in a process of its own
    found = pipe.answer(FOLDER / asked["picture"], asked["question"]).to_dict()
    for phase, usage in found["usage"].items():  # later versions tell more of each phase
        found["usage"][phase] = {key: usage[key] for key in expected["usage"][phase]}
    assert {key: found[key] for key in expected} == expected
