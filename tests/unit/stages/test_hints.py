from pathlib import Path

import pytest
from msgspec.structs import replace
from tiny.fakes import FakeClock, ForcedKVCache, new_chat_model, new_tokenizer
from tiny.thoughts import HINT, THOUGHTS

from edge_et.bundle import ExtractSpec, Sampling, ThinkSpec, ThoughtSpec
from edge_et.generation import Deadline
from edge_et.llm import Tokenizer
from edge_et.stages import Hint, ask_for_hint, drain, fit_hint


@pytest.fixture
def tokenizer(tmp_path: Path) -> Tokenizer:
    return new_tokenizer(tmp_path)


def ask(
    context: ForcedKVCache,
    tokenizer: Tokenizer,
    thoughts: ThoughtSpec | None = None,
    deadline: Deadline | None = None,
) -> Hint:
    spec = ThinkSpec(
        prompt="{question}",
        max_thinking_tokens=1,
        answer_marker="Answer:",
        max_answer_tokens=1,
        sampling=Sampling(),
        thoughts=thoughts,
    )
    deadline = deadline or Deadline()
    chat_model = new_chat_model(tokenizer, context)
    return drain(
        ask_for_hint(
            chat_model, HINT, spec, "Which?", deadline=deadline, should_stop=deadline.passed
        )
    )


@pytest.mark.parametrize(
    ("template", "hint", "fitted"),
    [
        ("{image} attention to {hint}.", "the red car.", "the red car"),
        ("{image} attention to {hint}.", "the red car", "the red car"),
        ("{image} attention to {hint}.", "cars...", "cars.."),
        ("{image} attention to {hint}.", "Which one?", "Which one?"),
        ("{image} attention to {hint}", "the red car.", "the red car."),
        ("{hint}: {image}.", "the red car.", "the red car."),
        ("{image} {question}.", "the red car.", ""),
    ],
)
def test_a_full_stop_is_not_doubled(template: str, hint: str, fitted: str) -> None:
    spec = ExtractSpec(prompt=template, max_extraction_tokens=9, sampling=Sampling())
    assert fit_hint(spec, hint) == fitted


def test_a_hint_is_what_is_written(tokenizer: Tokenizer) -> None:
    context = ForcedKVCache(tokenizer, " the ball\n<|im_end|>")
    hint = ask(context, tokenizer)
    assert (hint.text, hint.finish_reason) == ("the ball", "stop")
    assert context.prompts == [
        "<|im_start|>user\nWhat matters for this? Which?<|im_end|>\n<|im_start|>assistant\n"
    ]
    assert hint.usage is not None
    assert hint.usage.generated_tokens == len(tokenizer.encode(" the ball\n"))


@pytest.mark.parametrize("thoughts", [THOUGHTS, replace(THOUGHTS, start_suffix="\n")])
def test_a_reasoner_does_not_think_about_a_hint(
    tokenizer: Tokenizer, thoughts: ThoughtSpec
) -> None:
    context = ForcedKVCache(tokenizer, "<think>the ball<|im_end|>", endless=True)
    hint = ask(context, tokenizer, thoughts)
    assert context.prompts[0].endswith("assistant\n<think>\n\n</think>\n\n")
    assert "think" not in hint.text


def test_a_hint_ends_with_its_budget(tokenizer: Tokenizer) -> None:
    hint = ask(ForcedKVCache(tokenizer, "on the table and on"), tokenizer)
    assert hint.usage is not None
    assert hint.usage.generated_tokens == HINT.max_hint_tokens
    assert hint.finish_reason == "length"


@pytest.mark.parametrize("nothing", ["<|im_end|>", " \n<|im_end|>"])
def test_where_nothing_is_written_the_question_is_the_hint(
    tokenizer: Tokenizer, nothing: str
) -> None:
    assert ask(ForcedKVCache(tokenizer, nothing), tokenizer).text == "Which?"


def test_a_hint_is_cut_when_it_is_late(tokenizer: Tokenizer) -> None:
    clock = FakeClock()
    context = ForcedKVCache(tokenizer, "the ball on the", clock=clock, token_s=1.0)
    hint = ask(context, tokenizer, deadline=Deadline(1.5, clock))
    assert hint.finish_reason == "deadline"
    assert hint.text == tokenizer.decode(tokenizer.encode("the ball on the")[:3])
    slow = ForcedKVCache(tokenizer, "never", batch=16, clock=clock, position_s=1.0)
    assert ask(slow, tokenizer, deadline=Deadline(1.0, clock)).text == "Which?"
    assert slow.batches == [16]
