from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tiny.fakes import FakeClock, ForcedKVCache, new_chat_model, new_tokenizer

from edge_et.generation import Deadline, Generation, greedy
from edge_et.image import ImageTokens
from edge_et.llm import ImageSegment, Plain, Tokenizer, TokenSegment, Trusted
from edge_et.results import PhaseUsage
from edge_et.stages import drain

PROMPT = (TokenSegment(tuple(range(20, 60))),)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return new_tokenizer(tmp_path_factory.mktemp("tokenizer"))


class Begun:
    """A generation over a fake, with the fake at hand."""

    def __init__(self, tokenizer: Tokenizer, *texts: str, **options: Any) -> None:
        self.clock = FakeClock()
        self.cache = ForcedKVCache(tokenizer, *texts, clock=self.clock, **options)
        self.model = new_chat_model(tokenizer, self.cache)
        self.generation = Generation(self.model, PROMPT, Deadline(clock=self.clock))

    def write(self, budget: int, should_stop: Callable[[], bool] = lambda: False) -> list[int]:
        return list(self.generation.generate(greedy, budget, should_stop))


def after(count: int) -> Callable[[], bool]:
    """Return what says no so often, and yes from then on."""
    answers = iter([False] * count)
    return lambda: next(answers, True)


# Reading.


def test_a_prompt_is_read_whole_unless_somebody_stops_it(tokenizer: Tokenizer) -> None:
    begun = Begun(tokenizer, "a", batch=16)
    assert drain(begun.generation.prefill())
    assert begun.cache.batches == [16, 16, 8]
    assert begun.generation.held == 40
    assert begun.generation.usage == PhaseUsage(evaluated_tokens=40)


@pytest.mark.parametrize("count", [0, 1, 2])
def test_a_prefill_stops_between_batches(tokenizer: Tokenizer, count: int) -> None:
    begun = Begun(tokenizer, "a", batch=16)
    assert not drain(begun.generation.prefill(after(count)))
    assert begun.cache.batches == [16] * count
    assert begun.generation.held == begun.generation.usage.evaluated_tokens == 16 * count


def test_nobody_is_asked_when_all_is_read(tokenizer: Tokenizer) -> None:
    begun = Begun(tokenizer, "a", batch=16)
    held: list[int] = []

    def should_stop() -> bool:
        held.append(begun.generation.held)
        return False

    assert drain(begun.generation.prefill(should_stop))
    assert held == [0, 16, 32]
    assert begun.generation.held == 40


def test_a_prefill_that_was_stopped_goes_on_where_it_was(tokenizer: Tokenizer) -> None:
    begun = Begun(tokenizer, "a", "b", batch=16)
    drain(begun.generation.prefill(after(1)))
    assert drain(begun.generation.prefill())
    assert begun.generation.usage == PhaseUsage(evaluated_tokens=40)


def test_what_the_cache_held_before_the_first_prefill_is_reused_and_no_more(
    tokenizer: Tokenizer,
) -> None:
    begun = Begun(tokenizer, "a", "b", "c")
    list(begun.cache.prefill_steps((TokenSegment(PROMPT[0].ids[:32]),)))
    drain(begun.generation.prefill())
    begun.generation.append(Plain(" and so on"))
    drain(begun.generation.prefill())
    appended = len(tokenizer.encode(" and so on"))
    assert begun.generation.held == 40 + appended
    # That the second prefill found the first one's positions is no saving.
    assert begun.generation.usage == PhaseUsage(evaluated_tokens=8 + appended, reused_tokens=32)


def test_only_a_long_prefill_tells_how_fast_the_model_reads(tokenizer: Tokenizer) -> None:
    begun = Begun(tokenizer, "a", "b", position_s=0.5)
    drain(begun.generation.prefill())
    assert begun.model.throughput.position_s == pytest.approx(0.5)
    short = Begun(tokenizer, "a", position_s=0.5)
    drain(
        Generation(short.model, (TokenSegment((5, 6, 7)),), Deadline(clock=short.clock)).prefill()
    )
    assert short.model.throughput.position_s == 0


# Writing.


def test_a_stop_token_ends_the_text_and_is_not_part_of_it(tokenizer: Tokenizer) -> None:
    begun = Begun(tokenizer, "a red ball<|im_end|>")
    drain(begun.generation.prefill())
    assert begun.write(50) == begun.generation.tokens == tokenizer.encode("a red ball")
    assert begun.generation.finish_reason == "stop"
    # Every token was decoded to find the stop token behind it.
    assert begun.cache.appended == begun.generation.tokens


