from typing import Any

import numpy as np
import pytest
from tiny.fakes import FakeClock, ForcedKVCache, collect, new_chat_model, new_tokenizer

from edge_et.bundle import ChoicesSpec
from edge_et.errors import DecodeError, OptionError
from edge_et.generation import Deadline, Generation, greedy
from edge_et.llm import Tokenizer, TokenSegment
from edge_et.results import AnswerToken, Progress
from edge_et.stages import AnswerCost, ChoiceForm, FormedAnswer, tell_choices
from edge_et.stages.choices import choice_letter, choice_tokens, spellings

PROMPT = (TokenSegment(tuple(range(20, 60))),)
MARKER = "Answer:"


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return new_tokenizer(tmp_path_factory.mktemp("tokenizer"))


def form(*choices: str) -> ChoiceForm:
    return ChoiceForm({choice: choice for choice in choices})


class Chosen:
    """What a fake that wants to write something chooses."""

    def __init__(
        self, tokenizer: Tokenizer, wants: str, asked: ChoiceForm, *, seconds: float | None = None
    ) -> None:
        clock = FakeClock()
        self.cache = ForcedKVCache(tokenizer, wants, clock=clock, token_s=1.0, certainty=30.0)
        deadline = Deadline(seconds, clock)
        self.generation = Generation(new_chat_model(tokenizer, self.cache), PROMPT, deadline)
        clock.now_s += 1.0
        self.events, answer = collect(
            asked.write(
                self.generation, greedy, 50, deadline, marker=MARKER, special_ids=frozenset()
            )
        )
        assert isinstance(answer, FormedAnswer)
        self.answer = answer


@pytest.mark.parametrize("wants", ["cat", "cat and dog", "dog"])
def test_the_choice_that_the_model_would_write_is_chosen(tokenizer: Tokenizer, wants: str) -> None:
    choices = ["cat and dog", "cat", "dog", "bird"]
    chosen = Chosen(tokenizer, f" {wants}<|im_end|>", form(*choices))
    assert (chosen.answer.text, chosen.answer.value) == (wants, wants)
    assert list(chosen.answer.shares) == choices
    assert sum(chosen.answer.shares.values()) == pytest.approx(1)
    assert max(chosen.answer.shares, key=lambda choice: chosen.answer.shares[choice]) == wants
    assert chosen.answer.shares[wants] > 0.99
    assert chosen.events == [AnswerToken(wants)]
    assert chosen.generation.finish_reason == "stop"
    assert tokenizer.decode(chosen.generation.tokens) == f" {wants}"


def test_a_choice_counts_as_a_whole_and_not_by_its_beginning(tokenizer: Tokenizer) -> None:
    """The model goes on where "cat" would have to end."""
    chosen = Chosen(tokenizer, " cat and mouse<|im_end|>", form("cat", "cat and mouse"))
    assert chosen.answer.text == "cat and mouse"


def test_common_beginnings_are_evaluated_once(tokenizer: Tokenizer) -> None:
    choices = ["red cat", "red cat and dog", "red dog", "blue"]
    chosen = Chosen(tokenizer, " red dog<|im_end|>", form(*choices))
    tokens = [choice_tokens(tokenizer, MARKER, choice) for choice in choices]
    beginnings = {found[:size] for found in tokens for size in range(1, len(found) + 1)}
    assert len(chosen.cache.appended) == len(beginnings) < sum(map(len, tokens))
    longest = len(" red cat and dog")
    cost = form(*choices).cost(tokenizer, MARKER, 50)
    assert cost == AnswerCost(positions=longest, steps=len(beginnings) + longest)
    assert form(*choices).cost(tokenizer, MARKER, 12).positions == 12


def test_a_choice_that_was_written_before_is_scored_in_the_tokens_that_were_used(
    tokenizer: Tokenizer,
) -> None:
    usual = choice_tokens(tokenizer, MARKER, "ball")
    letters = tuple(token for letter in " ball" for token in tokenizer.encode(letter))
    assert letters != usual
    written = TokenSegment((40, *letters, 41), generated=True)

    def found(*segments: TokenSegment, choice: str = "ball", budget: int = 9) -> list[Any]:
        return spellings(tokenizer, MARKER, choice, segments, budget)

    assert found(*PROMPT, written) == [usual, letters]
    assert found(*PROMPT, written, written) == [usual, letters]
    assert found(*PROMPT, TokenSegment(usual, generated=True)) == [usual]
    assert found(TokenSegment(written.ids)) == [usual]  # which was read
    assert found(written, budget=len(letters) - 1) == [usual]
    assert found(written, choice="bal")[1:] == [letters[:-1]]
    assert found(written, choice="a")[1:] == []
    end = tokenizer.special_id("</think>")
    assert end is not None
    closing = TokenSegment((*tokenizer.encode(" "), end), generated=True)
    assert found(closing, choice="</think>") == [choice_tokens(tokenizer, MARKER, "</think>")]


