"""What confidence is worth: what is asked and kept, how it is counted, printed and drawn."""

import io
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner
from rich.console import Console
from tiny.scripted_bundle import KIT

from edge_et.benchmarks.confidence.asking import Signals, Sure, ask_model, open_results
from edge_et.benchmarks.confidence.confidence_document import Outcome
from edge_et.benchmarks.confidence.confidence_report import print_confidence
from edge_et.benchmarks.confidence.counting import count
from edge_et.benchmarks.confidence.curves import write_curves
from edge_et.benchmarks.confidence.signals import ANSWER, ANSWERING, DOUBT, blame, sureness
from edge_et.benchmarks.quality.asking import Model
from edge_et.benchmarks.quality.questions import Question
from edge_et.cli.bench_confidence import confidence
from edge_et.errors import BenchError
from edge_et.results import Certainty, Confidence, PhaseUsage

RIGHT, WRONG, TRUTH = "cat", "dog", "The picture shows cat."


def question(index: int, kind: str = "naming") -> Question:
    return Question(
        key=f"k{index}",
        where=f"question {index}",
        kind=kind,
        text=f"Q{index}",
        picture=b"",
        accepted=(RIGHT,),
        truth=TRUTH,
    )


class Pipe:
    """Stands in for a loaded bundle; notes what it is asked."""

    def __init__(self, *answers: str, thinks: str = RIGHT) -> None:
        self.answers = list(answers)
        self.thinks = thinks
        self.asked: list[tuple[str, str]] = []

    def __call__(self) -> "Pipe":
        return self

    def __enter__(self) -> "Pipe":
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def answer(self, picture: object, text: str, *, confidence: str) -> SimpleNamespace:
        assert confidence == "control"
        self.asked.append(("answer", text))
        stage = Certainty(tokens=2, mean=0.9, least=0.8, margin=0.7)
        sure = Confidence(
            answer=0.5,
            answering=0.81,
            control=0.25,
            stages={"extract": stage, "think": stage, "answer": stage},
            control_usage=PhaseUsage(seconds=0.5, evaluated_tokens=40),
        )
        return SimpleNamespace(
            text=self.answers.pop(0),
            extraction="The picture shows dog.",
            reasoning="So.",
            confidence=sure,
            usage={"extract": PhaseUsage(seconds=1.0), "think": PhaseUsage(seconds=2.0)},
        )

    def rethink(self, text: str, extraction: str) -> SimpleNamespace:
        assert extraction == TRUTH
        self.asked.append(("rethink", text))
        return SimpleNamespace(text=self.thinks)


def model(pipe: Pipe) -> Model:
    return Model(key="fake 1", open=pipe)  # type: ignore[arg-type]


def test_wrong_answers_are_asked_again_with_the_truth_and_only_what_is_missing(tmp_path: Path):
    path = tmp_path / "r.jsonl"
    pipe = Pipe(RIGHT, WRONG)
    with open_results(path) as results:
        ask_model(model(pipe), [question(0), question(1)], results)
        found = results.find("fake 1", question(1))
    assert pipe.asked == [("answer", "Q0"), ("answer", "Q1"), ("rethink", "Q1")]
    assert found is not None
    assert (found.answer, found.true_answer, found.seconds) == (WRONG, RIGHT, 3.0)
    assert (found.control_seconds, found.control_positions) == (0.5, 40)
    path.write_bytes(path.read_bytes()[:-5])  # as a kill leaves it
    again = Pipe(RIGHT)
    with open_results(path) as results:
        ask_model(model(again), [question(0), question(1)], results)
        assert again.asked == [("answer", "Q1")]
        ask_model(model(Pipe()), [question(0), question(1)], results)
        assert results.find("fake 2", question(0)) is None


def test_results_of_something_else_are_refused(tmp_path: Path):
    path = tmp_path / "r.jsonl"
    path.write_text('{"mine": 1}\n')
    with (
        pytest.raises(BenchError, match="line 1 was not written by bench confidence"),
        open_results(path),
    ):
        pass


def seen(answer: str, seeing: float, thinking: float = 1.0, **changes: Any) -> Sure:
    stages = {
        "extract": Signals(tokens=4, mean=seeing, least=seeing / 2, margin=0.5),
        "think": Signals(tokens=4, mean=thinking, least=thinking / 2, margin=0.5),
        "answer": Signals(tokens=2, mean=0.9, least=0.8, margin=0.7),
    }
    values: dict[str, Any] = {
        "question": "",
        "text": "",
        "model": "mini 1 abc",
        "answer": answer,
        "extraction": "",
        "reasoning": "",
        "true_answer": None,
        "control": 0.0,
        "stages": stages,
        "seconds": 2.0,
        "control_seconds": 0.5,
        "control_positions": 50,
        **changes,
    }
    return Sure(**values)


