from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny.fakes import FakeClock, ForcedKVCache, collect, new_chat_model, new_tokenizer, text_of

from edge_et.bundle import Sampling
from edge_et.errors import OptionError
from edge_et.generation import Deadline, Generation, Sampler, greedy, new_sampler
from edge_et.llm import Tokenizer, TokenSegment
from edge_et.results import AnswerToken
from edge_et.stages import AnswerCost, FormedAnswer, NumberForm

PROMPT = (TokenSegment(tuple(range(20, 60))),)
MARKER = "Answer:"


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return new_tokenizer(tmp_path_factory.mktemp("tokenizer"))


class Written:
    """The number of a fake that wants to write something."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        wants: str,
        budget: int = 10,
        *,
        seconds: float | None = None,
        sampler: Sampler = greedy,
    ) -> None:
        clock = FakeClock()
        cache = ForcedKVCache(tokenizer, wants, clock=clock, token_s=1.0, endless=True)
        deadline = Deadline(seconds, clock)
        self.generation = Generation(new_chat_model(tokenizer, cache), PROMPT, deadline)
        stage = NumberForm().write(
            self.generation, sampler, budget, deadline, marker=MARKER, special_ids=frozenset()
        )
        events, answer = collect(stage)
        assert isinstance(answer, FormedAnswer)
        assert text_of(events, AnswerToken).strip() == answer.text
        assert len(self.generation.tokens) <= budget
        self.answer = answer


@pytest.mark.parametrize(
    ("wants", "text", "value"),
    [
        (" 3", "3", 3),
        ("12.50", "12.50", 12.5),
        (" -7", "-7", -7),
        ("-0.5", "-0.5", -0.5),
        ("007", "007", 7),
        ("\n42", "42", 42),
    ],
)
def test_a_number_is_written_as_the_model_wants(
    tokenizer: Tokenizer, wants: str, text: str, value: float
) -> None:
    written = Written(tokenizer, f"{wants}<|im_end|>")
    assert (written.answer.text, written.answer.value) == (text, value)
    assert type(written.answer.value) is type(value)
    assert written.answer.shares == {}
    assert written.generation.finish_reason == "stop"


@pytest.mark.parametrize(
    "wants",
    [
        "<|im_end|>",
        "There are 3.<|im_end|>",
        "1,000<|im_end|>",
        "5 cats<|im_end|>",
        "--1<|im_end|>",
        "-<|im_end|>",
        "1.2.3<|im_end|>",
        "1.<|im_end|>",
        "  \n \n 4<|im_end|>",
        "<think>",
        "\u0663\u0664<|im_end|>",
    ],
)
@pytest.mark.parametrize("budget", [1, 2, 3, 10])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_whatever_the_model_wants_a_number_is_written(
    tokenizer: Tokenizer, wants: str, budget: int, temperature: float
) -> None:
    sampler = new_sampler(Sampling(temperature=temperature, top_p=0.9, seed=budget))
    answer = Written(tokenizer, wants, budget, sampler=sampler).answer
    assert float(answer.text) == answer.value
    assert set(answer.text) <= set("-.0123456789")
    assert answer.text[-1].isdecimal()
    assert isinstance(answer.value, float if "." in answer.text else int)


@pytest.mark.parametrize("wants", ["9", "1.9", "12"])
def test_a_number_without_end_is_a_number(tokenizer: Tokenizer, wants: str) -> None:
    answer = Written(tokenizer, wants, budget=500).answer
    assert np.isfinite(float(answer.value))
    assert float(answer.text) == float(answer.value)


def test_the_budget_ends_it(tokenizer: Tokenizer) -> None:
    written = Written(tokenizer, "123456", budget=3)
    assert written.answer.value == 123
    assert written.generation.finish_reason == "length"


def test_the_deadline_ends_it_when_it_is_a_number(tokenizer: Tokenizer) -> None:
    written = Written(tokenizer, "123456", budget=50, seconds=2.0)
    assert written.answer.value == 123
    assert written.generation.finish_reason == "deadline"


def test_a_passed_deadline_leaves_one_token(tokenizer: Tokenizer) -> None:
    written = Written(tokenizer, "-5<|im_end|>", seconds=0.0)
    assert len(written.generation.tokens) == 1
    assert isinstance(written.answer.value, int)


def test_what_it_takes_is_the_budget(tokenizer: Tokenizer) -> None:
    assert NumberForm().cost(tokenizer, MARKER, 24) == AnswerCost(positions=24, steps=8)
    assert NumberForm().cost(tokenizer, MARKER, 3) == AnswerCost(positions=3, steps=3)
    NumberForm().check(tokenizer, MARKER, 1)


class NoDigits(Tokenizer):
    def __init__(self, folder: Path) -> None:
        super().__init__(folder)

    def tokens_of(self, alphabet: bytes) -> dict[int, bytes]:
        return {}


def test_a_tokenizer_without_digits_is_refused(tmp_path: Path) -> None:
    new_tokenizer(tmp_path)
    with pytest.raises(OptionError, match="digits"):
        NumberForm().check(NoDigits(tmp_path / "tokenizer.json"), MARKER, 5)


def test_only_whole_tokens_of_an_alphabet_are_its_tokens(tokenizer: Tokenizer) -> None:
    found: dict[int, Any] = dict(tokenizer.tokens_of(b"0123456789 "))
    assert {b"7", b" "} <= set(found.values())
    assert all(set(piece) <= set(b"0123456789 ") for piece in found.values())
    for token, piece in found.items():
        assert tokenizer.token_bytes(token) == piece
    assert tokenizer.tokens_of(b"") == {}