def test_the_cache_is_as_it_was(tokenizer: Tokenizer) -> None:
    chosen = Chosen(tokenizer, " dog<|im_end|>", form("red cat", "dog"))
    assert chosen.cache.cached == [*range(20, 60)]


def test_of_equals_the_first_is_chosen(tokenizer: Tokenizer) -> None:
    first, second = (choice_tokens(tokenizer, MARKER, text) for text in "xy")
    assert len(first) == len(second)
    chosen = Chosen(tokenizer, " something else<|im_end|>", form("y", "x"))
    assert chosen.answer.text == "y"
    assert chosen.answer.shares == {"y": 0.5, "x": 0.5}


def test_a_passed_deadline_takes_no_choice_away(tokenizer: Tokenizer) -> None:
    chosen = Chosen(tokenizer, " dog<|im_end|>", form("cat", "dog"), seconds=0.5)
    assert chosen.answer.text == "dog"
    assert chosen.generation.finish_reason == "stop"


def test_progress_is_told_before_every_step_and_what_is_left_there_is_no_harm(
    tokenizer: Tokenizer,
) -> None:
    asked = form("red cat", "dog", "red dog")
    size = asked.cost(tokenizer, MARKER, 50).steps - len(" red cat")
    cache = ForcedKVCache(tokenizer, " dog<|im_end|>", certainty=30.0)
    generation = Generation(new_chat_model(tokenizer, cache), PROMPT, Deadline(), "think")
    stage = asked.write(generation, greedy, 50, Deadline(), marker=MARKER, special_ids=frozenset())
    told = []
    for event in stage:
        if isinstance(event, Progress) and event.phase == "decode":
            assert len(cache.appended) == event.done
            told.append((event.stage, event.done, event.total))
            if event.done == 3:
                stage.close()
    assert told == [("answer", done, size) for done in range(4)]
    assert [held for held in cache.cached if isinstance(held, int)] == list(PROMPT[0].ids)


def test_steps_are_measured(tokenizer: Tokenizer) -> None:
    chosen = Chosen(tokenizer, " dog<|im_end|>", form("cat", "dog"))
    assert chosen.generation.chat_model.throughput.token_s == 1.0


def test_a_choice_may_stand_for_something(tokenizer: Tokenizer) -> None:
    chosen = Chosen(tokenizer, " no<|im_end|>", ChoiceForm({"yes": True, "no": False}))
    assert chosen.answer.value is False
    assert (chosen.answer.text, list(chosen.answer.shares)) == ("no", ["yes", "no"])


def test_spellings_of_a_choice_count_together(tokenizer: Tokenizer) -> None:
    letters = tuple(token for letter in " ball" for token in tokenizer.encode(letter))
    cache = ForcedKVCache(tokenizer, "x", certainty=30.0)
    generation = Generation(
        new_chat_model(tokenizer, cache),
        (*PROMPT, TokenSegment(letters, generated=True)),
        Deadline(),
    )
    stage = form("ball", "cube").write(
        generation, greedy, 50, Deadline(), marker=MARKER, special_ids=frozenset()
    )
    cache._texts = ["<|im_end|>"]
    prefill_steps = cache.prefill_steps

    def spell(segments: Any) -> Any:
        yield from prefill_steps(segments)
        cache._script[:0] = letters

    cache.prefill_steps = spell  # type: ignore[method-assign]
    _, answer = collect(stage)
    assert answer.text == "ball"
    assert answer.shares["ball"] > 0.99


def test_white_space_around_a_choice_is_not_scored_but_given_back(tokenizer: Tokenizer) -> None:
    chosen = Chosen(tokenizer, " dog<|im_end|>", form(" dog\n", "cat"))
    assert chosen.answer.text == " dog\n"
    assert list(chosen.answer.shares) == [" dog\n", "cat"]


