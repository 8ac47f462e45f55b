"""Compare two documents of the same benchmark: what changed beyond the noise.

The rule: a figure changed if its medians are apart by more than 3 % of the earlier one and by more
than the larger of the two spreads, the spread being the largest sample less the smallest. Figures
of fewer than three samples have no known spread, and are never said to have changed.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from edge_et.benchmarks.document import Document, Work
from edge_et.benchmarks.figures import Figure, figures
from edge_et.benchmarks.picture import is_drawn

LEAST_SHARE = 0.03
LEAST_SAMPLES = 3

Verdict = Literal["more", "less", "same", "unknown"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One figure of both documents.

    Attributes:
        before: of the earlier document.
        after: of the later one.
        verdict: what the rule says; unknown: too few samples.
    """

    before: Figure
    after: Figure
    verdict: Verdict

    @property
    def ratio(self) -> float | None:
        """The later median over the earlier one; None where that is zero."""
        return self.after.median / self.before.median if self.before.median else None


def verdict(before: tuple[float, ...], after: tuple[float, ...]) -> Verdict:
    """Say whether samples changed; see above for the rule.

    Args:
        before: samples of one figure, at least one.
        after: its samples in the later document, at least one.
    """
    if min(len(before), len(after)) < LEAST_SAMPLES:
        return "unknown"
    old, new = (
        Figure(configuration="", temperature="", measure="", unit="", values=values)
        for values in (before, after)
    )
    apart = abs(new.median - old.median)
    if apart <= max(LEAST_SHARE * abs(old.median), old.spread, new.spread):
        return "same"
    return "more" if new.median > old.median else "less"


def compare(before: Document, after: Document) -> list[Change]:
    """Return all figures that both documents have."""
    later = {_key(figure): figure for figure in figures(after)}
    return [
        Change(
            before=figure,
            after=later[_key(figure)],
            verdict=verdict(figure.values, later[_key(figure)].values),
        )
        for figure in figures(before)
        if _key(figure) in later
    ]


def differences(before: Document, after: Document) -> Iterator[str]:
    """Yield in words what else differs, so that figures may not be comparable."""
    for what, old, new in (
        ("machine", before.machine.cpu, after.machine.cpu),
        ("threads", before.threads, after.threads),
        ("bundle", before.bundle.sha256[:12], after.bundle.sha256[:12]),
        ("work", _work(before.work), _work(after.work)),
        ("commit", before.commit, after.commit),
        *(
            (name, before.versions.get(name), after.versions.get(name))
            for name in sorted(before.versions | after.versions)
        ),
    ):
        if old != new:
            yield f"{what}: {old} before, {new} after"
    old_names = {figure.configuration for figure in figures(before)}
    new_names = {figure.configuration for figure in figures(after)}
    for name in sorted(old_names ^ new_names):
        yield f"{name}: measured {'before' if name in old_names else 'after'} alone"


def is_same_work(before: Work, after: Work) -> bool:
    """Return whether two documents asked for the same; where the picture lay does not matter.

    The picture that is drawn has the same pixels everywhere, but other versions of Pillow make
    other files of them.
    """
    names = {Path(work.picture).name for work in (before, after)}
    if len(names) == 1 and is_drawn(after.picture):
        before = msgspec.structs.replace(before, picture_sha256=after.picture_sha256)
    return _work(before) == _work(after)


def print_comparison(before: Document, after: Document, console: Console) -> None:
    """Print what changed, and what makes the documents different otherwise.

    Args:
        before: the earlier document.
        after: the later one.
        console: where to.
    """
    for line in differences(before, after):
        console.print(line, markup=False, highlight=False)
    changes = compare(before, after)
    changed = [change for change in changes if change.verdict in ("more", "less")]
    if changed:
        table = Table("configuration", "question", "figure", "before", "after", "ratio")
        for change in changed:
            figure = change.before
            ratio = "" if change.ratio is None else f"{change.ratio:.2f}"
            cells = (figure.configuration, figure.temperature, figure.measure)
            table.add_row(*map(escape, cells), _told(change.before), _told(change.after), ratio)
        console.print(table)
    unknown = sum(change.verdict == "unknown" for change in changes)
    same = len(changes) - len(changed) - unknown
    told = f"{len(changed)} figures changed, {same} did not beyond the noise"
    if unknown:
        told += f", {unknown} have fewer than {LEAST_SAMPLES} samples"
    console.print(told + ".", highlight=False)


def _key(figure: Figure) -> tuple[str, str, str]:
    return figure.configuration, figure.temperature, figure.measure


def _work(work: Work) -> bytes:
    return msgspec.json.encode(msgspec.structs.replace(work, picture=""))


def _told(figure: Figure) -> str:
    factor, unit = {"s": (1e3, "ms"), "bytes": (1e-6, "MB")}.get(figure.unit, (1.0, figure.unit))
    return f"{figure.median * factor:.{1 if unit else 2}f} {unit}".rstrip()
