"""Whole calls through fakes: hints, thinking, deadlines, edited extractions."""

import dataclasses
import itertools
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace
from tiny.fake_calls import POSITION_S, TOKEN_S, Parts
from tiny.fakes import cut_short
from tiny.thoughts import HINT, HINTED, THOUGHTS

from edge_et.bundle import ExtractSpec, Sampling, ThinkSpec
from edge_et.errors import OptionError, PromptTooLongError
from edge_et.image import ImageTokens
from edge_et.options import parse_options
from edge_et.pipeline import Request
from edge_et.pipeline.model_pool import ModelPool
from edge_et.results import Answer, Progress

IMAGE = np.full((9, 9, 3), 40, np.uint8)
QUESTION = "Which colour?"
PHRASE = "a red ball and a blue cube on the table, "

ONE = ("a ball<|im_end|>", "It is red.\nAnswer:", " red<|im_end|>")
SAID, THOUGHT = ONE[:1], ONE[1:]


# Hints.


def test_the_question_is_the_hint(tmp_path: Path) -> None:
    parts = Parts(tmp_path, perceiver=ONE, extract={"prompt": HINTED})
    answer = parts.pipeline.answer(IMAGE, "The colour.")
    assert answer.hint == "The colour"
    assert "pay attention to The colour.<|im_end|>" in parts.perceiver.prompts[0]
    assert "hint" not in answer.usage


def test_the_caller_gives_the_hint(tmp_path: Path) -> None:
    parts = Parts(
        tmp_path, perceiver=ONE, hint_model=("never",), extract={"prompt": HINTED, "hint": HINT}
    )
    answer = parts.pipeline.answer(IMAGE, QUESTION, hint=" the red <|im_end|> car. ")
    assert answer.hint == "the red <|im_end|> car"
    assert "attention to the red <|im_end|> car.<|im_end|>" in parts.perceiver.prompts[0]
    assert parts.hint_model.prompts == []
    assert answer.to_dict()["hint"] == answer.hint


def test_the_reasoner_gives_the_hint(tmp_path: Path) -> None:
    parts = Parts(
        tmp_path,
        perceiver=SAID,
        reasoner=THOUGHT,
        hint_model=("the ball.<|im_end|>",),
        extract={"prompt": HINTED, "hint": HINT},
    )
    answer = parts.pipeline.answer(IMAGE, QUESTION)
    assert answer.hint == "the ball"
    assert "attention to the ball.<|im_end|>" in parts.perceiver.prompts[0]
    assert answer.usage["hint"].generated_tokens == parts.tokens("the ball.")
    assert set(answer.usage) == {"image", "vision", "hint", "extract", "think"}
    assert cut_short(answer) == {}


def test_asking_for_hints_leaves_the_picture_in_the_cache(tmp_path: Path) -> None:
    parts = Parts(
        tmp_path,
        perceiver=ONE * 2,
        hint_model=("the ball<|im_end|>", "the cat<|im_end|>"),
        extract={"prompt": HINTED, "hint": HINT},
    )
    parts.pipeline.answer(IMAGE, QUESTION)
    usage = parts.pipeline.answer(IMAGE, "Which animal?").usage
    picture = 1 + parts.tokens("user\n") + 16
    assert usage["extract"].reused_tokens >= picture
    assert usage["hint"].reused_tokens >= 8  # the words before the question stay as well


def test_a_hint_that_was_cut_is_told(tmp_path: Path) -> None:
    parts = Parts(
        tmp_path,
        perceiver=ONE,
        hint_model=("on the table and on and on",),
        extract={"prompt": HINTED, "hint": HINT},
    )
    assert cut_short(parts.pipeline.answer(IMAGE, QUESTION)) == {"hint": "length"}


@pytest.mark.parametrize("hint", ["", "  ", "\ud800", 5])
def test_hints_that_are_none(tmp_path: Path, hint: Any) -> None:
    parts = Parts(tmp_path, perceiver=ONE, extract={"prompt": HINTED})
    with pytest.raises(OptionError, match="hint"):
        parts.pipeline.answer(IMAGE, QUESTION, hint=hint)


