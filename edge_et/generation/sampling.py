"""Sampling: a sampler is a callable from logits to a token.

In: logits ``[V]``, those of the tokenizer's ids. Out: an id. What the ids mean is not known here.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from edge_et.bundle import Sampling
from edge_et.errors import DecodeError

Sampler = Callable[[NDArray[np.float32]], int]


def new_sampler(sampling: Sampling) -> Sampler:
    """Return a sampler; for a temperature over 0 it holds random numbers of its own.

    Args:
        sampling: temperature, what to choose among, and seed.
    """
    if sampling.temperature == 0:
        return greedy
    numbers = np.random.default_rng(sampling.seed)

    def draw(logits: NDArray[np.float32]) -> int:
        return nucleus(
            logits, sampling.temperature, sampling.top_p, numbers.random(), top_k=sampling.top_k
        )

    return draw


def greedy(logits: NDArray[np.float32]) -> int:
    """Return the most probable token; of equals the smallest id.

    Args:
        logits: [V] float32.

    Raises:
        DecodeError: the logits are not numbers.
    """
    token = int(np.argmax(logits))
    if not np.isfinite(logits[token]):  # argmax finds a NaN before any number
        raise DecodeError("the logits are not finite: weights or image tokens are damaged")
    return token


def nucleus(
    logits: NDArray[np.float32],
    temperature: float,
    top_p: float,
    number: float,
    top_k: int | None = None,
) -> int:
    """Choose among the most probable tokens that together reach a probability.

    Args:
        logits: [V] float32.
        temperature: what the logits are divided by, over 0.
        top_p: the probability to reach, over 0 and up to 1; the token that reaches it counts too.
        number: random, 0 <= number < 1.
        top_k: most tokens to choose among, at least 1; `top_p` is a part of what they have
            together. None: any number. Of equals the smallest ids stay.

    Raises:
        DecodeError: the logits are not numbers.

    Source:
        `GenerationMixin._get_logits_processor` of transformers 4.57 warps in this order:
        temperature, top_k, top_p.
    """
    largest = logits[greedy(logits)]
    if top_k is None or top_k >= len(logits):
        order = np.argsort(-logits, kind="stable")
    else:
        # A sort of the whole vocabulary may take longer than a token of a small model.
        least = -np.partition(-logits, top_k - 1)[top_k - 1]
        among = np.flatnonzero(logits >= least)
        order = among[np.argsort(-logits[among], kind="stable")][:top_k]
    weights = np.exp((logits[order].astype(np.float64) - largest) / temperature)
    sums = np.cumsum(weights)
    kept = int(np.searchsorted(sums, top_p * sums[-1])) + 1
    # number * sum may round up to the sum itself.
    chosen = int(np.searchsorted(sums[:kept], number * sums[kept - 1], side="right"))
    return int(order[min(chosen, kept - 1)])


def choose(
    sampler: Sampler, logits: NDArray[np.float32], refuses: Callable[[int], bool] | None = None
) -> int:
    """Choose a token that is not refused; one that is refused is struck out and another chosen.

    Args:
        sampler: chooses.
        logits: [V] float32; not changed.
        refuses: says of a token whether it may not be chosen; None: every token may.

    Raises:
        DecodeError: the logits are not numbers, or every token is refused.
    """
    token = sampler(logits)
    if refuses is None or not refuses(token):
        return token
    left = logits.copy()
    while refuses(token):
        left[token] = -np.inf
        if left.max() == -np.inf:
            raise DecodeError("no token is left to choose from: the tokenizer has none with text")
        token = sampler(left)
    return token
