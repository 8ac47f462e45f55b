from dataclasses import replace
from typing import Any

import pytest

from edge_et.cli.answer import _notes, _print_as_it_comes
from edge_et.cli.console import ProgressLine
from edge_et.results import (
    Answer,
    AnswerToken,
    Confidence,
    Event,
    ExtractionToken,
    ReasoningToken,
)

ANSWER = Answer(
    text="red",
    extraction="a ball",
    reasoning="It is.",
    usage={},
    hint="the\x1bball",
    finish_reasons={"extract": "length", "think": "stop", "answer": "deadline"},
)
EVENTS: list[Event] = [
    ExtractionToken("a "),
    ExtractionToken("ball"),
    ReasoningToken("\nIt "),
    ReasoningToken(" is."),
    AnswerToken(" "),
    AnswerToken(" re"),
    AnswerToken("d\x1b"),
    ANSWER,
]
REPLACED = "\N{REPLACEMENT CHARACTER}"


def shown(capsys: pytest.CaptureFixture[str], events: list[Any], stages: bool) -> str:
    _print_as_it_comes(iter(events), ProgressLine(), stages)
    out, err = capsys.readouterr()
    assert err == ""
    return out


def test_a_terminal_sees_the_answer_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(capsys, EVENTS, False) == f"red{REPLACED}\n"


def test_a_terminal_sees_stages_under_titles_and_notes_behind_them(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert shown(capsys, EVENTS, True) == (
        "Extraction: a ball\n"
        "Reasoning: It  is.\n"
        f"Answer: red{REPLACED}\n"
        f"Hint: the{REPLACED}ball\n"
        "Cut: extract (length), answer (deadline)\n"
    )


@pytest.mark.parametrize("stages", [False, True])
def test_a_terminal_sees_how_sure_an_answer_is(
    capsys: pytest.CaptureFixture[str], stages: bool
) -> None:
    sure = Confidence(
        answer=0.5, answering=0.9, seeing=0.25, thinking=0.875, control=0.001, doubt="seeing"
    )
    *_, line = shown(capsys, [*EVENTS[:-1], replace(ANSWER, confidence=sure)], stages).splitlines()
    assert line == (
        "Confidence: 50% (seeing 25%, thinking 88%, answering 90%, without seeing 0%; "
        "look at seeing first)"
    )
    alone = replace(ANSWER, confidence=Confidence(answer=1.0, answering=1.0))
    assert shown(capsys, [alone], False).endswith("Confidence: 100% (answering 100%)\n")


def test_each_of_several_pictures_has_a_title_of_its_own(
    capsys: pytest.CaptureFixture[str],
) -> None:
    events = [ExtractionToken("a "), ExtractionToken("cat"), ExtractionToken(" a cup", 1), ANSWER]
    _print_as_it_comes(iter(events), ProgressLine(), True, several=True)
    assert capsys.readouterr().out.startswith("Extraction 1: a cat\nExtraction 2: a cup\n")


def test_a_stage_of_white_space_has_no_title(capsys: pytest.CaptureFixture[str]) -> None:
    events = [ExtractionToken(" \n"), AnswerToken("red"), ANSWER]
    assert shown(capsys, events, True).startswith("Answer: red\n")


def test_text_is_shown_when_it_comes(capsys: pytest.CaptureFixture[str]) -> None:
    seen: list[str] = []

    def stream() -> Any:
        yield AnswerToken("re")
        seen.append(capsys.readouterr().out)
        yield AnswerToken("d")
        seen.append(capsys.readouterr().out)
        yield ANSWER

    _print_as_it_comes(stream(), ProgressLine(), False)
    assert seen == ["re", "d"]


def test_where_there_is_nothing_to_note_nothing_is() -> None:
    whole = Answer(
        text="red",
        extraction="a ball",
        reasoning="",
        usage={},
        finish_reasons={"extract": "stop", "answer": "stop"},
    )
    assert _notes(whole) == ""


def test_one_stage_is_noted() -> None:
    answer = Answer(
        text="red", extraction="", reasoning="", usage={}, finish_reasons={"answer": "stop"}
    )
    assert "--hint asks for two" in _notes(answer)
