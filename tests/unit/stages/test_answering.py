from typing import Any

import pytest
from tiny.fakes import FakeClock, ForcedKVCache, collect, new_chat_model, new_tokenizer, text_of

from edge_et.generation import Deadline, Generation, greedy
from edge_et.llm import TextStream, Tokenizer, TokenSegment
from edge_et.results import AnswerToken
from edge_et.stages.answering import FreeText, write_answer

PROMPT = (TokenSegment(tuple(range(20, 60))),)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return new_tokenizer(tmp_path_factory.mktemp("tokenizer"))


class Written:
    """An answer of a fake that wants to write something."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        wants: str,
        budget: int = 6,
        *,
        seconds: float | None = None,
        position_s: float = 0.0,
        **options: Any,
    ) -> None:
        clock = FakeClock()
        self.cache = ForcedKVCache(
            tokenizer, wants, endless=True, clock=clock, token_s=1.0, position_s=position_s
        )
        deadline = Deadline(seconds, clock)
        model = new_chat_model(tokenizer, self.cache)
        self.generation = Generation(model, PROMPT, deadline)
        stage = write_answer(self.generation, greedy, budget, deadline, **options)
        self.events, self.answer = collect(stage)
        self.text = text_of(self.events, AnswerToken)
        assert self.answer.text == self.text.strip()
        self.tokens = self.generation.tokens
        self.finish_reason = self.generation.finish_reason


def test_what_is_not_read_yet_is_read_first(tokenizer: Tokenizer) -> None:
    written = Written(tokenizer, "a red ball<|im_end|>", 20)
    assert written.cache.batches == [40]
    assert written.text == "a red ball"
    assert written.finish_reason == "stop"


def test_an_answer_ends_with_its_budget(tokenizer: Tokenizer) -> None:
    written = Written(tokenizer, "a red ball on the table, ", 4)
    assert len(written.tokens) == 4
    assert written.finish_reason == "length"


@pytest.mark.parametrize("budget", [1, 2, 3, 6])
@pytest.mark.parametrize(
    "wants", ["<|im_end|>", "<|endoftext|>", " ", "\n<|im_end|>", "<|im_start|>", "日", "\u3000"]
)
def test_an_answer_is_never_empty(tokenizer: Tokenizer, wants: str, budget: int) -> None:
    written = Written(tokenizer, wants, budget)
    assert written.text.strip("\N{REPLACEMENT CHARACTER} \n\u3000") or "日" in written.text
    assert written.text == text_of(written.events, AnswerToken)
    assert len(written.tokens) <= budget
    assert not written.generation.chat_model.stop_ids & set(written.tokens)


def test_a_token_that_stops_is_taken_behind_text_alone(tokenizer: Tokenizer) -> None:
    written = Written(tokenizer, "\n<|im_end|>", 20)
    blank = tokenizer.encode("\n")
    assert written.tokens[:1] == blank
    assert written.text.strip()
    # Once there is text, the model may stop as it wants to.
    assert (len(written.tokens), written.finish_reason) == (2, "stop")


def test_white_space_comes_once_at_the_beginning_and_at_will_behind_text(
    tokenizer: Tokenizer,
) -> None:
    written = Written(tokenizer, " ", 6)
    assert written.tokens[0] == written.tokens[2] == tokenizer.encode(" ")[0]
    assert tokenizer.decode(written.tokens[1:2]).strip()
    assert not tokenizer.decode(written.tokens[2:]).strip()


def test_the_last_token_of_a_blank_answer_is_text_by_itself(tokenizer: Tokenizer) -> None:
    half = tokenizer.encode("日")[0]
    assert Written(tokenizer, "日", 1).tokens != [half]
    whole = Written(tokenizer, "日<|im_end|>", 6)
    assert (whole.tokens[0], whole.text) == (half, "日")


def test_a_late_answer_is_one_token_of_text(tokenizer: Tokenizer) -> None:
    for wants in ("<|im_end|>", " ", "日", "red"):
        written = Written(tokenizer, wants, 6, seconds=0.5, position_s=1.0)
        assert len(written.tokens) == 1
        assert written.text.strip("\N{REPLACEMENT CHARACTER} ")
        assert written.finish_reason == "deadline"


def test_a_deadline_ends_an_answer_that_has_text(tokenizer: Tokenizer) -> None:
    written = Written(tokenizer, "on the table ", 50, seconds=2.5)
    assert (len(written.tokens), written.finish_reason) == (4, "deadline")


def test_what_was_begun_is_told_and_is_text_enough_to_stop(tokenizer: Tokenizer) -> None:
    written = Written(tokenizer, "<|im_end|>", 6, begun=" re")
    assert written.events == [AnswerToken(" re")]
    assert (written.text, written.tokens, written.finish_reason) == (" re", [], "stop")
    gone_on = Written(tokenizer, "d<|im_end|>", 6, begun=" re")
    assert gone_on.text == text_of(gone_on.events, AnswerToken) == " red"
    late = Written(tokenizer, "d", 6, begun=" re", seconds=0.5, position_s=1.0)
    assert (late.text, late.tokens, late.finish_reason) == (" re", [], "deadline")


def test_white_space_that_was_begun_is_no_text(tokenizer: Tokenizer) -> None:
    written = Written(tokenizer, "<|im_end|>", 6, begun=" ")
    assert written.text.strip()
    assert written.events[0] == AnswerToken(" ")


def test_a_character_that_was_begun_elsewhere_is_ended(tokenizer: Tokenizer) -> None:
    stream = TextStream(tokenizer)
    first, *rest = tokenizer.encode("日")
    assert stream.push(first) == ""
    cache = ForcedKVCache(tokenizer, "a<|im_end|>")
    generation = Generation(new_chat_model(tokenizer, cache), PROMPT, Deadline())
    for token in rest:
        pushed = stream.push(token)
    assert pushed == "日"
    stream.push(first)
    _, answer = collect(write_answer(generation, greedy, 6, Deadline(), stream=stream))
    assert answer.text == "\N{REPLACEMENT CHARACTER}a"  # half a character stood in the stream


def test_half_a_character_at_the_end_is_told(tokenizer: Tokenizer) -> None:
    wants = "a日"
    budget = len(tokenizer.encode("a")) + 1
    written = Written(tokenizer, wants, budget)
    assert written.text == "a\N{REPLACEMENT CHARACTER}"


def test_marks_cannot_be_written_anywhere(tokenizer: Tokenizer) -> None:
    mark = tokenizer.special_id("<think>")
    assert mark is not None
    free = Written(tokenizer, "a<think>", 4)
    assert mark in free.tokens
    marked = Written(tokenizer, "a<think>", 4, special_ids=frozenset({mark}))
    assert mark not in marked.tokens
    assert "<think>" not in marked.text
    first = Written(tokenizer, "<think>", 1, special_ids=frozenset({mark}))
    assert mark not in first.tokens


def test_an_answer_ends_before_a_stop_text(tokenizer: Tokenizer) -> None:
    free = FreeText(stop=("ball", "cube"))
    written = Written(tokenizer, "a red ball on the table, ", 20, free=free)
    assert written.text == "a red "
    assert written.finish_reason == "stop"
    assert len(written.tokens) < 20


def test_nothing_of_a_stop_text_is_told_on_the_way(tokenizer: Tokenizer) -> None:
    written = Written(tokenizer, "red b a l l<|im_end|>", 20, free=FreeText(stop=("b a l x",)))
    assert written.text == "red b a l l"
    told = [event.text for event in written.events if isinstance(event, AnswerToken)]
    assert not any(text.endswith(("b", "b ", "b a", "a l ")) for text in told)


def test_an_answer_is_not_empty_for_a_stop_text_that_comes_first(tokenizer: Tokenizer) -> None:
    written = Written(tokenizer, "\nred ball\nred", 20, free=FreeText(stop=("\n", "red")))
    assert written.text == "\nred ball"
    begun = Written(tokenizer, "d ball\nred", 20, free=FreeText(stop=("red", "\n")), begun=" re")
    assert begun.text == text_of(begun.events, AnswerToken) == " red ball"
    ended = Written(tokenizer, "never", 20, free=FreeText(stop=("ll",)), begun=" ball")
    assert (ended.text, ended.tokens, ended.finish_reason) == (" ba", [], "stop")
    for stop in ("<|im_end|>", " ", "a"):
        blank = Written(tokenizer, "<|im_end|>", 6, free=FreeText(stop=(stop,)))
        assert blank.text.strip()


def test_what_may_begin_a_stop_text_is_told_when_the_budget_ends(tokenizer: Tokenizer) -> None:
    written = Written(tokenizer, "a red ball", 3, free=FreeText(stop=("ball and", "red ball,")))
    assert written.text == tokenizer.decode(written.tokens)
    assert written.finish_reason == "length"
