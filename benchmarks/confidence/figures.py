"""Figures of scores that should tell right from wrong: AUC, calibration, risk against coverage.

In: a score a question, and whether it was right. Out: numbers, with 95% intervals by bootstrap over
questions. What the scores are is not known here.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_et.benchmarks.quality.accuracy import Accuracy, Interval

Scores = NDArray[np.float64]
"""float64 [questions]."""

Marks = NDArray[np.bool_]
"""bool [questions]."""

BINS = 10

_RESAMPLES = 1000
_SEED = 0


def auc(scores: Scores, marks: Marks) -> float:
    """Return how often a marked question has the higher score of two, one of each; a tie is half.

    Args:
        scores: of the questions.
        marks: those that should have high scores.

    Returns:
        0 to 1; NaN where all are marked, or none is.
    """
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[place]
    marked = int(marks.sum())
    pairs = marked * (len(marks) - marked)
    if not pairs:
        return float("nan")
    return float((ranks[marks].sum() - marked * (marked + 1) / 2) / pairs)


def risk_against_coverage(scores: Scores, right: Marks) -> Scores:
    """Return the share of wrong answers among the surest ones.

    Args:
        scores: how sure each answer is. Of equals it is the mean over all orders.
        right: which are right.

    Returns:
        float64 [questions]: of the surest one, of the two surest, and so on.
    """
    values, place, counts = np.unique(-scores, return_inverse=True, return_counts=True)
    wrong = np.bincount(place, weights=~right, minlength=len(values))
    of_each = np.repeat(wrong / counts, counts)
    return np.cumsum(of_each) / np.arange(1, len(scores) + 1)


def aurc(scores: Scores, right: Marks) -> float:
    """Return the area under risk against coverage: its mean over all numbers of answers."""
    return float(risk_against_coverage(scores, right).mean())


def calibration_error(scores: Scores, right: Marks) -> float:
    """Return the expected calibration error: the distance of score and share right, by questions.

    Args:
        scores: 0 to 1, in `BINS` bins of equal width.
        right: which answers are right.
    """
    here = _bins(scores)
    gaps = np.bincount(here, weights=scores - right, minlength=BINS)
    return float(np.abs(gaps).sum() / len(scores))


@dataclass(frozen=True, slots=True, kw_only=True)
class Bin:
    """Answers whose scores lie in some range.

    Attributes:
        below: end of the range, which only the last bin holds itself.
        asked: how many there are.
        score: mean of their scores; None: there are none.
        right: share that is right; None likewise.
        interval: its 95% interval (Wilson); None likewise.
    """

    below: float
    asked: int
    score: float | None = None
    right: float | None = None
    interval: Interval | None = None


def reliability(scores: Scores, right: Marks) -> list[Bin]:
    """Return `BINS` bins of equal width; see `calibration_error`."""
    place = _bins(scores)
    found = []
    for index in range(BINS):
        here = place == index
        below = (index + 1) / BINS
        if not here.any():
            found.append(Bin(below=below, asked=0))
            continue
        share = Accuracy(right=int(right[here].sum()), asked=int(here.sum()))
        found.append(
            Bin(
                below=below,
                asked=share.asked,
                score=float(scores[here].mean()),
                right=share.share,
                interval=share.interval,
            )
        )
    return found


def with_interval(
    figure: Callable[[Scores, Marks], float], scores: Scores, marks: Marks
) -> tuple[float, Interval]:
    """Return a figure and its 95% interval: bootstrap over questions, percentiles.

    Args:
        figure: such as `auc`. Where a resample has none, it counts nowhere.
        scores: of the questions, at least one.
        marks: of the same.
    """
    rng = np.random.default_rng(_SEED)
    drawn = rng.integers(len(scores), size=(_RESAMPLES, len(scores)))
    found = np.array([figure(scores[these], marks[these]) for these in drawn])
    found = found[~np.isnan(found)]
    low, high = np.percentile(found, [2.5, 97.5]) if len(found) else (np.nan, np.nan)
    return figure(scores, marks), (float(low), float(high))


def _bins(scores: Scores) -> NDArray[np.int64]:
    return np.minimum((scores * BINS).astype(np.int64), BINS - 1)
