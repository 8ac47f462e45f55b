"""Sampling: a sampler is a callable from logits to a token.

In: logits ``[V]``, those of the tokenizer's ids. Out: an id. What the ids mean is not known here.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from edge_et.errors import DecodeError
from edge_et.manifest import Sampling

Sampler = Callable[[NDArray[np.float32]], int]


def new_sampler(sampling: Sampling) -> Sampler:
    """Return a sampler; for a temperature over 0 it holds random numbers of its own.

    Args:
        sampling: temperature, probability mass and seed.
    """
    if sampling.temperature == 0:
        return greedy
    numbers = np.random.default_rng(sampling.seed)

    def draw(logits: NDArray[np.float32]) -> int:
        return nucleus(logits, sampling.temperature, sampling.top_p, numbers.random())

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


def nucleus(logits: NDArray[np.float32], temperature: float, top_p: float, number: float) -> int:
    """Choose among the most probable tokens that together reach a probability.

    Args:
        logits: [V] float32.
        temperature: what the logits are divided by, over 0.
        top_p: the probability to reach, over 0 and up to 1; the token that reaches it counts too.
        number: random, 0 <= number < 1.

    Raises:
        DecodeError: the logits are not numbers.
    """
    largest = logits[greedy(logits)]
    weights = np.exp((logits.astype(np.float64) - largest) / temperature)
    order = np.argsort(-weights, kind="stable")
    sums = np.cumsum(weights[order])
    kept = int(np.searchsorted(sums, top_p * sums[-1])) + 1
    # number * sum may round up to the sum itself.
    chosen = int(np.searchsorted(sums[:kept], number * sums[kept - 1], side="right"))
    return int(order[min(chosen, kept - 1)])
