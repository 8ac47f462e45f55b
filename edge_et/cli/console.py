"""What the commands share: text that is safe to show, progress, and reports of tool steps."""

import sys
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, Self

from edge_et import results

if TYPE_CHECKING:
    from edge_et.export.steps import Progress, StepReport


def printable(text: str) -> str:
    """Replace control characters, which could steer a terminal; line ends and tabs stay.

    Args:
        text: from a model or a file.
    """
    return "".join(
        c
        if c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cf")
        else "\N{REPLACEMENT CHARACTER}"
        for c in text
    )


def megabytes(size_bytes: int) -> str:
    """Write a size for people.

    Args:
        size_bytes: bytes.
    """
    return f"{size_bytes / 1e6:.1f} MB"


@contextmanager
def progress_bar() -> "Iterator[Progress]":
    """Show the progress of a tool on stderr while the block runs; nothing stays of it.

    Yields:
        What a tool calls with what it does, how much is done, and how much there is.
    """
    from rich.console import Console
    from rich.progress import Progress as Bar

    console = Console(stderr=True)
    with Bar(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=None)

        def show(what: str, done: int, total: int) -> None:
            bar.update(task, description=what, completed=done, total=total)

        yield show


class ProgressLine:
    """How far an answer is, on one line of stderr if that is a terminal; nothing stays of it."""

    _WORK: ClassVar = {
        "hint": "asking for a hint",
        "extract": "looking",
        "think": "thinking",
        "answer": "answering",
    }

    def __init__(self) -> None:
        """Show nothing yet."""
        self._bar: Any = None
        self._task: Any = None

    def show(self, progress: results.Progress) -> None:
        """Show a line, or change it.

        Args:
            progress: of an answer.
        """
        if not sys.stderr.isatty():
            return
        if self._bar is None:
            from rich.console import Console
            from rich.progress import Progress as Bar

            self._bar = Bar(console=Console(stderr=True), transient=True)
            self._task = self._bar.add_task("")
            self._bar.start()
        if progress.phase == "encode":
            what = "encoding the picture"
        elif progress.phase == "prefill":
            what = "reading the prompt"
        else:
            what = self._WORK[progress.stage]
        self._bar.update(
            self._task, description=what, completed=progress.done, total=progress.total
        )

    def hide(self) -> None:
        """Take the line away, if there is one."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.hide()


def print_reports(reports: "Iterable[StepReport]") -> None:
    """Print a table of tool steps: size, error, limit, time.

    Args:
        reports: one row each.
    """
    from rich.console import Console
    from rich.table import Table

    table = Table("step", "size", "error", "limit", "measure", "time", "details")
    for report in reports:
        table.add_row(
            report.name,
            megabytes(report.size_bytes),
            _figure(report.error),
            _figure(report.limit),
            report.measure,
            f"{report.seconds:.1f} s",
            ", ".join(f"{name} {value:.6g}" for name, value in report.details.items()),
        )
    Console().print(table)


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"
