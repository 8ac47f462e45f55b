"""How sure answers are, over real llama.cpp: the control is what a brute force computes, and leaves
no trace."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edge_et
from edge_et.llm import LlamaKVCache, Segment
from edge_et.results import Answer, Confidence

IMAGES = [
    np.random.default_rng(seed).integers(0, 256, (40 + 10 * seed, 60, 3), np.uint8)
    for seed in range(2)
]
QUESTION, OTHER_QUESTION = "What is this?", "What is at the top left?"
QUIET = {"threads": 1, "use_profile": False}
IMAGE_TOKENS = 16


@pytest.fixture(params=["tiny_bundle", "tiny_pair"])
def pipe(request: pytest.FixtureRequest) -> Iterator[edge_et.ExtractThink]:
    with edge_et.load(request.getfixturevalue(request.param), **QUIET) as pipe:
        yield pipe


@pytest.fixture
def single(tiny_bundle: Path) -> Iterator[edge_et.ExtractThink]:
    with edge_et.load(tiny_bundle, **QUIET) as pipe:
        yield pipe


def texts(answer: Answer) -> tuple[str, str, str]:
    return answer.extraction, answer.reasoning, answer.text


def sure(answer: Answer) -> Confidence:
    assert answer.confidence is not None
    return answer.confidence


def read_prompts(pipe: edge_et.ExtractThink) -> list[Sequence[Segment]]:
    """Note from now on what stage 2 is made to read."""
    cache: Any = pipe._models.thinking_model.kv_cache
    prompts: list[Sequence[Segment]] = []
    prefill_steps = cache.prefill_steps

    def watch(segments: Sequence[Segment]) -> Any:
        prompts.append(segments)
        return prefill_steps(segments)

    cache.prefill_steps = watch
    return prompts


def probability(
    pipe: edge_et.ExtractThink, prompt: Sequence[Segment], tokens: Sequence[int]
) -> float:
    """Read a prompt from the beginning, then tokens one by one, and the end of the answer."""
    model = pipe._models.thinking_model
    cache = model.kv_cache
    assert isinstance(cache, LlamaKVCache)
    cache.clear()
    cache.prefill(prompt)
    logprob = 0.0
    for token in tokens:
        logits = cache.logits.astype(np.float64)
        logprob += logits[token] - math.log(np.exp(logits - logits.max()).sum()) - logits.max()
        cache.decode(token)
    return math.exp(logprob)


def test_the_control_is_what_a_brute_force_computes(pipe: edge_et.ExtractThink) -> None:
    prompts = read_prompts(pipe)
    extraction = pipe.extract(IMAGES[0], QUESTION, confidence="written")
    thought = pipe.think(QUESTION, extraction, confidence="control", max_answer_tokens=4)
    found = thought.confidence
    assert found is not None
    assert found.control is not None
    assert thought.finish_reasons["answer"] == "length"  # so the end is none of the tokens
    tokens = thought.tokens[-thought.usage.answer_tokens :]
    *_, answered, control = prompts
    assert probability(pipe, control, tokens) == pytest.approx(found.control, rel=1e-4)
    assert probability(pipe, answered, tokens) == pytest.approx(found.answering, rel=1e-4)
    assert found.control != pytest.approx(found.answering, rel=1e-3)


def test_a_control_changes_no_word_and_no_bit_of_what_is_asked_next(
    pipe: edge_et.ExtractThink,
) -> None:
    plain = [pipe.answer(IMAGES[0], asked) for asked in (QUESTION, OTHER_QUESTION, QUESTION)]
    pipe.clear()
    asked = (QUESTION, OTHER_QUESTION, QUESTION)
    found = [pipe.answer(IMAGES[0], each, confidence="control") for each in asked]
    assert [texts(answer) for answer in found] == [texts(answer) for answer in plain]
    assert sure(found[0]).stages == sure(found[2]).stages
    assert sure(found[0]).control == sure(found[2]).control
    for answer in found[1:]:
        assert answer.usage["extract"].reused_tokens >= IMAGE_TOKENS
        assert answer.usage["vision"].evaluated_tokens == 0


def test_without_memory_for_copies_the_picture_is_read_again(tiny_bundle: Path) -> None:
    with edge_et.load(tiny_bundle, **QUIET, image_kv_bytes=0) as pipe:
        first = pipe.answer(IMAGES[0], QUESTION, confidence="control")
        second = pipe.answer(IMAGES[0], QUESTION, confidence="control")
    assert second.usage["extract"].reused_tokens < IMAGE_TOKENS
    assert texts(first) == texts(second)
    assert sure(first).control == sure(second).control


def test_several_pictures_come_back_behind_a_control(pipe: edge_et.ExtractThink) -> None:
    plain = pipe.answer(IMAGES, QUESTION)
    pipe.clear()
    first = pipe.answer(IMAGES, QUESTION, confidence="control")
    second = pipe.answer(IMAGES, QUESTION, confidence="control")
    assert texts(first) == texts(second) == texts(plain)
    assert all(one.usage.reused_tokens >= IMAGE_TOKENS for one in second.extractions)
    written = [one.usage.generated_tokens for one in first.extractions]
    assert sum(written) <= sure(first).stages["extract"].tokens <= sum(written) + len(IMAGES)
    assert sure(first).control == sure(second).control


@pytest.mark.parametrize(
    "form",
    [
        {"choices": ("a cat", "a dog", "red")},
        {"kind": "yes/no"},
        {"kind": "number"},
        {"schema": {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}},
        {"schema": {"type": "string", "maxLength": 12}},
        {"stop": ["e"]},
        {"temperature": 1.5, "seed": 3},
    ],
    ids=str,
)
def test_every_form_has_a_control(pipe: edge_et.ExtractThink, form: dict[str, Any]) -> None:
    plain = pipe.answer(IMAGES[0], QUESTION, **form)
    answer = pipe.answer(IMAGES[0], QUESTION, confidence="control", **form)
    found = sure(answer)
    assert texts(answer) == texts(plain)
    assert found.control is not None
    assert 0 <= found.control <= 1
    assert 0 < found.answer < found.answering <= 1
    assert found.doubt in ("seeing", "thinking")
    if shares := answer.shares:
        assert found.answering == max(shares.values())
        assert found.control != found.answering


def test_one_stage_and_text_alone(single: edge_et.ExtractThink) -> None:
    plain = single.answer_directly(IMAGES[0], QUESTION)
    answer = single.answer_directly(IMAGES[0], QUESTION, confidence="control")
    again = single.answer_directly(IMAGES[0], QUESTION, confidence="control")
    assert answer.text == again.text == plain.text
    assert sure(answer).control is not None
    assert again.usage["think"].reused_tokens >= IMAGE_TOKENS
    spoken = single.text_session().answer(QUESTION, confidence="control")
    assert (sure(spoken).control, sure(spoken).seeing) == (None, None)
    assert 0 < sure(spoken).answer <= 1


def test_an_answer_that_had_no_time_tells_what_there_was(single: edge_et.ExtractThink) -> None:
    single.answer(IMAGES[0], QUESTION)  # its times are known from now on
    answer = single.answer(IMAGES[0], OTHER_QUESTION, confidence="control", deadline_s=1e-6)
    found = sure(answer)
    assert answer.finish_reasons["extract"] == "deadline"
    assert (found.seeing, found.thinking, found.control) == (None, None, None)
    assert found.answer > 0
