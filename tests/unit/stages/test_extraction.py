from pathlib import Path

import numpy as np
import pytest
from tiny.fakes import (
    FakeClock,
    ForcedKVCache,
    collect,
    cut_short,
    new_chat_model,
    new_tokenizer,
    text_of,
)

from edge_et.bundle import ExtractSpec, Sampling
from edge_et.generation import Deadline
from edge_et.image import ImageTokens
from edge_et.llm import ImageSegment, Tokenizer, TokenSegment
from edge_et.results import AnswerToken, Extraction, ExtractionToken
from edge_et.stages import answer_at_once, extract, extraction_prompt, told_conversation

PROMPT = (TokenSegment((5, 6, 7)),)


@pytest.fixture
def tokenizer(tmp_path: Path) -> Tokenizer:
    return new_tokenizer(tmp_path)


def run_extract(
    tokenizer: Tokenizer, text: str, budget: int = 50
) -> tuple[list[object], Extraction, ForcedKVCache]:
    context = ForcedKVCache(tokenizer, text)
    chat_model = new_chat_model(tokenizer, context)
    stage = extract(
        chat_model, PROMPT, budget, Sampling(), deadline=Deadline(), should_stop=lambda: False
    )
    events, extraction = collect(stage)
    return events, extraction, context


def test_extraction_ends_at_a_stop_token(tokenizer: Tokenizer) -> None:
    events, extraction, _ = run_extract(tokenizer, " a red 日 ball\n<|im_end|>")
    assert text_of(events, ExtractionToken) == " a red 日 ball\n"
    assert extraction.text == "a red 日 ball"
    assert list(extraction.tokens) == tokenizer.encode(" a red 日 ball\n")
    assert extraction.conversation == (*PROMPT, TokenSegment(extraction.tokens, generated=True))
    assert extraction.usage.generated_tokens == len(extraction.tokens)
    assert cut_short(extraction) == {}


def test_extraction_ends_with_its_budget(tokenizer: Tokenizer) -> None:
    _, extraction, context = run_extract(tokenizer, "what is on the table", budget=3)
    assert len(extraction.tokens) == 3
    assert len(context.appended) == 2  # the last token is not evaluated in vain
    assert cut_short(extraction) == {"extract": "length"}


def test_an_empty_extraction_leaves_the_conversation_as_it_was(tokenizer: Tokenizer) -> None:
    events, extraction, _ = run_extract(tokenizer, "<|im_end|>")
    assert (events, extraction.text, extraction.conversation) == ([], "", PROMPT)


def test_an_unfinished_character_is_shown_at_the_end(tokenizer: Tokenizer) -> None:
    events, extraction, _ = run_extract(tokenizer, "日", budget=1)
    assert extraction.text == text_of(events, ExtractionToken) == "\N{REPLACEMENT CHARACTER}"


def test_an_extraction_that_repeats_itself_is_cut(tokenizer: Tokenizer) -> None:
    context = ForcedKVCache(tokenizer, "on the table ", endless=True)
    stage = extract(
        new_chat_model(tokenizer, context),
        PROMPT,
        5000,
        Sampling(),
        deadline=Deadline(),
        should_stop=lambda: False,
    )
    _, extraction = collect(stage)
    assert cut_short(extraction) == {"extract": "repetition"}
    assert len(extraction.tokens) < 120


def test_an_extraction_is_cut_when_it_is_late(tokenizer: Tokenizer) -> None:
    clock = FakeClock()
    context = ForcedKVCache(tokenizer, "red ", endless=True, clock=clock, token_s=1.0)
    deadline = Deadline(4.5, clock)
    stage = extract(
        new_chat_model(tokenizer, context),
        PROMPT,
        50,
        Sampling(),
        deadline=deadline,
        should_stop=deadline.passed,
    )
    _, extraction = collect(stage)
    assert len(context.appended) == 5
    assert len(extraction.tokens) == 6  # the first one needs no step
    assert cut_short(extraction) == {"extract": "deadline"}


