"""Draw the grid of perception against reasoning."""

from pathlib import Path

import numpy as np

from edge_et.benchmarks.plot import check_plot_path, save_plot
from edge_et.benchmarks.quality.quality_document import Grid
from edge_et.benchmarks.quality.quality_report import share
from edge_et.export.steps import needing_extra

with needing_extra("bench"):
    from matplotlib.figure import Figure

_DARK_BELOW = 0.5


def write_heat_map(grid: Grid, path: Path) -> None:
    """Draw a field a pair: the lighter, the more answers are right.

    Args:
        grid: of an evaluation.
        path: the file to write; its suffix tells the format.

    Raises:
        BenchError: the suffix is neither .png nor .svg.
        OutputError: the file cannot be written.
    """
    check_plot_path(path)
    shape = len(grid.perceivers), len(grid.reasoners)
    shares = np.array([pair.share.share for pair in grid.pairs]).reshape(shape)
    figure = Figure(figsize=(2.5 + 2.6 * shape[1], 1.8 + 1.3 * shape[0]), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(shares, vmin=0, vmax=1, cmap="viridis", aspect="auto")
    for index, pair in enumerate(grid.pairs):
        y, x = divmod(index, shape[1])
        axes.text(
            x,
            y,
            f"{share(pair.share)}\n{pair.weight_bytes / 1e6:.0f} MB\n{pair.cost.seconds:.2f} s",
            ha="center",
            va="center",
            color="white" if shares[y, x] < _DARK_BELOW else "black",
        )
    axes.set_xticks(range(shape[1]), [_label(half.model) for half in grid.reasoners])
    axes.set_yticks(range(shape[0]), [_label(half.model) for half in grid.perceivers])
    axes.set_xlabel("reasoner")
    axes.set_ylabel("perceiver")
    axes.set_title(f"right answers to {grid.asked} questions, 95% intervals")
    figure.colorbar(image, ax=axes, label="share of right answers")
    save_plot(figure, path)


def _label(model: str) -> str:
    """Return a bundle's name; a dollar sign is no formula."""
    return model.replace("$", r"\$")
