"""Shares of right answers, and differences of shares, with 95% intervals."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_Z = 1.96
_RESAMPLES = 4000
_SEED = 0

Interval = tuple[float, float]
"""Lower and upper bound."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    """Right answers among questions.

    Attributes:
        right: questions answered right.
        asked: questions asked, at least one.
    """

    right: int
    asked: int

    @property
    def share(self) -> float:
        """Right answers a question, 0 to 1."""
        return self.right / self.asked

    @property
    def interval(self) -> Interval:
        """The 95% interval of the share (Wilson, 1927)."""
        n = self.asked
        middle = (self.share + _Z * _Z / (2 * n)) / (1 + _Z * _Z / n)
        spread = math.sqrt(self.share * (1 - self.share) / n + (_Z / (2 * n)) ** 2)
        half = _Z / (1 + _Z * _Z / n) * spread
        return max(0.0, middle - half), min(1.0, middle + half)

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.share:.0%} ({low:.0%} to {high:.0%})"


@dataclass(frozen=True, slots=True)
class Gain:
    """A difference, estimated from questions.

    Attributes:
        value: the difference.
        interval: its 95% interval.
    """

    value: float
    interval: Interval

    @property
    def is_above_zero(self) -> bool:
        """Whether the whole interval lies above zero."""
        return self.interval[0] > 0


def mean_gain(gains: Sequence[float] | NDArray[np.float64]) -> Gain:
    """Average the gains of single questions.

    Args:
        gains: one number a question, at least one. Differences of two modes that answered the same
            questions are paired in this way.

    Returns:
        The mean, and its 95% interval: bootstrap over questions, percentiles.
    """
    values = np.asarray(gains, np.float64)
    rng = np.random.default_rng(_SEED)
    means = rng.choice(values, size=(_RESAMPLES, len(values))).mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return Gain(float(values.mean()), (float(low), float(high)))
