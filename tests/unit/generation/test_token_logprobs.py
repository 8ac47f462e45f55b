import math
from pathlib import Path

import numpy as np
import pytest
from tiny.fakes import new_tokenizer

from edge_et.generation import token_logprob
from edge_et.llm import Tokenizer


@pytest.fixture
def tokenizer(tmp_path: Path) -> Tokenizer:
    return new_tokenizer(tmp_path)


def test_it_is_the_logarithm_of_the_softmax(tokenizer: Tokenizer) -> None:
    probable = np.array([0.5, 0.125, 0.25, 0.125])
    # The same but for a constant, of which no exponential can be taken.
    logits = (np.log(probable) + 1000).astype(np.float32)
    told = token_logprob(logits, 2, 3, tokenizer)
    assert told.logprob == pytest.approx(math.log(0.25), abs=1e-4)
    assert [math.exp(logprob) for _, logprob in told.top] == pytest.approx(
        [0.5, 0.25, 0.125], abs=1e-4
    )
    texts = [tokenizer.decode([token]) for token in (0, 2, 1)]  # of equals the smallest id
    assert [text for text, _ in told.top] == texts


def test_as_many_are_told_as_there_are(tokenizer: Tokenizer) -> None:
    logits = np.zeros(tokenizer.size, np.float32)
    for top in (0, 1, 20):
        told = token_logprob(logits, 5, top, tokenizer)
        assert len(told.top) == top
        assert told.logprob == pytest.approx(-math.log(tokenizer.size))
    assert len(token_logprob(logits[:3], 2, 20, tokenizer).top) == 3


def test_bytes_of_a_part_of_a_character_are_told(tokenizer: Tokenizer) -> None:
    tokens = tokenizer.encode("日")
    logits = np.zeros(tokenizer.size, np.float32)
    told = [token_logprob(logits, token, 0, tokenizer) for token in tokens]
    assert len(told) > 1
    assert b"".join(each.token_bytes for each in told).decode() == "日"
    assert told[0].text == "\N{REPLACEMENT CHARACTER}"
    assert told[0].to_dict() == {
        "text": told[0].text,
        "logprob": told[0].logprob,
        "bytes": list(told[0].token_bytes),
        "top": [],
    }
