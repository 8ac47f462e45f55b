"""The paper's comparison (section 5) at our size: modes of answering on the same questions."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from edge_et.benchmarks.quality.accuracy import mean_gain
from edge_et.benchmarks.quality.modes import MODES
from edge_et.tuning.evaluation.evaluate import Trial, accuracy


def paired_difference(
    trials: Sequence[Trial], mode: str, other: str
) -> tuple[float, tuple[float, float]]:
    """Compare two modes of answering, question by question.

    Args:
        trials: questions that both answered.
        mode: a key of `MODES`.
        other: another.

    Returns:
        By how much the first is right more often, and the 95% interval of that (bootstrap over
        questions, percentiles).
    """
    gain = mean_gain([float(t.is_right(mode)) - float(t.is_right(other)) for t in trials])
    return gain.value, gain.interval


def comparison(trials: Sequence[Trial], two_step_exams: Collection[str]) -> str:
    """Write Markdown tables: accuracies by steps, and what extract-then-think gains over each.

    Args:
        trials: to compare.
        two_step_exams: names of the exams whose answers take a step from what is seen.
    """
    modes = [mode for mode in MODES if all(mode in trial.replies for trial in trials)]
    groups = {
        "all": list(trials),
        "one step": [trial for trial in trials if trial.exam not in two_step_exams],
        "two steps": [trial for trial in trials if trial.exam in two_step_exams],
    }
    groups = {name: some for name, some in groups.items() if some}
    lines = [f"| questions | asked | {' | '.join(modes)} |", "|---|---:|" + "---:|" * len(modes)]
    for name, some in groups.items():
        cells = []
        for mode in modes:
            found = accuracy(some, mode)
            low, high = found.interval
            cells.append(f"{found.share:.1%} ({low:.0%} to {high:.0%})")
        lines.append(f"| {name} | {len(some)} | {' | '.join(cells)} |")
    lines += ["", "| extract-think against | questions | gain in points | 95% interval |"]
    lines.append("|---|---|---:|---:|")
    first = next(iter(MODES))
    for other in modes:
        if other == first:
            continue
        for name, some in groups.items():
            gain, (low, high) = paired_difference(some, first, other)
            lines.append(
                f"| {other} | {name} | {100 * gain:+.1f} | {100 * low:+.1f} to {100 * high:+.1f} |"
            )
    return "\n".join(lines)
