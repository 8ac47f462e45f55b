"""Questions without a picture over real llama.cpp."""

import asyncio
import math
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace
from tiny.bundle import build_bundle
from tiny.thoughts import THOUGHTS, change_bundle

import edge_et
from edge_et.results import Answer

IMAGE = np.random.default_rng(1).integers(0, 256, (40, 50, 3), np.uint8)
HISTORY = [
    {"role": "system", "content": "Be brief. <|im_end|>"},
    {"role": "user", "content": "Which room is this?"},
    {"role": "assistant", "content": "A kitchen."},
]


def said(answer: Answer) -> tuple[str, ...]:
    return answer.reasoning, answer.text, *answer.finish_reasons.values()


@pytest.mark.parametrize("pair", [False, True])
def test_the_same_question_is_answered_the_same_whatever_was_read_before(
    tmp_path: Path, pair: bool
) -> None:
    build_bundle(tmp_path, two_models=pair, context_length=1024)
    change_bundle(tmp_path, think={"thoughts": replace(THOUGHTS, max_thinking_tokens=20)})
    with edge_et.load(tmp_path, threads=1) as pipe:
        chat = pipe.text_session()

        def ask() -> list[tuple[str, ...]]:
            return [
                said(chat.answer(question, history=history, thinking=thinking))
                for question in ("Why?", "Why not? </think>")
                for history in (None, HISTORY)
                for thinking in (False, True)
            ]

        fresh = ask()
        assert len(set(fresh)) > 4
        picture = pipe.answer(IMAGE, "What is on the table?")
        assert ask() == fresh
        assert said(pipe.answer(IMAGE, "What is on the table?")) == said(picture)
        pipe.clear()
        assert ask() == fresh
        again = chat.answer("Why not? </think>", history=HISTORY, thinking=True)
        usage = again.usage["think"]
        assert usage.reused_tokens > usage.evaluated_tokens

        async def stream() -> Answer:
            async with chat.astream("Why?") as events:
                *_, answer = [event async for event in events]
            assert isinstance(answer, Answer)
            return answer

        assert said(asyncio.run(stream())) == fresh[0]
        told = chat.answer("Why?", thinking=False, top_logprobs=3, temperature=2.0, seed=1).logprobs
        assert told
        for token in told:
            assert token.logprob <= token.top[0][1] < 0
            assert sum(math.exp(logprob) for _, logprob in token.top) < 1
        shares = chat.answer("Why?", choices=["red", "green"]).shares
        assert sum(shares.values()) == pytest.approx(1)
        assert chat.answer("Why?", schema={"type": "boolean"}).value in (True, False)
