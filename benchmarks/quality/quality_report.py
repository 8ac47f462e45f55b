"""Print an evaluation as tables for people."""

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from edge_et.benchmarks.quality.quality_document import (
    ChoiceFigures,
    Cost,
    Grid,
    Half,
    ModeComparison,
    QualityDocument,
    Row,
    Share,
)


def print_quality(document: QualityDocument, console: Console) -> None:
    """Print accuracies with 95% intervals, and what they cost.

    Args:
        document: an evaluation.
        console: where to.
    """
    console.print(escape(f"{document.questions}, {document.created}"))
    if document.modes is not None:
        _print_modes(document.modes, console)
    if document.grid is not None:
        _print_grid(document.grid, console)


def _print_modes(modes: ModeComparison, console: Console) -> None:
    names = list(modes.overall.modes)
    heads = (name.replace("-", "-\n") for name in names)
    table = Table("questions", *heads, "guessing", title=escape(modes.model))
    for column in table.columns[1:]:
        column.justify = "right"
    for row in modes.rows:
        table.add_row(*_cells(row))
    table.add_section()
    table.add_row(*_cells(modes.overall))
    table.add_row("median", *(_cost(modes.costs[name]) for name in names), "")
    console.print(table)
    overall = [found for found in modes.differences if found.kind is None]
    if overall:
        table = Table(f"{overall[0].mode} against", "gain in points", "95% interval")
        for found in overall:
            low, high = found.interval
            table.add_row(
                found.other,
                f"{100 * found.gain:+.1f}",
                f"{100 * low:+.1f} to {100 * high:+.1f}",
            )
        console.print(table)
    if modes.choices is not None:
        _print_choices(modes.choices, console)


def _print_choices(found: ChoiceFigures, console: Console) -> None:
    table = Table("share below", "choices", "mean share", "right")
    for column in table.columns[1:]:
        column.justify = "right"
    for part in found.bins:
        shown = ("-" if value is None else f"{value:.0%}" for value in (part.share, part.right))
        table.add_row(f"{part.below:.0%}", str(part.asked), *shown)
    console.print(table)
    console.print(f"expected calibration error {100 * found.calibration_error:.1f} points")
    if (bias := found.length_bias) is not None:
        console.print(
            f"of {bias.wrong} wrong choices {bias.picked_longer:.0%} were longer than the right "
            f"one and {bias.picked_shorter:.0%} shorter; of the wrong texts on offer "
            f"{bias.offered_longer:.0%} and {bias.offered_shorter:.0%}"
        )


def _print_grid(grid: Grid, console: Console) -> None:
    table = Table(
        "perceiver \\ reasoner",
        *(_half(half) for half in grid.reasoners),
        title=f"{grid.asked} questions: right, 95% interval, weights, median time and tokens",
    )
    for half in grid.perceivers:
        pairs = [pair for pair in grid.pairs if pair.perceiver == half.model]
        cells = (
            f"{share(pair.share)}\n{pair.weight_bytes / 1e6:.0f} MB\n{_cost(pair.cost)}"
            for pair in pairs
        )
        table.add_row(_half(half), *cells, end_section=True)
    console.print(table)
    console.print(escape(grid.advice))


def share(found: Share) -> str:
    """Return a share and its interval in percent, on two lines."""
    low, high = found.interval
    return f"{found.share:.0%}\n{100 * low:.0f} to {high:.0%}"


def _cells(row: Row) -> Sequence[str]:
    name = "all" if row.kind is None else escape(row.kind)
    return (f"{name}\n{row.asked} asked", *map(share, row.modes.values()), f"{row.guessing:.0%}")


def _half(half: Half) -> str:
    return escape(f"{half.model}\n{half.weight_bytes / 1e6:.0f} MB\n{_cost(half.cost)}")


def _cost(cost: Cost) -> str:
    return f"{cost.seconds:.2f} s\n{cost.tokens:g} tokens"
