"""Figures: what a document's samples become."""

import pytest

from edge_et.benchmarks.figures import Figure


def figure(*values: float) -> Figure:
    return Figure(configuration="", temperature="first", measure="answer", unit="s", values=values)


@pytest.mark.parametrize(
    ("values", "median", "spread"),
    [((3.0, 1.0, 8.0), 3.0, 7.0), ((1.0, 2.0), 1.5, 1.0), ((4.0,), 4.0, 0.0)],
)
def test_a_figure_is_its_middle_sample_and_its_spread(
    values: tuple[float, ...], median: float, spread: float
):
    found = figure(*values)
    assert (found.median, found.spread) == (median, spread)