def test_a_bundle_without_a_place_takes_no_hint(tmp_path: Path) -> None:
    parts = Parts(tmp_path, perceiver=ONE, hint_model=("never",), extract={"hint": HINT})
    with pytest.raises(OptionError, match="hint"):
        parts.pipeline.answer(IMAGE, QUESTION, hint="the car")
    assert parts.pipeline.answer(IMAGE, QUESTION).hint == ""
    assert parts.hint_model.prompts == []


def test_a_question_too_long_to_be_asked_about_is_refused(tmp_path: Path) -> None:
    parts = Parts(
        tmp_path, perceiver=ONE, hint_model=("x",), extract={"prompt": HINTED, "hint": HINT}
    )
    parts.hint_model.context_length = 60
    with pytest.raises(PromptTooLongError) as caught:
        parts.pipeline.answer(IMAGE, "why? " * 40)
    assert caught.value.limit == 60
    assert parts.perceiver.prompts == []
    assert parts.pipeline.answer(IMAGE, "why? " * 40, hint="the car").text == "red"


# Whether it thinks.


@pytest.mark.parametrize(
    ("default", "options", "thinks"),
    [
        (False, {}, False),
        (True, {}, True),
        (False, {"thinking": True}, True),
        (True, {"thinking": False}, False),
        (True, {"thinking": True, "max_thinking_tokens": 0}, False),
        (True, {"thinking": None}, True),
    ],
)
def test_the_call_says_whether_it_thinks_else_the_bundle(
    tmp_path: Path, default: bool, options: dict[str, Any], thinks: bool
) -> None:
    parts = Parts(
        tmp_path,
        perceiver=SAID,
        reasoner=("red",),
        endless=True,
        think={"thoughts": replace(THOUGHTS, default=default)},
    )
    parts.pipeline.answer(IMAGE, QUESTION, max_extraction_tokens=4, **options)
    assert ("Think: " in parts.reasoner.prompts[0]) == thinks
    skipped = "assistant\n<think>\n\n</think>\n\n" in parts.reasoner.prompts[0]
    assert skipped == (not thinks)


def test_thinking_has_a_budget_of_its_own(tmp_path: Path) -> None:
    parts = Parts(
        tmp_path,
        perceiver=SAID,
        reasoner=("on the table ",),
        endless=True,
        think={"thoughts": THOUGHTS, "max_thinking_tokens": 3, "max_answer_tokens": 2},
    )
    for options, budget in (({}, 3), ({"thinking": True}, 12), ({"max_thinking_tokens": 7}, 7)):
        usage = parts.pipeline.answer(IMAGE, QUESTION, **options).usage["think"]  # type: ignore[arg-type]
        assert usage.generated_tokens == budget + 2


def test_a_thought_has_sampling_of_its_own() -> None:
    plain, thoughtful = Sampling(temperature=0.7, top_p=0.8), Sampling(temperature=0.6, top_k=20)
    thoughts = replace(THOUGHTS, sampling=thoughtful)
    spec = replace(ThinkSpec(**THINK), sampling=plain, thoughts=thoughts)

    def chosen(**options: Any) -> Sampling:
        manifest = SimpleNamespace(extract=ExtractSpec(**EXTRACT), think=spec)
        return Request.of(QUESTION, parse_options(options), manifest).thinking.sampling  # type: ignore[arg-type]

    assert chosen() == plain
    assert chosen(thinking=True) == thoughtful
    assert chosen(thinking=True, max_thinking_tokens=0) == plain
    assert chosen(thinking=True, temperature=0.1) == replace(thoughtful, temperature=0.1)


def test_a_reasoner_that_marks_no_thoughts_cannot_be_told_to(tmp_path: Path) -> None:
    parts = Parts(tmp_path, perceiver=ONE)
    with pytest.raises(OptionError, match="thinking"):
        parts.pipeline.answer(IMAGE, QUESTION, thinking=True)
    assert parts.pipeline.answer(IMAGE, QUESTION, thinking=False).text == "red"


