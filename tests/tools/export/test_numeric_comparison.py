import numpy as np
import pytest

from edge_et.export.numeric_comparison import max_abs_error, row_cosines, row_divergences


def test_max_abs_error_counts_nan_as_infinite() -> None:
    zeros = np.zeros(3, np.float32)
    assert max_abs_error(np.array([0.0, -2.0, 1.0]), zeros) == 2.0
    assert max_abs_error(np.array([0.0, np.nan, 1.0]), zeros) == np.inf


def test_cosines_of_rows() -> None:
    reference = np.array([[1.0, 0.0], [1.0, 0.0], [1.0, 1.0], [1.0, 0.0]])
    actual = np.array([[3.0, 0.0], [0.0, 2.0], [-1.0, -1.0], [np.nan, 0.0]])
    assert row_cosines(actual, reference) == pytest.approx([1.0, 0.0, -1.0, 0.0])


def test_a_row_without_length_does_not_pass_for_alike() -> None:
    assert row_cosines(np.zeros((1, 4)), np.ones((1, 4))).tolist() == [0.0]


def test_divergence_is_that_of_the_distributions() -> None:
    reference = np.log(np.array([[0.5, 0.25, 0.25]]))
    actual = np.log(np.array([[0.25, 0.5, 0.25]])) + 7.0
    expected = 0.5 * np.log(2.0) + 0.25 * np.log(0.5)
    assert row_divergences(actual, reference) == pytest.approx([expected])
    assert row_divergences(np.full((1, 3), np.nan), reference).tolist() == [np.inf]


def test_different_shapes_are_refused() -> None:
    for compare in (max_abs_error, row_cosines, row_divergences):
        with pytest.raises(ValueError, match="shapes differ"):
            compare(np.zeros((1, 2)), np.zeros((2, 2)))
