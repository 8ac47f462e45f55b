"""Exams: what is asked, how answers are judged, what a stopped evaluation keeps."""

from itertools import islice
from pathlib import Path
from types import SimpleNamespace

import matplotlib
import msgspec
import numpy as np
import pytest
from PIL import Image
from tiny.icons import Squares

from edge_et.benchmarks.quality import scenes
from edge_et.benchmarks.quality.modes import Reply
from edge_et.errors import TuningError
from edge_et.image import load_image
from edge_et.tuning.evaluation.compare_modes import paired_difference
from edge_et.tuning.evaluation.evaluate import Trial, guessing, read_trials
from edge_et.tuning.mini import recipe
from edge_et.tuning.mini.assets.photographs import Photograph
from edge_et.tuning.mini.evaluate_photographs import (
    name_photographs,
    photograph_table,
    write_photograph_sheet,
)
from edge_et.tuning.mini.evaluate_scenes import comparison, table, take_exam, write_failures
from edge_et.tuning.mini.exams import EXAMS, find_exam, questions
from edge_et.tuning.mini.facts import ChartFacts, Label, ObjectFacts, SceneObject
from edge_et.tuning.mini.questions.kinds import KINDS
from edge_et.tuning.mini.scenes.mix import SceneKit

FONTS = (Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"),)


KIT = SceneKit(icons=[Squares()], fonts=FONTS, held_out=True)


class Extract(msgspec.Struct):
    prompt: str


class Manifest(msgspec.Struct):
    name: str
    version: str
    vision: object
    extract: Extract


class Pipe:
    """Stands in for a loaded bundle: it says what the tests tell it to."""

    def __init__(self, text: str = "dog") -> None:
        graph = SimpleNamespace(sha256="0123456789abcdef")
        self.manifest = Manifest(
            "mini", "1", SimpleNamespace(files=(graph,)), Extract(recipe.EXTRACT_PROMPT)
        )
        self.text = text
        self.asked: list[tuple[str, str]] = []

    def encode_image(self, picture: Image.Image) -> Image.Image:
        return picture

    def extract(self, image: object, question: str) -> SimpleNamespace:
        self.asked.append((self.manifest.extract.prompt, question))
        usage = SimpleNamespace(generated_tokens=5)
        return SimpleNamespace(text="The picture shows dog.", usage=usage)

    def think(self, question: str, extraction: object, **options: object) -> SimpleNamespace:
        usage = SimpleNamespace(seconds=0.25, generated_tokens=2)
        return SimpleNamespace(text=self.text, reasoning="I think.", usage=usage)

    def answer(self, image: object, question: str) -> SimpleNamespace:
        return SimpleNamespace(text=self.text)

    def answer_directly(self, image: object, question: str) -> SimpleNamespace:
        usage = {"think": SimpleNamespace(seconds=0.125, generated_tokens=2)}
        return SimpleNamespace(text=self.text.upper(), usage=usage)


def trial(exam: str, index: int, expected: str, **answers: str) -> Trial:
    replies = {
        way.replace("_", "-"): Reply(text=text, extraction="It shows.", reasoning="", seconds=1.0)
        for way, text in answers.items()
    }
    return Trial(
        bundle="mini 1 01234567",
        style="held-out",
        exam=exam,
        index=index,
        question="What?",
        expected=expected,
        expected_extraction="",
        replies=replies,
    )


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


def test_a_stopped_exam_goes_on_without_asking_twice(tmp_path: Path):
    exam, results = find_exam("colour"), tmp_path / "results.jsonl"
    ways = ["extract-think", "direct"]
    first = Pipe()
    take_exam(first, exam, 3, KIT, "held-out", ways, results)
    assert len(first.asked) == 3
    again = Pipe()
    take_exam(again, exam, 5, KIT, "held-out", ways, results)
    assert len(again.asked) == 2
    trials = read_trials([results])
    assert [t.index for t in trials] == list(range(5))
    assert trials[0].replies["direct"].text == "DOG"
    assert trials[0].replies["extract-think"].seconds > 0.25
    other = Pipe()
    other.manifest.version = "2"
    take_exam(other, exam, 2, KIT, "held-out", ways, results)
    assert len(other.asked) == 2


def test_damaged_results_are_named(tmp_path: Path):
    path = tmp_path / "results.jsonl"
    path.write_text('{"no": "trial"}\n')
    with pytest.raises(TuningError, match=r"results\.jsonl:1 is no result"):
        read_trials([path])
    with pytest.raises(TuningError, match="cannot be read"):
        read_trials([tmp_path / "missing.jsonl"])


def test_the_table_counts_every_way_of_answering():
    trials = [
        trial("yes or no", 0, "yes", extract_think="yes", direct="no"),
        trial("yes or no", 1, "yes", extract_think="yes", direct="yes"),
        trial("yes or no", 2, "no", extract_think="yes", direct="yes"),
        trial("yes or no", 3, "yes", extract_think="Yes.", direct="no"),
    ]
    assert guessing(trials) == 0.75
    row = table(trials).splitlines()[-1]
    assert row == "| yes or no | 4 | 75% (30% to 95%) | 25% (5% to 70%) | 75% |"


def test_differences_are_paired():
    trials = [
        trial("comparison", n, "a", extract_think="a", direct="a" if n % 2 else "b")
        for n in range(40)
    ]
    gain, (low, high) = paired_difference(trials, "extract-think", "direct")
    assert gain == 0.5
    assert 0.3 < low < 0.5 < high < 0.7
    assert paired_difference(trials, "direct", "direct") == (0.0, (0.0, 0.0))
    text = comparison(trials)
    assert "| two steps | 40 |" in text
    assert "| direct | two steps | +50.0 |" in text


def test_failures_are_drawn(tmp_path: Path):
    trials = [trial("colour", n, "red", extract_think="blue") for n in range(3)]
    trials.append(trial("colour", 3, "red", extract_think="red"))
    write_failures(trials, KIT, tmp_path / "failures.jpg", "extract-think")
    with Image.open(tmp_path / "failures.jpg") as sheet:
        assert sheet.format == "JPEG"
        assert sheet.width > sheet.height


def test_photographs_are_right_by_any_of_their_names(tmp_path: Path):
    picture = Image.fromarray(np.full((40, 60, 3), 90, np.uint8))
    shown = [
        Photograph("a/1", ("hound", "dog"), picture),
        Photograph("a/2", ("cat", "kitten"), picture),
    ]
    namings = name_photographs(Pipe("A dog."), shown)
    assert [naming.right for naming in namings] == [True, False]
    text = photograph_table(namings)
    assert text.startswith("1 of 2 right: 50%")
    assert "| a/2 | cat, kitten | A dog. | wrong |" in text
    write_photograph_sheet(namings, tmp_path / "sheet.jpg")
    with Image.open(tmp_path / "sheet.jpg") as sheet:
        assert sheet.format == "JPEG"