# Deadlines.

THINK: dict[str, Any] = {
    "prompt": "{question}",
    "max_thinking_tokens": 5,
    "answer_marker": "Answer:",
    "max_answer_tokens": 5,
    "sampling": Sampling(),
}
EXTRACT: dict[str, Any] = {
    "prompt": "{image}{question}",
    "max_extraction_tokens": 5,
    "sampling": Sampling(),
}
ENDLESS = " ".join(map(str, range(400)))


def slow(folder: Path, *, pair: bool, batch: int = 512) -> Parts:
    """Return parts that write as long as they may."""
    return Parts(
        folder,
        perceiver=(ENDLESS,),
        reasoner=(ENDLESS,) if pair else (),
        endless=True,
        batch=batch,
        extract={"max_extraction_tokens": 300},
        think={
            "thoughts": replace(THOUGHTS, default=True, max_thinking_tokens=300),
            "max_answer_tokens": 16,
        },
    )


def seconds_over(parts: Parts, deadline_s: float) -> tuple[Answer, float]:
    start = parts.clock.now_s
    answer = parts.pipeline.answer(IMAGE, QUESTION, deadline_s=deadline_s)
    return answer, parts.clock.now_s - start - deadline_s


@pytest.mark.parametrize("pair", [False, True])
@pytest.mark.parametrize("known", [False, True])
def test_a_deadline_is_kept_wherever_it_comes(tmp_path: Path, pair: bool, known: bool) -> None:
    """By one token and one batch at most, though nothing was measured before."""
    parts = slow(tmp_path, pair=pair, batch=128)
    if known:
        parts.pipeline.answer(IMAGE, QUESTION)
    for deadline_s in (1e-9, 0.3, 1.0, 3.0, 9.0, 20.0, 60.0, 130.0, 333.3):
        if not known:
            parts = slow(tmp_path / str(deadline_s), pair=pair, batch=128)
        answer, over = seconds_over(parts, deadline_s)
        assert answer.text
        assert over <= TOKEN_S + 128 * POSITION_S
        assert "deadline" in cut_short(answer).values()
        if known and deadline_s > 30:
            assert over <= TOKEN_S  # time for the answer was kept
            assert answer.usage["think"].generated_tokens >= 10


@pytest.mark.parametrize("pair", [False, True])
def test_in_a_hurry_nothing_is_thought(tmp_path: Path, pair: bool) -> None:
    parts = slow(tmp_path, pair=pair)
    answer, _ = seconds_over(parts, 40.0)
    assert [*answer.finish_reasons.items()][:2] == [("extract", "deadline"), ("think", "deadline")]
    assert answer.reasoning == ""
    assert answer.extraction
    prompt = (parts.reasoner if pair else parts.perceiver).prompts[-1]
    assert prompt.endswith("assistant\n<think>\n\n</think>\n\nAnswer:")
    assert "Think: " not in prompt


@pytest.mark.parametrize("pair", [False, True])
def test_a_thought_is_closed_at_the_deadline(tmp_path: Path, pair: bool) -> None:
    parts = slow(tmp_path, pair=pair)
    start = parts.clock.now_s
    answer = parts.pipeline.answer(IMAGE, QUESTION, deadline_s=120.0, max_extraction_tokens=20)
    assert [*answer.finish_reasons.items()][:2] == [("extract", "length"), ("think", "deadline")]
    assert answer.reasoning
    assert parts.clock.now_s - start <= 121.0


