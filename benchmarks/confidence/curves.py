"""Draw an evaluation: how often answers of a confidence are right, and risk against coverage."""

from pathlib import Path

import numpy as np

from edge_et.benchmarks.confidence.confidence_document import Outcome
from edge_et.benchmarks.plot import check_plot_path, save_plot
from edge_et.export.steps import needing_extra

with needing_extra("bench"):
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def write_curves(outcome: Outcome, path: Path) -> None:
    """Draw the reliability diagram with 95% intervals, and risk against coverage.

    Args:
        outcome: of an evaluation.
        path: the file to write; its suffix tells the format.

    Raises:
        BenchError: the suffix is neither .png nor .svg.
        OutputError: the file cannot be written.
    """
    check_plot_path(path)
    figure = Figure(figsize=(10, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    _draw_reliability(outcome, left)
    _draw_risks(outcome, right)
    figure.suptitle(f"{outcome.model.rpartition(' ')[0]}: {outcome.asked} questions about scenes")
    save_plot(figure, path)


def _draw_reliability(outcome: Outcome, axes: Axes) -> None:
    axes.plot([0, 1], [0, 1], color="grey", linestyle=":", label="calibrated")
    for index, curve in enumerate(outcome.curves):
        found = [
            (part.score, part.right, part.interval)
            for part in curve.bins
            if part.score is not None and part.right is not None and part.interval is not None
        ]
        score, share, intervals = map(np.array, zip(*found, strict=True))
        spread = np.abs(intervals.T - share)
        axes.errorbar(score, share, spread, marker="o", color=f"C{index}", label=curve.name)
    axes.set(xlabel="confidence, mean of a bin", ylabel="share of right answers")
    axes.set(xlim=(0, 1.02), ylim=(0, 1.02))
    axes.legend(loc="upper left")


def _draw_risks(outcome: Outcome, axes: Axes) -> None:
    coverage = np.arange(1, outcome.asked + 1) / outcome.asked
    for index, curve in enumerate(outcome.curves):
        axes.plot(coverage, curve.risks, color=f"C{index}", label=curve.name)
    wrong = 1 - outcome.right / outcome.asked
    axes.axhline(wrong, color="grey", linestyle=":", label="left out by chance")
    best = np.maximum(coverage - (1 - wrong), 0) / coverage
    axes.plot(coverage, best, color="grey", linestyle="--", label="the best there can be")
    axes.set(xlabel="share of answers that are given", ylabel="share of these that is wrong")
    axes.set(xlim=(0, 1), ylim=(0, None))
    axes.legend(loc="upper right")