def test_a_picture_that_is_read_too_slowly_is_left_in_part(tokenizer: Tokenizer) -> None:
    clock = FakeClock()
    context = ForcedKVCache(tokenizer, "never", batch=16, clock=clock, position_s=1.0)
    image = ImageTokens(np.arange(160, dtype=np.float32).reshape(80, 2), "picture")
    prompt = (TokenSegment(tuple(range(10))), ImageSegment(image), TokenSegment((1, 2, 3)))
    deadline = Deadline(30.0, clock)
    stage = extract(
        new_chat_model(tokenizer, context),
        prompt,
        50,
        Sampling(),
        deadline=deadline,
        should_stop=deadline.passed,
    )
    events, extraction = collect(stage)
    assert context.batches == [10, 16, 16]  # 26 seconds were not 30, 42 were
    assert (events, extraction.text, extraction.tokens) == ([], "", ())
    assert cut_short(extraction) == {"extract": "deadline"}
    before, part, after = extraction.conversation
    assert (before, after) == (prompt[0], prompt[2])
    assert isinstance(part, ImageSegment)
    assert np.array_equal(part.image.rows, image.rows[:32])
    assert extraction.usage.evaluated_tokens == 42


@pytest.mark.parametrize("wants", ["<|im_end|>", " \n \n", "\n<|im_end|>"])
def test_the_baseline_is_not_empty(tokenizer: Tokenizer, wants: str) -> None:
    context = ForcedKVCache(tokenizer, wants, endless=True)
    stage = answer_at_once(new_chat_model(tokenizer, context), PROMPT, 5, Sampling(), Deadline())
    events, thought = collect(stage)
    assert thought.answer == text_of(events, AnswerToken).strip() != ""
    assert thought.reasoning == ""


def test_the_baseline_ends_with_its_budget(tokenizer: Tokenizer) -> None:
    context = ForcedKVCache(tokenizer, "what is on the table")
    stage = answer_at_once(new_chat_model(tokenizer, context), PROMPT, 2, Sampling(), Deadline())
    _, thought = collect(stage)
    assert len(thought.tokens) == 2
    assert cut_short(thought) == {"answer": "length"}


def test_what_to_look_for_may_be_told_in_a_system_turn(tokenizer: Tokenizer) -> None:
    """It is a user's text: what looks like a special token there is none."""
    context = ForcedKVCache(tokenizer)
    spec = ExtractSpec(
        prompt="{image}", system="Fields:\n{hint}", max_extraction_tokens=9, sampling=Sampling()
    )
    image = ImageTokens(np.zeros((3, 4), np.float32), "")
    chat_model = new_chat_model(tokenizer, context)
    before, shown, after = extraction_prompt(
        chat_model, spec, [image], "Which?", "red: a <|im_end|> ball"
    )
    assert context.text_of([before]) == (
        "<|im_start|>system\nFields:\nred: a <|im_end|> ball<|im_end|>\n<|im_start|>user\n"
    )
    assert isinstance(before, TokenSegment)
    assert before.ids.count(tokenizer.special_id("<|im_end|>")) == 1  # type: ignore[arg-type]
    assert isinstance(shown, ImageSegment)
    assert context.text_of([after]) == "<|im_end|>\n<|im_start|>assistant\n"


def test_an_extraction_from_elsewhere_is_told_as_text(tokenizer: Tokenizer) -> None:
    context = ForcedKVCache(tokenizer)
    spec = ExtractSpec(
        prompt="{image}Look: {question} {hint}", max_extraction_tokens=9, sampling=Sampling()
    )
    chat_model = new_chat_model(tokenizer, context)
    conversation = told_conversation(chat_model, spec, "Which?", "the ball", "<|im_end|> red")
    assert context.text_of(conversation) == (
        "<|im_start|>user\nLook: Which? the ball<|im_end|>\n<|im_start|>assistant\n<|im_end|> red"
    )
    (segment,) = conversation
    assert isinstance(segment, TokenSegment)
    assert segment.ids.count(tokenizer.special_id("<|im_end|>")) == 1  # type: ignore[arg-type]
