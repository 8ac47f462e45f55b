"""`edge-et bench confidence`: whether a bundle knows when it is right, and whose fault it is."""

import sys
from pathlib import Path

import click

from edge_et.cli.bench_quality import results_file
from edge_et.cli.console import progress_bar

PATH = click.Path(path_type=Path)


@click.command()
@click.option("--model", help="A bundle's name or folder; the installed mini if omitted.")
@click.option("--exam", "exams", multiple=True, help="Of the scenes; all if omitted. Repeatable.")
@click.option("--each", type=click.IntRange(min=1), default=20, help="Questions an exam.")
@click.option(
    "--assets", type=PATH, default=Path("runs/assets"), help="Folder of downloads for the scenes."
)
@click.option("--results", type=PATH, help="JSON Lines of answers, gone on with if it exists.")
@click.option("--threads", type=int, help="Threads; all CPUs of this process if omitted.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.option("--plot", type=PATH, help="PNG or SVG file to draw the curves to.")
def confidence(
    model: str | None,
    exams: tuple[str, ...],
    each: int,
    assets: Path,
    results: Path | None,
    threads: int | None,
    as_json: bool,
    plot: Path | None,
) -> None:
    """Ask about held-out scenes, and print whether `Answer.confidence` tells right from wrong.

    Wrong answers are asked again with the true extraction, which tells whose fault they are.
    docs/confidence.md explains the figures.
    """
    import msgspec
    from rich.console import Console

    from edge_et.benchmarks.confidence.confidence_report import print_confidence
    from edge_et.benchmarks.confidence.evaluate_confidence import evaluate_confidence
    from edge_et.benchmarks.quality.scenes import scene_questions
    from edge_et.bundle import find_bundle, load_bundle

    if plot is not None:
        from edge_et.benchmarks.plot import check_plot_path

        check_plot_path(plot)
    bundle = load_bundle(find_bundle(model))
    with progress_bar() as progress, results_file(results) as path:
        document = evaluate_confidence(
            bundle,
            f"held-out scenes, {each} questions an exam",
            list(scene_questions(exams, each, assets, progress)),
            path,
            threads=threads,
            arguments=sys.argv[1:],
            progress=progress,
        )
    if as_json:
        print(msgspec.json.format(msgspec.json.encode(document), indent=2).decode())
    else:
        print_confidence(document, Console())
    if plot is not None:
        from edge_et.benchmarks.confidence.curves import write_curves

        write_curves(document.outcome, plot)
