"""Hints, marked thoughts and edited extractions over real llama.cpp."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace
from tiny.bundle import build_bundle
from tiny.fakes import cut_short
from tiny.thoughts import HINT, HINTED, THOUGHTS, change_bundle

import edge_et
from edge_et.errors import MemoryBudgetError, ModelFileError
from edge_et.results import Answer, AnswerToken, ExtractionToken, ReasoningToken

IMAGE = np.random.default_rng(1).integers(0, 256, (40, 50, 3), np.uint8)
OTHER = np.random.default_rng(2).integers(0, 256, (50, 40, 3), np.uint8)
QUESTIONS = ("What is on the table?", "How many balls? </think>", "naïve 日本")
HISTORY = [
    {"role": "system", "content": "Be brief. </think>"},
    {"role": "user", "content": "Which room is this?"},
    {"role": "assistant", "content": "A kitchen."},
]
DESCRIBED = "Description: {extraction}\n{question}"
EXTRACT: dict[str, Any] = {"prompt": HINTED, "hint": HINT, "max_extraction_tokens": 40}
THINK: dict[str, Any] = {
    "prompt": DESCRIBED,
    "thoughts": replace(THOUGHTS, default=True, blocked_words=("Wait", "alternatively")),
}


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[edge_et.ExtractThink]:
    """Two models."""
    folder = tmp_path_factory.mktemp("pair")
    build_bundle(folder, two_models=True, context_length=1024)
    change_bundle(folder, extract=EXTRACT, think=THINK)
    with edge_et.load(folder, threads=1) as pipeline:
        yield pipeline


@pytest.fixture(scope="module")
def apart(tmp_path_factory: pytest.TempPathFactory) -> Iterator[edge_et.ExtractThink]:
    """One model that sees the extraction alone in stage 2."""
    folder = tmp_path_factory.mktemp("apart")
    build_bundle(folder, adapter=True, context_length=1024)
    change_bundle(folder, extract=EXTRACT, think={**THINK, "sees": "extraction"})
    with edge_et.load(folder, threads=1) as pipeline:
        yield pipeline


@pytest.fixture(scope="module")
def joined(tmp_path_factory: pytest.TempPathFactory) -> Iterator[edge_et.ExtractThink]:
    """One model that goes on behind stage 1."""
    folder = tmp_path_factory.mktemp("joined")
    build_bundle(folder, context_length=1024)
    change_bundle(folder, extract=EXTRACT, think=THINK)
    with edge_et.load(folder, threads=1) as pipeline:
        yield pipeline


@pytest.fixture(params=["pair", "apart", "joined"])
def pipeline(request: pytest.FixtureRequest) -> edge_et.ExtractThink:
    pipeline: edge_et.ExtractThink = request.getfixturevalue(request.param)
    pipeline.clear()
    return pipeline


@pytest.fixture(params=["pair", "apart"])
def two_models(request: pytest.FixtureRequest) -> edge_et.ExtractThink:
    pipeline: edge_et.ExtractThink = request.getfixturevalue(request.param)
    pipeline.clear()
    return pipeline


def texts(answer: Answer) -> tuple[Any, ...]:
    return answer.hint, answer.extraction, answer.reasoning, answer.text, cut_short(answer)


def positions(usage: edge_et.results.PhaseUsage) -> int:
    return usage.evaluated_tokens + usage.reused_tokens


@pytest.mark.parametrize("question", QUESTIONS)
def test_in_one_call_and_stage_by_stage_the_same_tokens_are_written(
    two_models: edge_et.ExtractThink, question: str
) -> None:
    answer = two_models.answer(IMAGE, question)
    two_models.clear()
    extraction = two_models.extract(IMAGE, question)
    apart = two_models.think(question, extraction)
    assert (answer.extraction, answer.reasoning, answer.text) == (
        extraction.text,
        apart.reasoning,
        apart.answer,
    )
    assert answer.usage["think"].generated_tokens == len(apart.tokens)
    assert positions(answer.usage["think"]) == positions(apart.usage)


def test_a_history_changes_nothing_for_others(
    pipeline: edge_et.ExtractThink,
) -> None:
    plain = texts(pipeline.answer(IMAGE, QUESTIONS[0]))
    pipeline.clear()
    fresh = texts(pipeline.answer(IMAGE, QUESTIONS[0], history=HISTORY))
    assert fresh != plain  # random weights say something else after other text
    assert fresh[1] == plain[1]  # but of the picture the same
    extraction = pipeline.extract(IMAGE, QUESTIONS[0])
    thought = pipeline.think(QUESTIONS[0], extraction, history=HISTORY)
    assert (thought.reasoning, thought.answer) == fresh[2:4]
    assert texts(pipeline.answer(IMAGE, QUESTIONS[0])) == plain
    assert texts(pipeline.answer(IMAGE, QUESTIONS[0], history=HISTORY)) == fresh


def test_the_order_of_calls_changes_nothing(pipeline: edge_et.ExtractThink) -> None:
    fresh = {}
    for question in QUESTIONS:
        pipeline.clear()
        fresh[question] = texts(pipeline.answer(IMAGE, question))
    for question in (*QUESTIONS, *reversed(QUESTIONS)):
        assert texts(pipeline.answer(IMAGE, question)) == fresh[question]
        pipeline.answer(OTHER, question, thinking=False)
        pipeline.rethink(question, "something else")
        assert texts(pipeline.answer(IMAGE, question)) == fresh[question]


def test_the_stream_is_the_answer(pipeline: edge_et.ExtractThink) -> None:
    *events, last = pipeline.stream(IMAGE, QUESTIONS[0])
    assert isinstance(last, Answer)
    assert texts(last) == texts(pipeline.answer(IMAGE, QUESTIONS[0]))
    for kind, text in (
        (ExtractionToken, last.extraction),
        (ReasoningToken, last.reasoning),
        (AnswerToken, last.text),
    ):
        assert "".join(e.text for e in events if isinstance(e, kind)).strip() == text  # type: ignore[union-attr]


def test_the_picture_stays_in_the_cache_whatever_else_is_asked(
    pipeline: edge_et.ExtractThink,
) -> None:
    pipeline.answer(IMAGE, QUESTIONS[0])
    usage = pipeline.answer(IMAGE, QUESTIONS[1]).usage
    picture = len(pipeline._models.perceiver.tokenizer.encode("user\n")) + 1 + 16
    assert usage["extract"].reused_tokens >= picture - 8
    assert usage["hint"].reused_tokens >= 8


def test_stage_2_of_a_perceiver_that_sees_the_extraction_has_no_picture(
    apart: edge_et.ExtractThink,
) -> None:
    usage = apart.answer(IMAGE, QUESTIONS[0]).usage["think"]
    models = apart._models
    assert models.reasoner is not None
    assert models.reasoner.kv_cache is not models.perceiver.kv_cache
    held = models.reasoner.kv_cache._cached  # type: ignore[attr-defined]
    written = [position for position in held if isinstance(position, tuple)]
    assert {kind for kind, _ in written} == {"generated"}  # no row of an image
    assert positions(usage) < len(held)


def test_an_extraction_that_was_not_edited_is_answered_the_same(
    two_models: edge_et.ExtractThink,
) -> None:
    answer = two_models.answer(IMAGE, QUESTIONS[0])
    again = two_models.rethink(question=QUESTIONS[0], extraction=answer.extraction)
    assert (again.reasoning, again.text) == (answer.reasoning, answer.text)
    assert again.usage["vision"].evaluated_tokens == 0
    edited = two_models.rethink(question=QUESTIONS[0], extraction="two green cubes")
    assert edited.reasoning != answer.reasoning


@pytest.mark.parametrize("budget", [0, 1, 2, 5, 30])
def test_budgets_hold(pipeline: edge_et.ExtractThink, budget: int) -> None:
    for options in ({"temperature": 0.0}, {"temperature": 2.0, "seed": budget}):
        answer = pipeline.answer(
            IMAGE,
            QUESTIONS[0],
            max_thinking_tokens=budget,
            max_answer_tokens=4,
            **options,  # type: ignore[arg-type]
        )
        assert answer.text
        assert answer.usage["think"].generated_tokens <= budget + 4


def test_a_thought_at_its_budget_says_so(pipeline: edge_et.ExtractThink) -> None:
    answer = pipeline.answer(IMAGE, QUESTIONS[0])
    assert cut_short(answer)["think"] == "length"
    assert {"stage": "think", "reason": "tokens"} in answer.to_dict()["cuts"]


@pytest.mark.parametrize("deadline_s", [1e-9, 0.005, 0.02, 30.0])
def test_there_is_an_answer_whatever_the_deadline(
    pipeline: edge_et.ExtractThink, deadline_s: float
) -> None:
    answer = pipeline.answer(IMAGE, QUESTIONS[0], deadline_s=deadline_s)
    assert answer.text
    assert (cut_short(answer)["extract"] == "deadline") or deadline_s > 1e-9
    after = texts(pipeline.answer(IMAGE, QUESTIONS[0]))
    pipeline.clear()
    assert texts(pipeline.answer(IMAGE, QUESTIONS[0])) == after


def test_the_hint_of_a_question_is_always_the_same(pipeline: edge_et.ExtractThink) -> None:
    hints = {
        pipeline.answer(IMAGE, QUESTIONS[0], temperature=temperature, seed=seed).hint
        for temperature, seed in ((0.0, 0), (3.0, 1), (3.0, 2))
    }
    assert len(hints) == 1
    assert pipeline.answer(IMAGE, QUESTIONS[0], hint="the ball").hint == "the ball"


def test_caches_of_their_own_count_against_the_memory(tmp_path: Path) -> None:
    build_bundle(tmp_path, context_length=512)

    def needed_bytes(**changes: Any) -> int:
        change_bundle(tmp_path, **changes)
        with pytest.raises(MemoryBudgetError) as caught:
            edge_et.load(tmp_path, max_kv_bytes=1)
        return caught.value.needed_bytes

    one = needed_bytes()
    assert needed_bytes(think={"sees": "extraction"}) == 2 * one
    assert needed_bytes(extract={"hint": HINT}) == 2 * one  # no place for it, nobody is asked
    assert needed_bytes(extract={"prompt": HINTED, "hint": HINT}) == 3 * one


@pytest.mark.parametrize("mark", ["start", "end"])
def test_marks_that_the_tokenizer_lacks(tmp_path: Path, mark: str) -> None:
    build_bundle(tmp_path)
    thoughts = replace(THOUGHTS, **{mark: "<|thought|>"})
    change_bundle(tmp_path, think={"thoughts": thoughts})
    with pytest.raises(ModelFileError, match="it has no added token"):
        edge_et.load(tmp_path)


def test_further_looks_are_the_same_whatever_was_cached(pipeline: edge_et.ExtractThink) -> None:
    first = pipeline.answer(IMAGE, QUESTIONS[0], look_again=2)
    other = pipeline.answer(IMAGE, QUESTIONS[1])
    assert len(first.details) == 2
    assert first.extraction.count("\n") >= 2
    pipeline.clear()
    assert texts(pipeline.answer(IMAGE, QUESTIONS[1])) == texts(other)
    pipeline.answer(OTHER, QUESTIONS[2])
    again = pipeline.answer(IMAGE, QUESTIONS[0], look_again=2)
    assert (texts(again), again.details) == (texts(first), first.details)
