"""`edge-et bench quality`: how often bundles are right, and which half of them decides it."""

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge_et.cli.console import printable, progress_bar
from edge_et.cli.renamed import CommandWithMode

if TYPE_CHECKING:
    from edge_et.benchmarks.quality.evaluate_quality import QuestionSet
    from edge_et.benchmarks.quality.questions import BrokenQuestion
    from edge_et.export.steps import Progress

PATH = click.Path(path_type=Path)
_SEVERAL = ("--perceivers", "--reasoners")
_SHOWN = 5
_EACH = 20


class _Quality(CommandWithMode):
    """Lets several values follow an option, as if it were repeated: `--perceivers A B`.

    It has no arguments that such a value could be mistaken for.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        spread: list[str] = []
        several = None
        for position, arg in enumerate(args):
            if arg.startswith("-"):
                several = arg if arg in _SEVERAL else None
            elif several is not None and args[position - 1] != several:
                spread.append(several)
            spread.append(arg)
        return super().parse_args(ctx, spread)


@click.command(cls=_Quality)
@click.option("--model", help="A bundle's name or folder; the installed mini if omitted.")
@click.option(
    "--questions",
    type=PATH,
    help="JSON Lines of image, question, answer, choices, kind; built-in scenes if omitted.",
)
@click.option("--exam", "exams", multiple=True, help="Of the scenes; all if omitted. Repeatable.")
@click.option(
    "--each", type=click.IntRange(min=1), help="Questions an exam of the scenes; 20 if omitted."
)
@click.option(
    "--assets", type=PATH, default=Path("runs/assets"), help="Folder of downloads for the scenes."
)
@click.option(
    "--mode",
    "modes",
    type=click.Choice(
        [
            "extract-think",
            "extract-answer",
            "extraction",
            "caption-think",
            "direct",
            "choices",
            "look-again",
        ]
    ),
    multiple=True,
    help="How to answer, repeatable; the paper's four if omitted.",
)
@click.option(
    "--perceivers", multiple=True, metavar="A B ...", help="Bundles that see, for the grid."
)
@click.option(
    "--reasoners", multiple=True, metavar="C D ...", help="Bundles that think, for the grid."
)
@click.option("--results", type=PATH, help="JSON Lines of answers, gone on with if it exists.")
@click.option("--threads", type=int, help="Threads; all CPUs of this process if omitted.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.option("--plot", type=PATH, help="PNG or SVG file to draw the grid to.")
def quality(
    model: str | None,
    questions: Path | None,
    exams: tuple[str, ...],
    each: int | None,
    assets: Path,
    modes: tuple[str, ...],
    perceivers: tuple[str, ...],
    reasoners: tuple[str, ...],
    results: Path | None,
    threads: int | None,
    as_json: bool,
    plot: Path | None,
) -> None:
    """Ask questions with known answers, and print how often a bundle is right, with 95% intervals.

    With --perceivers and --reasoners every reasoner thinks over what every perceiver wrote: which
    half is worth its memory? docs/benchmarks.md explains questions, scoring and figures.
    """
    if bool(perceivers) != bool(reasoners):
        raise click.UsageError("--perceivers and --reasoners make a grid together; give both")
    if perceivers and (model is not None or modes):
        raise click.UsageError("--model and --mode are for one bundle; leave them out for a grid")
    if plot is not None and not perceivers:
        raise click.UsageError("--plot draws the grid of --perceivers and --reasoners")
    if questions is not None and (exams or each is not None):
        raise click.UsageError("--exam and --each are for the built-in scenes, not for --questions")
    import msgspec
    from rich.console import Console

    from edge_et.benchmarks.quality.evaluate_quality import (
        default_modes,
        evaluate_grid,
        evaluate_modes,
    )
    from edge_et.benchmarks.quality.quality_report import print_quality
    from edge_et.bundle import find_bundle, load_bundle

    if plot is not None:
        from edge_et.benchmarks.plot import check_plot_path

        check_plot_path(plot)
    names = (*perceivers, *reasoners) if perceivers else (model,)
    bundles = [load_bundle(find_bundle(name)) for name in names]
    arguments = sys.argv[1:]
    with progress_bar() as progress, results_file(results) as path:
        asked = _questions(questions, exams, each or _EACH, assets, progress)
        if perceivers:
            seeing, thinking = bundles[: len(perceivers)], bundles[len(perceivers) :]
            document = evaluate_grid(
                seeing,
                thinking,
                asked,
                path,
                threads=threads,
                arguments=arguments,
                progress=progress,
            )
        else:
            document = evaluate_modes(
                bundles[0],
                asked,
                modes or default_modes(bundles[0]),
                path,
                threads=threads,
                arguments=arguments,
                progress=progress,
            )
    _tell("not asked", document.broken)
    _tell("counted as wrong", document.failed)
    if as_json:
        print(msgspec.json.format(msgspec.json.encode(document), indent=2).decode())
    else:
        print_quality(document, Console())
    if plot is not None and document.grid is not None:
        from edge_et.benchmarks.quality.heat_map import write_heat_map

        write_heat_map(document.grid, plot)


@contextmanager
def results_file(given: Path | None) -> Iterator[Path]:
    """Give the file that answers are kept in; where none was given, it vanishes with the block."""
    if given is not None:
        yield given
        return
    with tempfile.TemporaryDirectory(prefix="edge-et-quality-") as folder:
        yield Path(folder) / "results.jsonl"


def _questions(
    path: Path | None, exams: tuple[str, ...], each: int, assets: Path, progress: "Progress"
) -> "QuestionSet":
    from edge_et.benchmarks.quality.evaluate_quality import QuestionSet

    if path is not None:
        from edge_et.benchmarks.quality.questions import read_questions

        questions, broken = read_questions(path)
        return QuestionSet(source=str(path), questions=questions, broken=broken)
    from edge_et.benchmarks.quality.scenes import offer_answers, scene_questions

    drawn = offer_answers(list(scene_questions(exams, each, assets, progress)))
    return QuestionSet(source=f"held-out scenes, {each} questions an exam", questions=drawn)


def _tell(what: str, questions: "tuple[BrokenQuestion, ...]") -> None:
    for question in questions[:_SHOWN]:
        click.echo(printable(f"{what}: {question.where}: {question.reason}"), err=True)
    if len(questions) > _SHOWN:
        click.echo(f"{what}: {len(questions)} questions; --json lists all", err=True)
