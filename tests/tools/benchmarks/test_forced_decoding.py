"""Forced decoding: which tokens it writes, and what it leaves alone."""

from pathlib import Path

import numpy as np
import pytest
from tiny.fakes import ForcedKVCache as FakeKVCache
from tiny.fakes import new_tokenizer

from edge_et.benchmarks.forced_decoding import ForcedKVCache, draw_forced_tokens, read_again
from edge_et.errors import BenchError
from edge_et.image import ImageTokens
from edge_et.llm import ImageSegment, Segment, TokenSegment


def test_forced_decoding_needs_words(tmp_path: Path):
    tokenizer = new_tokenizer(tmp_path)
    assert draw_forced_tokens(tokenizer, "Answer:", 40) == draw_forced_tokens(
        tokenizer, "Answer:", 40
    )
    assert all(
        "e" not in tokenizer.decode([token]) for token in draw_forced_tokens(tokenizer, "end", 40)
    )
    tokenizer.size = 10
    with pytest.raises(BenchError, match="0 tokens that are words"):
        draw_forced_tokens(tokenizer, "Answer:", 40)


def test_a_forced_kv_cache_leaves_the_logits_of_the_other_alone(tmp_path: Path):
    tokenizer = new_tokenizer(tmp_path)
    inner = FakeKVCache(tokenizer, "a cat")
    kv_cache = ForcedKVCache(inner, [7, 9])
    list(kv_cache.prefill_steps([TokenSegment((1, 2))]))
    expected = int(np.argmax(inner.logits))
    assert [int(np.argmax(kv_cache.logits)) for _ in range(3)] == [7, 9, 7]
    kv_cache.start_over()
    assert int(np.argmax(kv_cache.logits)) == 7
    assert int(np.argmax(inner.logits)) == expected


def test_what_was_written_before_forgetting_is_read_again_at_once():
    image = ImageSegment(ImageTokens(np.zeros((3, 2), np.float32), "digest"))
    prompt: list[Segment] = [
        TokenSegment((1, 2)),
        image,
        TokenSegment((3,)),
        TokenSegment((4, 5), generated=True),
        TokenSegment((6,)),
        TokenSegment((7,), generated=True),
        TokenSegment((8,)),
    ]
    assert read_again(prompt, 0) == tuple(prompt)
    assert read_again(prompt, 1) == (
        TokenSegment((1, 2)),
        image,
        TokenSegment((3, 4, 5, 6)),
        TokenSegment((7,), generated=True),
        TokenSegment((8,)),
    )
