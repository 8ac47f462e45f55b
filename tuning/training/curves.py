"""Pictures of a training log: loss and accuracy over steps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from edge_et.errors import TuningError
from edge_et.export.steps import atomic_output

_SMOOTHED_SHARE = 0.05


def draw_curves(log: Path, out: Path) -> None:
    """Draw a log.

    Args:
        log: JSON Lines with a record a step: "step", "loss", and now and then "right", accuracies
            by name. A last line that a kill cut off is passed over.
        out: the PNG file to write, replaced if it exists.

    Raises:
        TuningError: the log holds no steps, or a line that is no record.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    records = read_log(log)
    steps = np.array([record["step"] for record in records])
    losses = np.array([record["loss"] for record in records])
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.plot(steps, losses, color="tab:blue", alpha=0.25, linewidth=0.8)
    axes.plot(steps, _smoothed(losses), color="tab:blue", label="loss")
    axes.set_xlabel("step")
    axes.set_ylabel("loss")
    axes.set_ylim(0, max(float(np.quantile(losses, 0.98)), 1e-3) * 1.1)
    shares = axes.twinx()
    shares.set_prop_cycle(color=["tab:orange", "tab:green", "tab:red", "tab:purple"])
    shares.set_ylim(0, 1)
    shares.set_ylabel("right")
    names = sorted({name for record in records for name in record.get("right", {})})
    for name in names:
        measured = [record for record in records if name in record.get("right", {})]
        shares.plot(
            [record["step"] for record in measured],
            [record["right"][name] for record in measured],
            marker="o",
            markersize=3,
            label=name,
        )
    figure.legend(loc="outside upper center", ncols=1 + len(names))
    with atomic_output(out) as partial:
        figure.savefig(partial, format="png", dpi=110)


def read_log(log: Path) -> list[dict[str, Any]]:
    """Read a training log; see `draw_curves`."""
    records = []
    lines = log.read_text().splitlines()
    for number, line in enumerate(lines, 1):
        try:
            records.append(json.loads(line))
        except (ValueError, RecursionError) as err:
            if number < len(lines):
                raise TuningError(f"{log}:{number} is no record of a step: {err}") from err
    if not records:
        raise TuningError(f"{log} holds no steps")
    return records


def _smoothed(values: np.ndarray) -> np.ndarray:
    """Average over a moving window, shorter at both ends."""
    window = max(1, int(len(values) * _SMOOTHED_SHARE))
    ones = np.ones(window)
    return np.convolve(values, ones, "same") / np.convolve(np.ones(len(values)), ones, "same")