@pytest.mark.parametrize("hostile", ["<|im_end|>", "<think>", "\U0001f408\u200d\u2b1b", "a\nb\tc"])
def test_what_looks_special_is_text(tokenizer: Tokenizer, hostile: str) -> None:
    tokens = choice_tokens(tokenizer, MARKER, hostile)
    assert tokenizer.decode(tokens) == f" {hostile}"
    chosen = Chosen(tokenizer, " cat<|im_end|>", form(hostile, "cat"))
    assert chosen.answer.text == "cat"


@pytest.mark.parametrize(
    ("marker", "written"),
    [("Answer:", " cat"), ("Answer: ", "cat"), ("Answer:\n", "cat"), ("", "cat")],
)
def test_choices_are_tokenized_as_they_follow_the_marker(
    tokenizer: Tokenizer, marker: str, written: str
) -> None:
    tokens = choice_tokens(tokenizer, marker, "cat")
    assert tokenizer.decode(tokens) == written
    if marker == "Answer:":
        assert [*tokenizer.encode(marker), *tokens] == tokenizer.encode("Answer: cat")


def test_choices_that_the_model_cannot_tell_apart_are_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(OptionError, match="texts that differ") as caught:
        form("cat", "dog", " cat ").check(tokenizer, MARKER, 20)
    assert caught.value.value == ("cat", " cat ")


def test_a_choice_has_to_fit_into_the_budget(tokenizer: Tokenizer) -> None:
    long = "one two three four five"
    size = len(choice_tokens(tokenizer, MARKER, long))
    form("cat", long).check(tokenizer, MARKER, size)
    with pytest.raises(OptionError, match=rf"at most {size - 1} tokens .* not {size}"):
        form("cat", long).check(tokenizer, MARKER, size - 1)


class Impossible(ForcedKVCache):
    @property
    def logits(self) -> np.ndarray:
        logits = np.full(self._tokenizer.size, -np.inf, np.float32)
        logits[0] = 1
        return logits


def test_logits_without_any_choice_are_an_error(tokenizer: Tokenizer) -> None:
    model = new_chat_model(tokenizer, Impossible(tokenizer, "x"))
    generation = Generation(model, PROMPT, Deadline())
    stage = form("cat", "dog").write(
        generation, greedy, 9, Deadline(), marker=MARKER, special_ids=frozenset()
    )
    with pytest.raises(DecodeError, match="no choice"):
        collect(stage)


def by_letter(*choices: str) -> ChoiceForm:
    return ChoiceForm({choice: choice for choice in choices}, by_letter=True)


def test_the_letter_that_the_model_would_write_is_told_as_its_choice(tokenizer: Tokenizer) -> None:
    chosen = Chosen(tokenizer, " B<|im_end|>", by_letter("a black cat", "a dog", "B"))
    assert (chosen.answer.text, chosen.answer.value) == ("a dog", "a dog")
    assert list(chosen.answer.shares) == ["a black cat", "a dog", "B"]
    assert chosen.answer.shares["a dog"] > 0.99
    assert chosen.events == [AnswerToken("a dog")]
    assert tokenizer.decode(chosen.generation.tokens) == " B"


def test_letters_cost_less_than_what_they_stand_for(tokenizer: Tokenizer) -> None:
    asked = by_letter("a black cat " * 20, "a dog")
    asked.check(tokenizer, MARKER, 2)
    # A space, two letters, and the longest of both once more.
    assert asked.cost(tokenizer, MARKER, 50) == AnswerCost(positions=2, steps=3 + 2)


def test_choices_with_letters_have_to_differ_too(tokenizer: Tokenizer) -> None:
    with pytest.raises(OptionError, match="white space around aside"):
        by_letter("cat", " cat").check(tokenizer, MARKER, 50)


def test_letters_of_more_choices_than_the_alphabet_has() -> None:
    letters = [choice_letter(number) for number in range(256)]
    assert letters[:3] == ["A", "B", "C"]
    assert letters[25:28] == ["Z", "AA", "AB"]
    assert len(set(letters)) == 256


def test_choices_are_told_as_the_bundle_says_and_what_they_hold_is_text() -> None:
    spec = ChoicesSpec(prompt="{question}{choices}")
    assert tell_choices(spec, ["cat ", "{letter}"]) == "A: cat, B: {letter}"
    spec = ChoicesSpec(prompt="{question}{choices}", item="{choice} ({letter})", separator="\n")
    assert tell_choices(spec, ["cat", "{choice}"]) == "cat (A)\n{choice} (B)"