def test_a_picture_that_was_not_read_in_time_is_asked_about_in_part(tmp_path: Path) -> None:
    parts = slow(tmp_path, pair=False, batch=16)
    picture = ImageTokens(np.zeros((64, 32), np.float32), "picture")
    answer = parts.pipeline.answer(picture, QUESTION, deadline_s=0.3)
    assert answer.extraction == ""
    assert answer.text
    held = [position for position in parts.perceiver.cached if isinstance(position, tuple)]
    assert [row for digest, row in held if digest == "picture"] == list(range(16))
    assert "[image]Describe" in parts.perceiver.prompts[-1]
    whole = parts.pipeline.answer(picture, QUESTION, max_extraction_tokens=5)
    assert whole.usage["extract"].reused_tokens >= 1 + parts.tokens("user\n") + 16


def test_an_extraction_that_was_cut_is_thought_about_in_another_call(tmp_path: Path) -> None:
    parts = slow(tmp_path, pair=True)
    extraction = parts.pipeline.extract(IMAGE, QUESTION, deadline_s=60.0)
    assert cut_short(extraction) == {"extract": "deadline"}
    assert parts.pipeline.think(QUESTION, extraction, max_thinking_tokens=9).reasoning


def test_once_in_a_hurry_always_in_a_hurry(tmp_path: Path) -> None:
    """Though a new measurement may say that there is time again."""
    parts = slow(tmp_path, pair=True)
    needs = itertools.chain([0.0] * 20, [1e9], itertools.repeat(0.0))
    throughput = SimpleNamespace(
        position_s=1.0,
        token_s=0.0,
        seconds_for=lambda positions, tokens: next(needs),
        observe_prefill=lambda positions, seconds: None,
        observe_decode=lambda seconds: None,
    )
    models = parts.pipeline._models
    assert models.reasoner is not None
    models = dataclasses.replace(
        models, reasoner=dataclasses.replace(models.reasoner, throughput=throughput)
    )
    parts.pipeline._runner._pool = ModelPool([models])
    answer = parts.pipeline.answer(IMAGE, QUESTION, deadline_s=1000.0)
    assert [*answer.finish_reasons.items()][:2] == [("extract", "deadline"), ("think", "deadline")]


def test_a_deadline_counts_from_the_call(tmp_path: Path) -> None:
    parts = slow(tmp_path, pair=True)
    stream = parts.pipeline.stream(IMAGE, QUESTION, deadline_s=60.0)
    parts.clock.now_s += 61.0
    *_, answer = stream
    assert isinstance(answer, Answer)
    assert (answer.extraction, answer.reasoning) == ("", "")
    assert answer.text


def test_the_callers_time_between_events_counts(tmp_path: Path) -> None:
    parts = slow(tmp_path, pair=True)
    start = parts.clock.now_s
    for event in parts.pipeline.stream(IMAGE, QUESTION, deadline_s=100.0):
        if not isinstance(event, Progress):
            parts.clock.now_s += 5.0
    assert parts.clock.now_s - start <= 100.0 + 5.0 + 5.0 + TOKEN_S


def test_without_a_deadline_the_clock_says_nothing(tmp_path: Path) -> None:
    parts = slow(tmp_path, pair=True)
    answer = parts.pipeline.answer(IMAGE, QUESTION, max_extraction_tokens=9)
    assert [*cut_short(answer).values()] == ["length"] * 3


@pytest.mark.parametrize("seconds", [0, -1.0, float("nan"), float("inf"), "soon"])
def test_deadlines_that_are_none(tmp_path: Path, seconds: Any) -> None:
    with pytest.raises(OptionError, match="deadline_s"):
        Parts(tmp_path, perceiver=ONE).pipeline.answer(IMAGE, QUESTION, deadline_s=seconds)


def test_the_baseline_has_a_deadline_too(tmp_path: Path) -> None:
    parts = slow(tmp_path, pair=False)
    start = parts.clock.now_s
    answer = parts.pipeline.answer_directly(IMAGE, QUESTION, deadline_s=4.5)
    assert cut_short(answer) == {"answer": "deadline"}
    assert parts.clock.now_s - start <= 4.5 + TOKEN_S


# Edited extractions.