def test_a_text_that_stops_with_its_last_token_is_cut(tokenizer: Tokenizer) -> None:
    wanted = tokenizer.encode("a red ball")
    begun = Begun(tokenizer, "a red ball<|im_end|>")
    drain(begun.generation.prefill())
    assert begun.write(len(wanted)) == wanted
    assert begun.generation.finish_reason == "length"
    assert begun.cache.appended == wanted[:-1]  # nobody wanted to know what follows


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_text_ends_when_there_is_no_time(tokenizer: Tokenizer, count: int) -> None:
    begun = Begun(tokenizer, "a red ball on the table", endless=True)
    drain(begun.generation.prefill())
    assert len(begun.write(50, after(count))) == count
    assert begun.generation.finish_reason == "deadline"


def test_a_text_that_repeats_itself_ends(tokenizer: Tokenizer) -> None:
    begun = Begun(tokenizer, "on the table ", endless=True)
    drain(begun.generation.prefill())
    written = begun.write(5000)
    assert begun.generation.finish_reason == "repetition"
    assert len(written) < 200
    # A new text is no repetition of the one before it.
    assert len(begun.write(5)) == 5
    assert begun.generation.finish_reason == "length"


def test_without_a_budget_nothing_is_written_and_nothing_is_cut(tokenizer: Tokenizer) -> None:
    begun = Begun(tokenizer, "a red ball")
    drain(begun.generation.prefill())
    begun.write(1)
    assert begun.generation.finish_reason == "length"
    assert begun.write(0, lambda: True) == []
    assert begun.generation.finish_reason == "stop"


def test_who_leaves_a_text_has_not_cut_it(tokenizer: Tokenizer) -> None:
    begun = Begun(tokenizer, "a red ball")
    drain(begun.generation.prefill())
    for _ in begun.generation.generate(greedy, 50, lambda: False):
        break
    assert begun.generation.finish_reason == "stop"
    assert begun.generation.tokens == tokenizer.encode("a red ball")[:1]


def test_a_refused_token_is_not_written(tokenizer: Tokenizer) -> None:
    begun = Begun(tokenizer, "a red ball")
    drain(begun.generation.prefill())
    refused = tokenizer.encode("a red ball")[0]
    written = list(begun.generation.generate(greedy, 3, lambda: False, lambda t: t == refused))
    assert refused not in written


def test_single_steps_tell_how_fast_the_model_writes(tokenizer: Tokenizer) -> None:
    begun = Begun(tokenizer, "a red ball", token_s=0.25)
    drain(begun.generation.prefill())

    def slow(logits: NDArray[np.float32]) -> int:
        begun.clock.now_s += 0.5
        return greedy(logits)

    list(begun.generation.generate(slow, 1, lambda: False))
    assert begun.model.throughput.token_s == 0  # the first token needs no step
    list(begun.generation.generate(slow, 2, lambda: False))
    assert begun.model.throughput.token_s == pytest.approx(0.75)


# Going on.


def test_what_was_written_and_appended_is_read_as_one_prompt(tokenizer: Tokenizer) -> None:
    begun = Begun(tokenizer, "a red ball<|im_end|>", "yes")
    drain(begun.generation.prefill())
    written = begun.write(50)
    begun.generation.append(Trusted("<|im_end|>"), Plain(" so"))
    begun.generation.append(Plain(" on"))
    ended = tokenizer.special_id("<|im_end|>")
    assert ended is not None
    expected = (
        *PROMPT,
        TokenSegment(tuple(written), generated=True),
        TokenSegment((ended, *tokenizer.encode(" so on"))),  # texts that touch are one run
    )
    assert begun.generation.segments == expected
    assert drain(begun.generation.prefill())
    assert begun.generation.segments == expected
    assert begun.generation.held == sum(map(len, expected))
    more = begun.write(1)
    assert begun.generation.tokens == [*written, *more]
    assert begun.generation.usage.generated_tokens == len(written) + 1
    assert begun.generation.segments == (*expected, TokenSegment(tuple(more), generated=True))


def test_what_is_written_in_two_goes_is_one_text(tokenizer: Tokenizer) -> None:
    begun = Begun(tokenizer, "a red ball<|im_end|>", "on the table")
    drain(begun.generation.prefill())
    first = begun.write(2)
    drain(begun.generation.prefill())
    second = begun.write(1)
    assert begun.generation.segments == (
        *PROMPT,
        TokenSegment(tuple(first), generated=True),
        TokenSegment(tuple(second), generated=True),
    )
    assert begun.cache.cached[40:42] == [("generated", token) for token in first]


def test_a_picture_may_follow(tokenizer: Tokenizer) -> None:
    begun = Begun(tokenizer, "a", "b")
    drain(begun.generation.prefill())
    picture = ImageTokens(np.zeros((24, 32), np.float32), "picture")
    begun.generation.append(picture, Plain("?"))
    prompt, shown, question = begun.generation.segments
    assert prompt == PROMPT[0]
    assert isinstance(shown, ImageSegment)
    assert shown.image is picture
    assert question == TokenSegment(tuple(tokenizer.encode("?")))
