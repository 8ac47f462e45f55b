"""`edge-et train evaluate`: how often a bundle is right on scenes that no training saw."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge_et.cli.console import progress_bar
from edge_et.cli.renamed import CommandWithMode

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge_et.export.steps import Progress

PATH = click.Path(path_type=Path)


@click.command(cls=CommandWithMode)
@click.argument("model", required=False)
@click.option(
    "--results",
    type=PATH,
    multiple=True,
    required=True,
    help="JSON Lines of answers, gone on with if it exists; several with --report.",
)
@click.option("--report", is_flag=True, help="Ask nothing; print the table of the results.")
@click.option("--each", type=click.IntRange(min=1), default=200, help="Questions an exam.")
@click.option("--exam", "exams", multiple=True, help="May be repeated; all exams if omitted.")
@click.option(
    "--style",
    type=click.Choice(["held-out", "trained"]),
    default="held-out",
    help="Drawings and fonts as training never saw them, or as it did.",
)
@click.option(
    "--mode",
    "modes",
    multiple=True,
    default=["extract-think", "direct"],
    help="How to answer: extract-think, extract-answer, extraction, caption-think, direct.",
)
@click.option("--threads", type=int, help="Threads; all CPUs of this process if omitted.")
@click.option("--assets", type=PATH, default=Path("runs/assets"), help="Folder of downloads.")
def evaluate(
    model: str | None,
    results: tuple[Path, ...],
    report: bool,
    each: int,
    exams: tuple[str, ...],
    style: str,
    modes: tuple[str, ...],
    threads: int | None,
    assets: Path,
) -> None:
    """Ask a bundle about held-out scenes and print its accuracy by exam and mode of answering.

    MODEL is a bundle's name or folder; the installed mini if omitted. Scenes are always of seeds,
    words and pairs of things that training never saw.
    """
    from edge_et.benchmarks.quality.modes import MODES
    from edge_et.tuning.evaluation.evaluate import read_trials
    from edge_et.tuning.mini.evaluate_scenes import comparison, table

    if not report:
        if len(results) != 1:
            raise click.UsageError("answers go to one file; give --results once, or --report")
        if unknown := set(modes) - set(MODES):
            raise click.UsageError(f"--mode {unknown.pop()!r}: there are {', '.join(MODES)}")
        _ask(model, results[0], each, exams, style, modes, threads, assets)
    trials = read_trials(results)
    print(table(trials))
    if len(trials[0].replies) > 1:
        print("\n" + comparison(trials))


def _ask(
    model: str | None,
    results: Path,
    each: int,
    exams: tuple[str, ...],
    style: str,
    modes: tuple[str, ...],
    threads: int | None,
    assets: Path,
) -> None:
    import dataclasses

    import edge_et
    from edge_et.tuning.mini.assets.scene_kit import scene_kit
    from edge_et.tuning.mini.evaluate_scenes import take_exam
    from edge_et.tuning.mini.exams import EXAMS, find_exam

    chosen = [find_exam(name) for name in exams] or list(EXAMS)
    kit = dataclasses.replace(scene_kit(assets, held_out=style == "held-out"), held_out=True)
    with edge_et.load(model, threads=threads, use_profile=False) as pipe, progress_bar() as show:
        for exam in chosen:
            counted = _counting(show, exam.name, each)
            take_exam(pipe, exam, each, kit, style, modes, results, counted)


def _counting(show: "Progress", name: str, each: int) -> "Callable[[int], None]":
    return lambda asked: show(name, asked, each)