def test_stage_2_runs_alone_on_an_edited_extraction(tmp_path: Path) -> None:
    parts = Parts(tmp_path, perceiver=SAID, reasoner=THOUGHT * 2)
    parts.pipeline.answer(IMAGE, QUESTION)
    answer = parts.pipeline.rethink(question=QUESTION, extraction=" a green ball <|im_end|> ")
    assert (answer.extraction, answer.text) == ("a green ball <|im_end|>", "red")
    assert parts.reasoner.prompts[-2] == (
        "<|im_start|>user\nDescription: a green ball <|im_end|>\nWhich colour?"
        "<|im_end|>\n<|im_start|>assistant\n"
    )
    assert len(parts.perceiver.prompts) == 1
    assert set(answer.usage) == {"image", "vision", "extract", "think"}
    assert answer.usage["extract"].generated_tokens == 0
    json.dumps(answer.to_dict())


def test_a_perceiver_that_reasons_is_told_the_extraction_without_a_picture(
    tmp_path: Path,
) -> None:
    parts = Parts(tmp_path, perceiver=THOUGHT * 2, extract={"prompt": HINTED})
    answer = parts.pipeline.rethink(QUESTION, "a green ball")
    assert parts.perceiver.prompts[0] == (
        "<|im_start|>user\nDescribe. Especially, pay attention to Which colour?.<|im_end|>\n"
        "<|im_start|>assistant\na green ball<|im_end|>\n"
        "<|im_start|>user\nWhich colour?<|im_end|>\n<|im_start|>assistant\n"
    )
    assert (answer.text, answer.hint) == ("red", "Which colour?")
    assert parts.pipeline.rethink(QUESTION, "x", hint="the ball").hint == "the ball"


def test_an_extraction_may_be_empty_but_has_to_be_text(tmp_path: Path) -> None:
    parts = Parts(tmp_path, perceiver=SAID, reasoner=THOUGHT)
    for wrong in (None, 5, "\ud800"):
        with pytest.raises(OptionError, match="extraction"):
            parts.pipeline.rethink(QUESTION, wrong)  # type: ignore[arg-type]
    assert parts.pipeline.rethink(QUESTION, " ").extraction == ""


def test_an_edited_extraction_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    parts = Parts(tmp_path, perceiver=SAID, reasoner=THOUGHT)
    with pytest.raises(PromptTooLongError):
        parts.pipeline.rethink(QUESTION, "red " * 3000)
    assert parts.reasoner.prompts == []


# Streams.


def test_a_stream_left_anywhere_leaves_the_pipeline_usable(tmp_path: Path) -> None:
    changes = {
        "extract": {"prompt": HINTED, "hint": HINT},
        "think": {"thoughts": replace(THOUGHTS, default=True)},
    }
    texts = {"perceiver": (PHRASE,), "reasoner": (PHRASE,), "hint_model": (PHRASE,)}
    parts = Parts(tmp_path, endless=True, **texts, **changes)  # type: ignore[arg-type]
    *events, expected = parts.pipeline.stream(IMAGE, QUESTION)
    assert isinstance(expected, Answer)
    for count in range(0, len(events), 3):
        stream = parts.pipeline.stream(IMAGE, QUESTION)
        for _ in range(count):
            next(stream, None)  # the picture is known now, so there are fewer
        stream.close()
        answer = parts.pipeline.answer(IMAGE, QUESTION)
        assert (answer.text, answer.reasoning, answer.extraction, cut_short(answer)) == (
            expected.text,
            expected.reasoning,
            expected.extraction,
            cut_short(expected),
        )


def test_clearing_forgets_all_caches(tmp_path: Path) -> None:
    parts = Parts(
        tmp_path,
        perceiver=SAID,
        reasoner=THOUGHT,
        hint_model=("x<|im_end|>",),
        extract={"prompt": HINTED, "hint": HINT},
    )
    parts.pipeline.answer(IMAGE, QUESTION)
    parts.pipeline.clear()
    assert parts.perceiver.cached == parts.reasoner.cached == parts.hint_model.cached == []
