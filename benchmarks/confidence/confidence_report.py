"""Print an evaluation as tables for people."""

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from edge_et.benchmarks.confidence.confidence_document import (
    ConfidenceDocument,
    Curve,
    Estimate,
    Signal,
)

COVERAGES = (1.0, 0.9, 0.8, 0.7, 0.5)
"""Of which the risk is told."""


def print_confidence(document: ConfidenceDocument, console: Console) -> None:
    """Print what confidence tells, with 95% intervals.

    Args:
        document: an evaluation.
        console: where to.
    """
    found = document.outcome
    console.print(escape(f"{document.questions}, {document.created}"))
    console.print(escape(f"{found.model}: {found.right} of {found.asked} right"))
    _print_signals("right from wrong, AUC", found.signals, console)
    _print_curves(found.curves, console)
    for curve in found.curves:
        _print_bins(curve, console)
    faults = found.faults
    console.print(
        f"of {faults.seeing + faults.thinking} wrong answers {faults.seeing} are right with the "
        f"true extraction: doubt says seeing of {faults.seeing_told} of these, and thinking of "
        f"{faults.thinking_told} of the {faults.thinking} others"
    )
    _print_signals("whose fault, AUC", found.blame, console)
    cost = found.cost
    console.print(
        f"median: {cost.seconds:.2f} s an answer; the control {cost.control_seconds:.2f} s for "
        f"{cost.control_positions:g} positions"
    )


def _print_signals(title: str, signals: Sequence[Signal], console: Console) -> None:
    table = Table(title, "all questions", "first ten of each exam", "the others")
    for signal in signals:
        parts = (signal.auc, signal.first, signal.others)
        table.add_row(signal.name, *map(estimate, parts))
    console.print(table)


def _print_curves(curves: Sequence[Curve], console: Console) -> None:
    heads = (f"wrong of {coverage:.0%}" for coverage in COVERAGES)
    table = Table("score", "calibration error", "area of risk", *heads)
    for curve in curves:
        risks = (f"{risk_at(curve, coverage):.1%}" for coverage in COVERAGES)
        table.add_row(curve.name, estimate(curve.calibration_error), estimate(curve.area), *risks)
    console.print(table)


def _print_bins(curve: Curve, console: Console) -> None:
    table = Table(f"{curve.name} below", "answers", "mean", "right", "95% interval")
    for part in curve.bins:
        if part.score is None or part.right is None or part.interval is None:
            continue
        low, high = part.interval
        table.add_row(
            f"{part.below:.0%}",
            str(part.asked),
            f"{part.score:.0%}",
            f"{part.right:.0%}",
            f"{100 * low:.0f} to {high:.0%}",
        )
    console.print(table)


def risk_at(curve: Curve, coverage: float) -> float:
    """Return the share of wrong answers among so many of the surest ones.

    Args:
        curve: of at least one answer.
        coverage: share of the answers, over 0 and up to 1.
    """
    return curve.risks[max(round(coverage * len(curve.risks)), 1) - 1]


def estimate(found: Estimate) -> str:
    """Return a figure with its interval."""
    if found.value is None or found.interval is None:
        return "-"
    low, high = found.interval
    return f"{found.value:.3f} ({low:.3f} to {high:.3f})"
