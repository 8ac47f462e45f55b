"""Forced decoding: a KV cache whose model writes given tokens.

Every configuration has to do the same work. So neither the text nor its length can be left to the
model. The model computes all its logits; then the next forced token is made the most probable one.
In: a KV cache, and the tokens. Out: a KV cache that the pipeline uses like any other.
"""

import random
import re
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from edge_et.benchmarks.wrapped_kv_cache import WrappedKVCache
from edge_et.errors import BenchError
from edge_et.llm import KVCache, PrefillProgress, Segment, Tokenizer, TokenSegment

_WORD = re.compile(rb" [a-z]{2,}")
_SEED = 5
_LEAST_WORDS = 8


class ForcedKVCache(WrappedKVCache):
    """Makes forced tokens the most probable ones; costs a copy of the logits a token."""

    def __init__(self, inner: KVCache, forced: Sequence[int]) -> None:
        """Begin at the first forced token.

        Args:
            inner: does the work; closed together with this one.
            forced: the tokens to write, at least one; behind the last one follows the first again.
        """
        super().__init__(inner)
        self._forced = forced
        self._written = 0
        self._forgotten = False
        self._reread = 0

    @property
    def logits(self) -> NDArray[np.float32]:
        """Logits [V] float32, of which that of the next forced token is the largest."""
        logits = self._inner.logits.copy()
        logits[self._forced[self._written % len(self._forced)]] = np.finfo(np.float32).max
        self._written += 1
        return logits

    def start_over(self) -> None:
        """Return to the first forced token."""
        self._written = 0
        self._forgotten = False
        self._reread = 0

    def forget(self) -> None:
        """Empty the cache between the stages.

        Then generated tokens are prefilled as any text is, in one batch with their neighbours. The
        runtime itself would evaluate them token by token, to get the same bits as when they were
        generated. So emptying its cache would seem to cost more than another program pays.
        """
        self._inner.clear()
        self._forgotten = True

    def prefill_steps(self, segments: Sequence[Segment]) -> Iterator[PrefillProgress]:
        """Make the cache hold exactly these segments; tell before each batch how far it is."""
        if self._forgotten:
            self._forgotten = False
            self._reread = sum(map(is_generated, segments))
        return self._inner.prefill_steps(read_again(segments, self._reread))


def read_again(segments: Sequence[Segment], count: int) -> tuple[Segment, ...]:
    """Turn generated segments into text that is prefilled.

    Args:
        segments: a prompt.
        count: how many of its generated segments, from the first one on.

    Returns:
        The prompt; a segment that was turned into text is joined with the texts around it.
    """
    prompt: list[Segment] = []
    joins = False
    for segment in segments:
        turned = count > 0 and is_generated(segment)
        last = prompt[-1] if prompt else None
        if isinstance(segment, TokenSegment) and (turned or not segment.generated):
            segment = TokenSegment(segment.ids)
            if (turned or joins) and isinstance(last, TokenSegment) and not last.generated:
                prompt.pop()
                segment = TokenSegment((*last.ids, *segment.ids))
        prompt.append(segment)
        count -= turned
        joins = turned
    return tuple(prompt)


def is_generated(segment: Segment) -> bool:
    """Return whether a model wrote it."""
    return isinstance(segment, TokenSegment) and segment.generated


def draw_forced_tokens(tokenizer: Tokenizer, marker: str, count: int) -> list[int]:
    """Draw the tokens that forced decoding writes.

    Each token is a lower-case word with the space before it. So it becomes text at once, is no part
    of the answer marker, and ends nothing. The tokens are drawn at random, so that the text does
    not repeat itself, and are always the same ones for a tokenizer.

    Args:
        tokenizer: the model's.
        marker: the manifest's `think.answer_marker`.
        count: how many.

    Raises:
        BenchError: the tokenizer has hardly any such tokens.
    """
    words = [
        token
        for token in range(tokenizer.size)
        if _WORD.fullmatch(text := tokenizer.token_bytes(token)) and marker[0].encode() not in text
    ]
    if len(words) < _LEAST_WORDS:
        raise BenchError(
            f"the tokenizer has {len(words)} tokens that are words, at least {_LEAST_WORDS} are "
            "needed for a text to write"
        )
    return random.Random(_SEED).choices(words, k=count)
