"""Exams of scenes: the same questions every time, and only what a row is about."""

from itertools import islice
from pathlib import Path

import msgspec
import numpy as np
import pytest
from tiny.scripted_bundle import KIT

from edge_et.benchmarks.quality import scenes
from edge_et.benchmarks.quality.scoring import is_right
from edge_et.errors import TuningError
from edge_et.image import load_image
from edge_et.tuning.mini.exams import EXAMS, find_exam, questions
from edge_et.tuning.mini.facts import ChartFacts, Label, ObjectFacts, SceneObject
from edge_et.tuning.mini.questions.kinds import KINDS


def test_every_kind_of_question_is_in_an_exam():
    assert {kind for exam in EXAMS for kind in exam.kinds} == set(KINDS)
    with pytest.raises(TuningError, match=r"no exam 'cooking'.*'colour'"):
        find_exam("cooking")


@pytest.mark.parametrize("exam", EXAMS, ids=lambda exam: exam.name)
def test_an_exam_asks_the_same_every_time_and_only_what_it_is_about(exam):
    def first(count: int) -> list:
        return [example for _, example in islice(questions(exam, KIT), count)]

    asked = first(6)
    assert asked == first(6)
    assert {example.kind for example in asked} <= set(exam.kinds)
    assert len({example.kind for example in asked}) == len(exam.kinds)
    if exam.name == "counting to five":
        assert all(1 <= int(example.answer) <= 5 for example in asked)


def test_counting_is_not_of_one_thing_alone():
    exam = find_exam("counting to five")
    cat = SceneObject(Label("cat", None, "cats"), 0.2, 0.5, 0.3)
    assert not exam.counts(ObjectFacts((cat,)), "1")
    assert exam.counts(ObjectFacts((cat, msgspec.structs.replace(cat, x=0.8))), "2")


def test_the_largest_bar_is_asked_of_bar_charts_alone():
    exam = find_exam("largest bar")
    line = ChartFacts("line", ())
    assert not exam.counts(line, "a")
    assert exam.counts(msgspec.structs.replace(line, kind="bar"), "a")


def test_the_benchmark_asks_the_same_questions(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(scenes, "scene_kit", lambda assets, *, held_out: KIT)
    names = ("colour", "yes or no")
    asked = list(scenes.scene_questions(names, 2, tmp_path))
    assert [question.kind for question in asked] == ["colour", "colour", "yes or no", "yes or no"]
    assert [question.where for question in asked][1] == "colour, question 2"
    assert asked == list(scenes.scene_questions(names, 2, tmp_path))
    assert len({question.key for question in asked}) == 4
    picture, example = next(questions(find_exam("colour"), KIT))
    assert (asked[0].text, asked[0].accepted) == (example.question, (example.answer,))
    assert isinstance(asked[0].picture, bytes)
    assert np.array_equal(load_image(asked[0].picture), picture)


def test_a_question_offers_its_answer_and_answers_of_others(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setattr(scenes, "scene_kit", lambda assets, *, held_out: KIT)
    names = ("colour", "yes or no", "what is not there")
    asked = scenes.offer_answers(list(scenes.scene_questions(names, 8, tmp_path)))
    assert asked == scenes.offer_answers(list(scenes.scene_questions(names, 8, tmp_path)))
    colours = {question.accepted[0] for question in asked if question.kind == "colour"}
    for question in asked:
        (right,) = question.accepted
        assert question.offered.count(right) == 1
        assert [text for text in question.offered if is_right(text, right)] == [right]
        if question.kind == "colour":
            assert colours >= set(question.offered)
        if question.kind == "yes or no":
            assert set(question.offered) == {"yes", "no"}
    assert len({question.offered.index(question.accepted[0]) for question in asked}) > 1
