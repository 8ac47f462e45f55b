"""Looking again, through fakes: what is asked, what is looked for, and when it ends."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace
from tiny.fake_calls import Parts
from tiny.fakes import cut_short
from tiny.thoughts import HINTED, THOUGHTS

from edge_et.bundle import LookAgainSpec
from edge_et.errors import OptionError, PromptTooLongError
from edge_et.results import Answer, ExtractionToken

IMAGE = np.full((9, 9, 3), 40, np.uint8)
QUESTION = "Which colour?"
ASKED = "What is missing? {question}"
SPEC = LookAgainSpec(prompt=ASKED, nothing="none", max_detail_tokens=12)
ENDS = "<|im_end|>"


def said(*texts: str) -> tuple[str, ...]:
    return tuple(text + ENDS for text in texts)


ANSWER = ("It is red.\nAnswer:", f" red{ENDS}")


def one_model(folder: Path, *texts: str, **changes: Any) -> Parts:
    changes = {"extract": {"prompt": HINTED}, "think": {"look_again": SPEC}, **changes}
    return Parts(folder, perceiver=(*texts, *ANSWER), **changes)


def test_a_detail_that_is_named_is_looked_for(tmp_path: Path) -> None:
    parts = one_model(tmp_path, *said("a ball", " the table.\nIt", "a red table", "None."))
    answer = parts.pipeline.answer(IMAGE, QUESTION, look_again=3)
    assert answer.details == ("the table",)
    assert answer.extraction == "a ball\na red table"
    assert [one.text for one in answer.extractions] == [answer.extraction]
    assert answer.text == "red"
    first, asked, second, asked_again, thinking, _ = parts.perceiver.prompts
    assert (
        asked
        == f"{first}a ball{ENDS}\n<|im_start|>user\nWhat is missing? {QUESTION}{ENDS}\n"
        + ("<|im_start|>assistant\n")
    )
    assert f"attention to the table.{ENDS}" in second
    assert asked_again.startswith(f"{first}a ball\na red table{ENDS}")
    assert thinking.startswith(f"{first}a ball\na red table{ENDS}")
    assert cut_short(answer) == {}
    assert answer.to_dict()["details"] == ["the table"]


def test_what_was_seen_is_told_behind_the_prompt_of_the_first_look(tmp_path: Path) -> None:
    parts = one_model(tmp_path, *said("a ball", "the table", "a table", "none"))
    parts.pipeline.answer(IMAGE, QUESTION, hint="the ball...", look_again=2)
    first, _, _, asked_again, thinking, _ = parts.perceiver.prompts
    assert f"attention to the ball...{ENDS}" in first
    assert asked_again.startswith(f"{first}a ball\na table{ENDS}")
    assert thinking.startswith(f"{first}a ball\na table{ENDS}")


@pytest.mark.parametrize("nothing", ["none.", "(None)", " none\n"])
def test_marks_around_the_word_for_nothing_are_none_of_it(tmp_path: Path, nothing: str) -> None:
    spec = replace(SPEC, nothing=nothing)
    parts = one_model(tmp_path, *said("a ball", nothing), think={"look_again": spec})
    assert parts.pipeline.answer(IMAGE, QUESTION, look_again=2).extraction == "a ball"
    assert len(parts.perceiver.prompts) == 4


def test_the_picture_is_not_read_again(tmp_path: Path) -> None:
    parts = one_model(tmp_path, *said("a ball", "the table", "a red table", "none"))
    answer = parts.pipeline.answer(IMAGE, QUESTION, look_again=3)
    picture = 1 + parts.tokens("user\n") + 16
    assert answer.usage["extract"].reused_tokens >= picture
    assert answer.usage["extract"].pictures == 1
    written = parts.tokens("a ball") + parts.tokens("a red table")
    assert answer.usage["extract"].generated_tokens == written
    asked = parts.tokens("the table") + parts.tokens("none")
    assert answer.usage["look_again"].generated_tokens == asked


def test_without_it_nobody_is_asked(tmp_path: Path) -> None:
    for options in ({}, {"look_again": 0}):
        parts = one_model(tmp_path, *said("a ball"))
        answer = parts.pipeline.answer(IMAGE, QUESTION, **options)
        assert (answer.details, answer.extraction) == ((), "a ball")
        assert "look_again" not in answer.usage


def test_nothing_is_missing(tmp_path: Path) -> None:
    parts = one_model(tmp_path, *said("a ball", "None"))
    answer = parts.pipeline.answer(IMAGE, QUESTION, look_again=2)
    assert (answer.details, answer.extraction) == ((), "a ball")
    assert answer.usage["look_again"].generated_tokens == parts.tokens("None")


def test_it_is_looked_as_often_as_asked_for_at_most(tmp_path: Path) -> None:
    looks = ("a ball", "the table", "a table", "the wall", "a wall")
    answer = one_model(tmp_path, *said(*looks)).pipeline.answer(IMAGE, QUESTION, look_again=2)
    assert answer.details == ("the table", "the wall")
    assert answer.extraction == "a ball\na table\na wall"


def test_a_first_look_that_saw_nothing_leaves_no_empty_line(tmp_path: Path) -> None:
    parts = one_model(tmp_path, *said("", "the table", "a table", "none"))
    answer = parts.pipeline.answer(IMAGE, QUESTION, look_again=2)
    assert answer.extraction == "a table"


def test_the_same_is_not_looked_for_twice(tmp_path: Path) -> None:
    parts = one_model(tmp_path, *said("a ball", "the table", "a table", "the table"))
    answer = parts.pipeline.answer(IMAGE, QUESTION, look_again=5)
    assert answer.details == ("the table",)


def test_where_nothing_is_seen_it_ends(tmp_path: Path) -> None:
    plain = one_model(tmp_path / "a", *said("a ball")).pipeline.answer(IMAGE, QUESTION)
    parts = one_model(tmp_path / "b", *said("a ball", "the table", ""))
    answer = parts.pipeline.answer(IMAGE, QUESTION, look_again=5)
    assert (answer.details, answer.extraction) == ((), "a ball")
    spent, before = answer.usage["extract"], plain.usage["extract"]
    looked = parts.tokens("the table") + parts.tokens("assistant\n")
    assert spent.evaluated_tokens >= before.evaluated_tokens + looked
    assert answer.extractions[0].usage == spent


def test_a_stream_tells_all_that_is_seen(tmp_path: Path) -> None:
    parts = one_model(tmp_path, *said("a ball", "the table", "a table", "none"))
    *events, answer = parts.pipeline.stream(IMAGE, QUESTION, look_again=2)
    told = "".join(event.text for event in events if isinstance(event, ExtractionToken))
    assert isinstance(answer, Answer)
    assert told == answer.extraction == "a ball\na table"


def test_a_reasoner_of_its_own_is_told_the_extraction(tmp_path: Path) -> None:
    asked = replace(SPEC, prompt="{question} {extraction}")
    parts = Parts(
        tmp_path,
        perceiver=said("a ball", "a table"),
        reasoner=(*said("the table", "none"), *ANSWER),
        extract={"prompt": HINTED},
        think={"look_again": asked, "thoughts": THOUGHTS},
    )
    answer = parts.pipeline.answer(IMAGE, QUESTION, look_again=2, thinking=False)
    assert (answer.extraction, answer.text) == ("a ball\na table", "red")
    first, second, thinking, _ = parts.reasoner.prompts
    assert f"{QUESTION} a ball{ENDS}" in first
    assert first.endswith("<think>\n\n</think>\n\n")
    assert f"{QUESTION} a ball\na table{ENDS}" in second
    assert "a ball\na table" in thinking


def test_a_prompt_without_a_place_for_hints_is_asked_about_the_detail(tmp_path: Path) -> None:
    parts = one_model(
        tmp_path,
        *said("a ball", "the table", "a table", "none"),
        extract={"prompt": "{image} Look: {question}"},
    )
    parts.pipeline.answer(IMAGE, QUESTION, look_again=2)
    first, _, second, *_ = parts.perceiver.prompts
    assert f"Look: {QUESTION}{ENDS}" in first
    assert f"Look: the table{ENDS}" in second


def test_a_detail_is_text(tmp_path: Path) -> None:
    parts = one_model(tmp_path, *said("a ball", "a {hint} b", "a table", "none"))
    answer = parts.pipeline.answer(IMAGE, QUESTION, look_again=2)
    assert answer.details == ("a {hint} b",)
    assert f"attention to a {{hint}} b.{ENDS}" in parts.perceiver.prompts[2]


@pytest.mark.parametrize(("deadline_s", "details"), [(30.0, ()), (300.0, ("the table",))])
def test_it_is_not_looked_again_where_time_is_short(
    tmp_path: Path, deadline_s: float, details: tuple[str, ...]
) -> None:
    parts = one_model(tmp_path, *said("a ball", "the table", "a table", "none"))
    answer = parts.pipeline.answer(IMAGE, QUESTION, look_again=2, deadline_s=deadline_s)
    assert answer.details == details


@pytest.mark.parametrize("template", [HINTED, "Pay attention to {hint} in {image}."])
def test_time_is_kept_to_read_what_was_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, template: str
) -> None:
    monkeypatch.setattr("tiny.fake_calls.POSITION_S", 0.2)
    monkeypatch.setattr("tiny.fake_calls.TOKEN_S", 0.3)
    first, second = "a ball on the table", "a small dog at the top left of the table"
    looks = said(first, "the table", second, "the wall", first, "none")
    pictures = [IMAGE, IMAGE + 1, IMAGE + 2]
    found = set()
    for deadline_s in range(10, 110, 4):
        texts = (*said("a ball"), *ANSWER, *looks)
        parts = one_model(tmp_path, *texts, extract={"prompt": template, "pictures": "together"})
        parts.pipeline.answer(pictures, QUESTION)  # its times are known from now on
        start = parts.clock.now_s
        answer = parts.pipeline.answer(
            pictures, QUESTION, look_again=2, max_extraction_tokens=12, deadline_s=deadline_s
        )
        assert parts.clock.now_s - start <= deadline_s + 0.3, deadline_s
        found.add(answer.details)
    assert found == {(), ("the table",), ("the table", "the wall")}


def test_a_prompt_without_a_place_for_a_detail_is_refused(tmp_path: Path) -> None:
    parts = one_model(tmp_path, *said("a ball"), extract={"prompt": "{image} Describe."})
    with pytest.raises(OptionError, match=r"look_again.*in its first prompt"):
        parts.pipeline.answer(IMAGE, QUESTION, look_again=1)


def test_several_pictures_that_are_apart_are_not_looked_at_again(tmp_path: Path) -> None:
    parts = one_model(tmp_path, *said("a ball", "a cat"))
    with pytest.raises(OptionError, match=r"look_again.*several pictures"):
        parts.pipeline.answer([IMAGE, IMAGE + 1], QUESTION, look_again=1)


def test_stage_2_alone_has_no_picture(tmp_path: Path) -> None:
    parts = one_model(tmp_path, *said("a ball"))
    with pytest.raises(OptionError, match=r"look_again.*stage 2 runs alone"):
        parts.pipeline.rethink(QUESTION, "a ball", look_again=1)
    extraction = parts.pipeline.extract(IMAGE, QUESTION)
    with pytest.raises(OptionError, match=r"look_again.*stage 2 runs alone"):
        parts.pipeline.think(QUESTION, extraction, look_again=1)


def test_room_for_all_looks_is_needed(tmp_path: Path) -> None:
    parts = one_model(tmp_path, *said("a ball"))
    with pytest.raises(PromptTooLongError, match="look_again"):
        parts.pipeline.answer(IMAGE, QUESTION, look_again=8, max_extraction_tokens=300)
    assert parts.perceiver.prompts == []


def test_confidence_sees_all_looks(tmp_path: Path) -> None:
    texts = said("a ball", "the table", "a red table", "none")
    answer = one_model(tmp_path, *texts).pipeline.answer(
        IMAGE, QUESTION, look_again=2, confidence="written"
    )
    assert answer.confidence is not None
    written = answer.usage["extract"].generated_tokens
    assert answer.confidence.stages["extract"].tokens == written + 2  # and what ended each look
