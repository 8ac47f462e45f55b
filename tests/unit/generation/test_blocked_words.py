from pathlib import Path

import pytest
from tiny.fakes import new_tokenizer
from tiny.places import GOLDEN

from edge_et.generation import BlockedWords
from edge_et.llm import Tokenizer

QWEN = GOLDEN / "llava_qwen3_tiny" / "tokenizer.json"


@pytest.fixture(params=["tiny", "qwen"])
def tokenizer(tmp_path: Path, request: pytest.FixtureRequest) -> Tokenizer:
    return Tokenizer(QWEN) if request.param == "qwen" else new_tokenizer(tmp_path)


def writable(blocked: BlockedWords, tokens: list[int]) -> bool:
    return not any(blocked.refuses(tokens[:at], token) for at, token in enumerate(tokens))


@pytest.mark.parametrize("word", ["wait", "Wait", "table", "double-check", "hmm", "日本"])
def test_a_word_cannot_be_written_in_any_of_its_forms(tokenizer: Tokenizer, word: str) -> None:
    blocked = BlockedWords((word,), tokenizer)
    small, large = word[0].lower() + word[1:], word[0].upper() + word[1:]
    for form in (word, small, large):
        assert not writable(blocked, tokenizer.encode(form))
        assert not writable(blocked, tokenizer.encode(f"So {form}"))


def test_a_word_of_one_token_is_refused_wherever_it_comes(tokenizer: Tokenizer) -> None:
    (token,) = tokenizer.encode(" the")
    blocked = BlockedWords(("the",), tokenizer)
    assert blocked.refuses([], token)
    assert blocked.refuses([1, 2, 3], token)


def test_of_several_tokens_only_the_last_is_refused(tokenizer: Tokenizer) -> None:
    *before, last = tokenizer.encode("zebra")
    assert before
    blocked = BlockedWords(("zebra",), tokenizer)
    assert blocked.refuses(before, last)
    assert blocked.refuses([5, *before], last)
    assert not blocked.refuses([], last)
    assert not blocked.refuses(before[:-1], last)
    assert not any(blocked.refuses(before[:at], token) for at, token in enumerate(before))


def test_other_words_can_be_written(tokenizer: Tokenizer) -> None:
    blocked = BlockedWords(("wait", "alternatively"), tokenizer)
    assert writable(blocked, tokenizer.encode("There is a small dog at the top left."))
    assert writable(BlockedWords((), tokenizer), tokenizer.encode("wait"))
