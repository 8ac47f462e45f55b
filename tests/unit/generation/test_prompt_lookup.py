from pathlib import Path

import numpy as np
import pytest
from tiny.fakes import FakeClock, ForcedKVCache, new_chat_model, new_tokenizer

from edge_et.generation import MAX_DRAFT_TOKENS, Deadline, Generation, PromptLookup, greedy
from edge_et.generation.prompt_lookup import BatchTimes, Chances, Passages
from edge_et.llm import Tokenizer, TokenSegment
from edge_et.stages import drain

QUOTED = " a small red cup stands on the table beside a blue plate"


@pytest.fixture
def tokenizer(tmp_path: Path) -> Tokenizer:
    return new_tokenizer(tmp_path)


def reader(*texts: list[int]) -> Passages:
    passages = Passages()
    for text in texts:
        passages.begin(text)
    return passages


def test_the_longest_agreement_is_found() -> None:
    passages = reader([1, 2, 3, 4, 5], [9, 3, 7], [2, 3])
    assert passages.match() == (3, 2)
    assert passages.at(3, 10) == [4, 5]
    passages.push(4)
    assert passages.match() == (4, 3)
    passages.push(8)
    assert passages.match() == (0, 0)


def test_of_equal_agreements_the_last_counts() -> None:
    passages = reader([1, 2, 5, 1, 2, 6, 1, 2])
    assert passages.at(passages.match()[0], 1) == [6]


def test_an_agreement_ends_where_its_text_began() -> None:
    assert reader([7, 1, 2, 3, 4], [1, 2, 3]).match() == (4, 3)
    assert reader([1], [2]).match() == (0, 0)
    assert Passages().match() == (0, 0)


def test_a_text_that_goes_on_is_not_read_twice() -> None:
    passages = reader([1, 2, 3])
    passages.push(4)
    passages.begin([1, 2, 3, 4, 5, 6])
    assert passages.match() == (0, 0)
    assert passages.at(0, 10) == [1, 2, 3, 4, 5, 6]


def test_memory_is_bounded_and_the_newest_text_is_kept() -> None:
    random = np.random.default_rng(0)
    passages = Passages()
    for _ in range(40):
        passages.begin(random.integers(0, 50_000, 500).tolist())
    passages.begin([1, 2, 3, 4])
    passages.begin([2, 3])
    assert passages.at(passages.match()[0], 5) == [4]
    assert len(passages._text) < 9000
    assert len(passages._behind) < 3 * 9000


def test_chances_are_learnt_and_change() -> None:
    chances = Chances()
    assert chances.of(1) < chances.of(2) < chances.of(16) == chances.of(100)
    for _ in range(200):
        chances.learn(2, True)
    assert chances.of(2) > 0.95
    for _ in range(100):
        chances.learn(2, False)
    assert chances.of(2) < 0.35


def test_times_count_in_single_steps() -> None:
    times = BatchTimes()
    assert times.of(4) == float("inf")
    times.learn(1, 0.01)
    assert times.of(4) == 1.75
    for _ in range(2):
        times.learn(4, 0.05)
    assert times.of(4) == 1.75  # may have been a hiccup
    for seconds in (0.05, 9.0):
        times.learn(4, seconds)
    assert times.of(4) == pytest.approx(5.0)


def run(
    tokenizer: Tokenizer,
    text: str,
    draft_s: float,
    budget: int = 500,
    prompt: str = QUOTED,
    repeats: int = 1,
) -> tuple[list[int], ForcedKVCache, float]:
    """Write a text behind a prompt a few times; the last time counts."""
    clock = FakeClock()
    context = ForcedKVCache(
        tokenizer, *[text] * repeats, clock=clock, token_s=0.01, draft_s=draft_s
    )
    chat_model = new_chat_model(tokenizer, context, PromptLookup())
    for _ in range(repeats):
        generation = Generation(
            chat_model, (TokenSegment(tuple(tokenizer.encode(prompt))),), Deadline(None, clock)
        )
        drain(generation.prefill())
        start = clock.now_s
        context.drafts.clear()
        context.appended.clear()
        tokens = list(generation.generate(greedy, budget, lambda: False))
    return tokens, context, clock.now_s - start


