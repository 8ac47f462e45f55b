"""AUC, calibration and risk against what can be counted by hand."""

import itertools

import numpy as np
import pytest

from edge_et.benchmarks.confidence.figures import (
    auc,
    aurc,
    calibration_error,
    reliability,
    risk_against_coverage,
    with_interval,
)


def scores(*values: float) -> np.ndarray:
    return np.array(values, np.float64)


def marks(text: str) -> np.ndarray:
    return np.array([c == "1" for c in text])


@pytest.mark.parametrize(
    ("values", "marked", "expected"),
    [
        ((0.1, 0.4, 0.35, 0.8), "0011", 0.75),  # the example of scikit-learn's roc_auc_score
        ((1, 2, 3, 4), "0011", 1.0),
        ((1, 2, 3, 4), "1100", 0.0),
        ((5, 5, 5, 5), "0101", 0.5),
        ((1, 2, 2, 3), "0101", 0.875),  # of four pairs three, and a tie
    ],
)
def test_auc(values: tuple[float, ...], marked: str, expected: float):
    assert auc(scores(*values), marks(marked)) == pytest.approx(expected)


def test_auc_counts_pairs():
    rng = np.random.default_rng(0)
    values, marked = rng.integers(0, 6, 40).astype(float), rng.random(40) < 0.3
    pairs = list(itertools.product(values[marked], values[~marked]))
    expected = np.mean([(high > low) + (high == low) / 2 for high, low in pairs])
    assert auc(values, marked) == pytest.approx(expected)


@pytest.mark.parametrize("marked", ["111", "000"])
def test_there_is_no_auc_of_one_kind(marked: str):
    assert np.isnan(auc(scores(1, 2, 3), marks(marked)))


def test_risk_is_the_share_of_wrong_answers_among_the_surest():
    right = marks("1011")
    found = risk_against_coverage(scores(0.5, 0.9, 0.8, 0.1), right)
    assert found == pytest.approx([1, 1 / 2, 1 / 3, 1 / 4])
    assert aurc(scores(0.5, 0.9, 0.8, 0.1), right) == pytest.approx(np.mean(found))


def test_risk_of_equals_is_the_mean_over_their_orders():
    values, right = scores(0.9, 0.5, 0.5, 0.5, 0.1), marks("11001")
    one_by_one = [
        risk_against_coverage(scores(5, 4, 3, 2, 1), right[[0, *order, 4]])
        for order in itertools.permutations((1, 2, 3))
    ]
    assert risk_against_coverage(values, right) == pytest.approx(np.mean(one_by_one, axis=0))


def test_risk_of_answers_that_are_all_as_sure_is_the_share_of_wrong_ones():
    found = risk_against_coverage(scores(*[0.7] * 4), marks("1110"))
    assert found == pytest.approx([0.25] * 4)


def test_calibration_is_compared_bin_by_bin():
    values = scores(0.95, 0.91, 1.0, 0.33, 0.37, 0.0)
    right = marks("110010")
    expected = (abs(2.86 - 2) + abs(0.7 - 1) + 0) / 6
    assert calibration_error(values, right) == pytest.approx(expected)
    bins = reliability(values, right)
    assert [part.asked for part in bins] == [1, 0, 0, 2, 0, 0, 0, 0, 0, 3]
    assert (bins[9].below, bins[9].score, bins[9].right) == pytest.approx((1, 2.86 / 3, 2 / 3))
    assert bins[9].interval is not None
    assert bins[9].interval[0] < 2 / 3 < bins[9].interval[1]
    assert (bins[1].score, bins[1].right, bins[1].interval) == (None, None, None)


def test_a_perfect_probability_is_calibrated():
    assert calibration_error(scores(1, 1, 0), marks("110")) == 0


def test_intervals_hold_the_figure_and_are_the_same_again():
    rng = np.random.default_rng(3)
    marked = rng.random(80) < 0.5
    values = marked + rng.normal(0, 1, 80)
    value, (low, high) = with_interval(auc, values, marked)
    assert low < value < high
    assert high - low < 0.4
    assert with_interval(auc, values, marked) == (value, (low, high))


def test_resamples_without_a_figure_count_nowhere():
    value, (low, high) = with_interval(auc, scores(1, 2, 3), marks("001"))
    assert (value, low, high) == (1.0, 1.0, 1.0)
    value, interval = with_interval(auc, scores(1, 2), marks("11"))
    assert np.isnan([value, *interval]).all()
