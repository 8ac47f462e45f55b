"""`edge-et batch`: questions about many pictures, in a run that can be killed and gone on with."""

import sys
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Any

import click

from edge_et.cli.console import printable, progress_bar
from edge_et.cli.options import OF_PROGRAMS, add_options
from edge_et.options import AnswerOptions, LoadOptions

if TYPE_CHECKING:
    from edge_et.batch import BatchProgress, BatchSummary

_OF_SEVERAL = ("image_kv_bytes", "max_images", "max_images_bytes")
"""What no row needs: it has one picture."""

_OF_LOAD = tuple(
    name for name in LoadOptions.__struct_fields__ if name not in (*OF_PROGRAMS, *_OF_SEVERAL)
)
_LINE_S = 60.0
"""So often a run tells how far it is where stderr is no terminal."""


@click.command()
@click.argument("inputs", metavar="INPUT...", nargs=-1, required=True)
@click.option("--out", required=True, help="A .jsonl, .ndjson or .parquet file.")
@click.option("--question", help="Asked about pictures that bring no question.")
@click.option("--model", help="A bundle's name or folder; the installed mini if omitted.")
@click.option(
    "--workers",
    default=1,
    type=click.IntRange(1, 512),
    help="Processes that answer; each loads the bundle, and has its share of the CPUs.",
)
@click.option("--retry-errors", is_flag=True, help="Ask rows that have an error again.")
@add_options(LoadOptions, only=_OF_LOAD)
@add_options(AnswerOptions)
def batch(
    inputs: tuple[str, ...],
    out: str,
    question: str | None,
    model: str | None,
    workers: int,
    retry_errors: bool,
    **options: Any,
) -> int:
    """Answer questions about many pictures; a run that was ended goes on with the same command.

    INPUT is a folder of pictures, a picture, a table (.csv, .jsonl, .ndjson, .parquet) with the
    columns image and question, or a pattern of such files in quotes. Paths in a table are relative
    to its folder; any file that you may read can be named, and URLs are not fetched. Each row of
    the output has its number, the columns of the input, the answer or an error. docs/batch.md tells
    all of it. The exit status is 1 where no row has an answer.
    """
    from edge_et.batch import answer_all

    of_load = {name: options.pop(name) for name in _OF_LOAD}
    told = ""
    try:
        with progress_bar() as bar:
            tell = _tell_on(bar)

            def note(progress: "BatchProgress") -> None:
                nonlocal told
                if progress.phase != "read":
                    told = f"{progress.done} of {progress.total} rows are done"
                tell(progress)

            summary = answer_all(
                inputs,
                out,
                question=question,
                model=model,
                workers=workers,
                retry_errors=retry_errors,
                options=options,
                load_options=of_load,
                on_progress=note,
            )
    except KeyboardInterrupt:
        if told:
            print(f"{told}; the same command goes on", file=sys.stderr)
        raise
    print(_summary(summary, out), file=sys.stderr)
    return 1 if summary.failed == summary.rows else 0


def _tell_on(bar: Callable[[str, int, int], None]) -> Callable[["BatchProgress"], None]:
    """Return what shows progress: as a bar on a terminal, elsewhere as a line now and then."""
    last_s = monotonic()

    def tell(progress: "BatchProgress") -> None:
        nonlocal last_s
        what = _WORK[progress.phase]
        if progress.rows_per_minute is not None:
            what += f", {progress.rows_per_minute:.1f} rows/min"
        bar(what, progress.done, progress.total)
        if not sys.stderr.isatty() and monotonic() - last_s > _LINE_S:
            last_s = monotonic()
            print(f"{what}: {progress.done} of {progress.total}", file=sys.stderr, flush=True)

    return tell


_WORK = {"read": "reading pictures", "load": "loading the bundle", "answer": "answering"}


def _summary(summary: "BatchSummary", out: str) -> str:
    text = f"{printable(out)}: {summary.rows} rows about {summary.pictures} different pictures"
    text += f", {summary.answered} of them done now"
    if summary.rows_per_minute is not None:
        text += f", {summary.rows_per_minute:.1f} a minute"
    if summary.failed:
        text += f"; {summary.failed} have an error, which --retry-errors asks again"
    if summary.skipped:
        text += f"; {summary.skipped} files were left out, which are no pictures by their names"
    return text