def test_a_quoted_text_takes_few_steps(tokenizer: Tokenizer) -> None:
    tokens, context, _ = run(tokenizer, f"I see{QUOTED}<|im_end|>", 0.001)
    assert tokenizer.decode(tokens) == f"I see{QUOTED}"
    assert context.appended == tokens
    assert len(context.drafts) < len(tokens) / 2
    assert max(context.drafts) > 1


def test_dear_batches_are_tried_a_few_times_and_given_up(tokenizer: Tokenizer) -> None:
    tokens, context, seconds = run(tokenizer, f"I see{QUOTED}<|im_end|>", 0.02, repeats=12)
    assert tokenizer.decode(tokens) == f"I see{QUOTED}"
    assert set(context.drafts) == {0}
    assert seconds == pytest.approx(0.01 * len(tokens))


def test_text_that_was_nowhere_before_is_not_drafted(tokenizer: Tokenizer) -> None:
    text = "".join(chr(code) for code in range(ord("A"), ord("Z")))
    _, context, _ = run(tokenizer, f"{text}<|im_end|>", 0.001, prompt="0 1 2")
    assert set(context.drafts) == {0}


@pytest.mark.parametrize("budget", [1, 2, 5, 9])
def test_no_more_is_guessed_than_may_be_written(tokenizer: Tokenizer, budget: int) -> None:
    tokens, context, _ = run(tokenizer, QUOTED, 0.0, budget, prompt=f"{QUOTED}.{QUOTED}?")
    assert len(tokens) == budget
    assert sum(1 + drafted for drafted in context.drafts) <= budget
    assert context.appended == tokens[:-1]


def test_who_stops_amid_a_guess_leaves_what_was_taken(tokenizer: Tokenizer) -> None:
    context = ForcedKVCache(tokenizer, QUOTED, "!<|im_end|>", token_s=0.01, draft_s=0.0)
    chat_model = new_chat_model(tokenizer, context, PromptLookup())
    generation = Generation(
        chat_model, (TokenSegment(tuple(tokenizer.encode(QUOTED))),), Deadline()
    )
    drain(generation.prefill())
    taken = []
    for token in generation.generate(greedy, 50, lambda: False):
        taken.append(token)
        if len(taken) == 8:
            break
    assert context._drafted
    assert generation.tokens == taken
    drain(generation.prefill())
    assert generation.held == len(tokenizer.encode(QUOTED)) + 8
    assert len(context.cached) == generation.held
    assert tokenizer.decode(list(generation.generate(greedy, 50, lambda: False))) == "!"


def test_time_is_asked_for_before_each_guessed_token(tokenizer: Tokenizer) -> None:
    context = ForcedKVCache(tokenizer, QUOTED, draft_s=0.0)
    chat_model = new_chat_model(tokenizer, context, PromptLookup())
    generation = Generation(
        chat_model, (TokenSegment(tuple(tokenizer.encode(QUOTED))),), Deadline()
    )
    drain(generation.prefill())
    asked = iter(range(100))
    assert len(list(generation.generate(greedy, 50, lambda: next(asked) == 7))) == 7
    assert generation.finish_reason == "deadline"


def test_what_was_forgotten_is_not_drafted(tokenizer: Tokenizer) -> None:
    lookup = PromptLookup()
    lookup.observe_batch(1, 0.01)
    text = tuple(range(20))
    lookup.begin([TokenSegment(text)])
    lookup.begin([TokenSegment(text[:3])])
    assert lookup.draft(100) == list(range(3, 3 + MAX_DRAFT_TOKENS))[: len(lookup.draft(100))] != []
    lookup.clear()
    lookup.begin([TokenSegment(text[:3])])
    assert lookup.draft(100) == []
