"""How far logits are from those that they should be.

In: logits of the same tokens, twice. Out: numbers. What distance is accepted is not known here.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Distance:
    """How far one set of logits is from another.

    Attributes:
        kl: mean Kullback-Leibler divergence over the positions, nats; infinite where a logit is not
            finite.
        flipped: the largest difference of the reference's two best logits at a position at which
            another token is best; 0 where there is none.
    """

    kl: float
    flipped: float


def compare(reference: NDArray[np.floating], found: NDArray[np.floating]) -> Distance:
    """Compare logits, position by position.

    Args:
        reference: what they should be, [n, V].
        found: what they are, [n, V].
    """
    if not np.isfinite(found).all():
        return Distance(np.inf, np.inf)
    divergences, flipped = [], 0.0
    for expected, logits in zip(reference, found, strict=True):
        wanted, given = _log_softmax(expected), _log_softmax(logits)
        divergences.append(float((np.exp(wanted) * (wanted - given)).sum()))
        second, first = np.partition(wanted, -2)[-2:]
        if given[wanted.argmax()] < given.max():
            flipped = max(flipped, float(first - second))
    return Distance(float(np.mean(divergences)), flipped)


def _log_softmax(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    shifted = logits.astype(np.float64) - float(logits.max())
    return np.asarray(shifted - np.log(np.exp(shifted).sum()))
