"""Evaluation: how answers are judged, and what a stopped evaluation keeps."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from tiny.scripted_bundle import KIT, Pipe

from edge_et.benchmarks.quality.modes import Reply
from edge_et.errors import TuningError
from edge_et.tuning.evaluation import evaluate
from edge_et.tuning.evaluation.compare_modes import paired_difference
from edge_et.tuning.evaluation.contact_sheet import write_failures
from edge_et.tuning.evaluation.evaluate import Trial, guessing, read_trials
from edge_et.tuning.evaluation.exam import Exam
from edge_et.tuning.mini import evaluate_scenes
from edge_et.tuning.mini.evaluate_scenes import comparison, table, take_exam
from edge_et.tuning.mini.exams import find_exam
from edge_et.tuning.training.example import Example


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
    for line in ('{"no": "trial"}\n', '{"x": ' + "[" * 100_000):
        path.write_text(line)
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
    evaluate_scenes.write_failures(trials, KIT, tmp_path / "failures.jpg", "extract-think")
    with Image.open(tmp_path / "failures.jpg") as sheet:
        assert sheet.format == "JPEG"
        assert sheet.width > sheet.height


def test_an_exam_may_be_of_any_pictures(tmp_path: Path):
    def asked() -> Iterator[tuple[Image.Image, Example]]:
        for colour in ("red", "blue"):
            yield (
                Image.new("RGB", (8, 8), colour),
                Example(
                    kind="colour",
                    question="Which colour?",
                    extraction=f"It is {colour}.",
                    reasoning="",
                    answer=colour,
                ),
            )

    exam, results = Exam(name="plain colours", questions=asked), tmp_path / "results.jsonl"
    evaluate.take_exam(Pipe("Red."), exam, 5, "plain", ["extract-think"], results)
    trials = read_trials([results])
    assert [trial.is_right("extract-think") for trial in trials] == [True, False]
    assert evaluate.table(trials, ["plain colours", "another"]).count("\n| ") == 1
    write_failures(trials, [exam], tmp_path / "sheet.jpg", "extract-think")
    with Image.open(tmp_path / "sheet.jpg") as sheet:
        assert sheet.format == "JPEG"
