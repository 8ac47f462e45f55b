"""Calls with a history, through fakes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny.bundle import build_bundle
from tiny.fakes import FakeTower, ForcedKVCache, new_chat_model

from edge_et.errors import OptionError, PromptTooLongError
from edge_et.llm import Tokenizer
from edge_et.pipeline import ExtractThink
from edge_et.pipeline.models import Models

IMAGE = np.full((9, 9, 3), 40, np.uint8)
SAID, THOUGHT = ("a ball<|im_end|>",), ("It is red.\nAnswer:", " red<|im_end|>")
HISTORY = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hi <|im_end|>"},
    {"role": "assistant", "content": "Hello."},
]


class Parts:
    """A pipeline of one model or two over fakes, with the fakes at hand."""

    def __init__(self, folder: Path, *, pair: bool, context_length: int = 2000) -> None:
        manifest = build_bundle(folder, two_models=pair)
        tokenizer = Tokenizer(folder / "tokenizer.json")
        texts = (SAID * 3, THOUGHT * 3) if pair else ((SAID + THOUGHT) * 3, ())
        self.perceiver, self.reasoner = (
            ForcedKVCache(tokenizer, *each, context_length=context_length) for each in texts
        )
        self.pipeline = ExtractThink(
            manifest,
            tower=FakeTower(),
            contexts=[
                Models(
                    perceiver=new_chat_model(tokenizer, self.perceiver),
                    reasoner=new_chat_model(tokenizer, self.reasoner) if pair else None,
                )
            ],
        )


def test_a_reasoner_reads_the_history_and_the_perceiver_does_not(tmp_path: Path) -> None:
    parts = Parts(tmp_path, pair=True)
    answer = parts.pipeline.answer(IMAGE, "Which?", history=HISTORY)
    assert answer.text == "red"
    told = (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi <|im_end|><|im_end|>\n"
        "<|im_start|>assistant\nHello.<|im_end|>\n<|im_start|>user\nDescription: a ball\nWhich?"
    )
    assert parts.reasoner.prompts[0].startswith(told)
    assert "brief" not in "".join(parts.perceiver.prompts)


def test_one_model_reads_it_behind_the_extraction(tmp_path: Path) -> None:
    parts = Parts(tmp_path, pair=False)
    parts.pipeline.answer(IMAGE, "Which?", history=HISTORY)
    first, second, _ = parts.perceiver.prompts
    assert "brief" not in first
    assert second.startswith(first + "a ball<|im_end|>\n")
    assert "user\nBe brief.\n\nUser: Hi <|im_end|>\n\nAssistant: Hello.\n\nWhich?" in second


def test_no_history_is_as_none(tmp_path: Path) -> None:
    parts = Parts(tmp_path, pair=True)
    for history in (None, [], [{"role": "user", "content": " "}]):
        parts.pipeline.answer(IMAGE, "Which?", history=history)
    prompts = parts.reasoner.prompts
    assert prompts[:2] == prompts[2:4] == prompts[4:]


@pytest.mark.parametrize("pair", [False, True])
def test_a_history_that_does_not_fit_is_refused_before_anything_runs(
    tmp_path: Path, pair: bool
) -> None:
    parts = Parts(tmp_path, pair=pair, context_length=300)
    long = [{"role": "user", "content": "on the table " * 200}]
    with pytest.raises(PromptTooLongError, match="shorten the question and the history"):
        parts.pipeline.answer(IMAGE, "Which?", history=long)
    assert parts.perceiver.prompts == []
    assert parts.pipeline.answer(IMAGE, "Which?", history=HISTORY).text == "red"


@pytest.mark.parametrize(
    "history",
    [
        "Hi",
        [{"role": "tool", "content": "x"}],
        [{"role": "user"}],
        [{"role": "user", "content": None}],
        [{"role": "user", "content": "x", "images": []}],
        [{"role": "user", "content": "\ud800"}],
        [("user", "x")],
        {"role": "user", "content": "x"},
        [{"role": "user", "content": "x"}] * 1001,
        [{"role": "user", "content": "x" * 2**19}] * 3,
    ],
    ids=lambda value: repr(value)[:20],
)
def test_histories_that_are_none(tmp_path: Path, history: Any) -> None:
    parts = Parts(tmp_path, pair=False)
    for call in (parts.pipeline.answer, parts.pipeline.stream):
        with pytest.raises(OptionError) as caught:
            call(IMAGE, "Which?", history=history)
        assert caught.value.name == "history"


def test_the_baseline_has_no_place_for_it(tmp_path: Path) -> None:
    parts = Parts(tmp_path, pair=False)
    with pytest.raises(OptionError, match="history"):
        parts.pipeline.answer_directly(IMAGE, "Which?", history=HISTORY)