def test_scores_are_those_of_the_runtime():
    found = sureness(seen(RIGHT, 0.8, 0.5, control=0.081))
    assert found[ANSWERING] == pytest.approx(0.81)
    assert found[ANSWER] == pytest.approx(0.8 * 0.5 * 0.81)
    assert found["answering over control"] == pytest.approx(2.302585, abs=1e-5)
    assert "answering over control" not in sureness(seen(RIGHT, 0.8, control=None))
    assert sureness(seen(RIGHT, 0.8, stages={}))[ANSWER] == 1
    assert blame(seen(WRONG, 0.7, 0.9))[DOUBT] > 0 > blame(seen(WRONG, 0.8, 0.9))[DOUBT]  # 0.729


def outcome() -> Outcome:
    """Six answers: sure ones are right, and doubt of seeing is right in three of four."""
    said = [
        seen(RIGHT, 0.99),
        seen(RIGHT, 0.98),
        seen(WRONG, 0.5, true_answer=RIGHT),
        seen(WRONG, 0.6, true_answer=RIGHT),
        seen(WRONG, 0.9, 0.3, true_answer=WRONG),
        seen(WRONG, 0.7, true_answer=WRONG),
    ]
    kinds = ["naming", "counting"] * 3
    return count("mini 1 abc", [question(i, kind) for i, kind in enumerate(kinds)], said)


def test_answers_are_counted():
    found = outcome()
    assert (found.asked, found.right) == (6, 2)
    faults = found.faults
    assert (faults.seeing, faults.seeing_told) == (2, 2)
    assert (faults.thinking, faults.thinking_told) == (2, 1)
    signals = {signal.name: signal for signal in found.signals}
    assert signals[ANSWER].auc.value == 1
    assert signals[ANSWERING].auc.value == 0.5
    assert (signals["seeing"].first.value, signals["seeing"].others.value) == (1, None)
    blames = {signal.name: signal for signal in found.blame}
    assert blames[DOUBT].auc.value == 1
    assert blames["control"].auc.value == 0.5
    curve = found.curves[0]
    assert curve.risks == pytest.approx((0, 0, 1 / 3, 1 / 2, 3 / 5, 2 / 3))
    assert (found.cost.seconds, found.cost.control_positions) == (2, 50)
    assert json.loads(msgspec.json.encode(found))["faults"]["thinking"] == 2


def test_questions_that_formulas_were_not_chosen_on_are_counted_apart():
    questions = [question(index, kind) for index in range(12) for kind in ("naming", "counting")]
    said = [seen(RIGHT, 0.9) if index % 2 else seen(WRONG, 0.5) for index in range(20)]
    said += [seen(WRONG, 0.9), seen(RIGHT, 0.5)] * 2
    signals = {signal.name: signal for signal in count("mini 1 abc", questions, said).signals}
    assert (signals["seeing"].first.value, signals["seeing"].others.value) == (1, 0)


def test_without_a_wrong_answer_there_is_nobody_to_blame():
    found = count("mini 1 abc", [question(0)], [seen(RIGHT, 0.9)])
    assert {signal.auc.value for signal in (*found.signals, *found.blame)} == {None}


def test_curves_are_drawn_the_same_again(tmp_path: Path):
    for name in ("a.svg", "b.svg"):
        write_curves(outcome(), tmp_path / name)
    drawn = (tmp_path / "a.svg").read_bytes()
    assert drawn == (tmp_path / "b.svg").read_bytes()
    assert b"<svg" in drawn
    with pytest.raises(BenchError, match=r"\.svg"):
        write_curves(outcome(), tmp_path / "a.gif")


def test_the_command_prints_tables_or_a_document(
    tmp_path: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("edge_et.benchmarks.quality.scenes.scene_kit", lambda *_, **__: KIT)
    results = str(tmp_path / "r.jsonl")
    arguments = ["--model", str(tiny_bundle), "--exam", "colour", "--each", "2", "--threads", "1"]
    arguments += ["--results", results, "--plot", str(tmp_path / "c.png")]
    first = CliRunner().invoke(confidence, [*arguments, "--json"], catch_exceptions=False)
    document = json.loads(first.stdout)
    assert document["outcome"]["asked"] == 2
    lines = Path(results).read_text()
    assert len(lines.splitlines()) == 2
    second = CliRunner().invoke(confidence, arguments, catch_exceptions=False)
    assert "whose fault" in second.stdout
    assert Path(results).read_text() == lines
    assert (tmp_path / "c.png").read_bytes().startswith(b"\x89PNG")


def test_tables_name_what_there_is():
    from edge_et.benchmarks.confidence.confidence_document import ConfidenceDocument
    from edge_et.benchmarks.sensors import describe_machine

    document = ConfidenceDocument(
        created="2026",
        commit=None,
        versions={},
        machine=describe_machine(),
        threads=1,
        arguments=(),
        questions="scenes [bold]",
        outcome=outcome(),
    )
    stream = io.StringIO()
    print_confidence(document, Console(file=stream, width=160))
    shown = stream.getvalue()
    assert "scenes [bold]" in shown
    assert "2 of 6 right" in shown
    assert "seeing of 2 of these, and thinking of 1 of the 2 others" in shown
