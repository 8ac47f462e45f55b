"""`edge-et bench concurrency`: urgent questions, cancelled ones, and a second context."""

from pathlib import Path

import click

from edge_et.cli.console import progress_bar
from edge_et.cli.measured import PATH, check_one_named, find_measured


@click.command()
@click.option("--model", help="A bundle's name or folder; the installed mini if omitted.")
@click.option("--synthetic", help="Measure random weights with the dimensions of this model.")
@click.option(
    "--synthetic-folder", type=PATH, help="Where these are kept; the user's cache if omitted."
)
@click.option("--threads", type=int, help="Threads; all CPUs of this process if omitted.")
@click.option("--samples", type=click.IntRange(min=1), default=5, help="Of every figure.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def concurrency(
    model: str | None,
    synthetic: str | None,
    synthetic_folder: Path | None,
    threads: int | None,
    samples: int,
    as_json: bool,
) -> None:
    """Measure how soon urgent questions begin and cancelled ones end.

    Two contexts over one set of weights answer at once; docs/benchmarks.md explains the figures.
    """
    check_one_named(model, synthetic)
    import msgspec
    from rich.console import Console

    from edge_et.benchmarks.concurrency import measure_concurrency, print_concurrency

    with progress_bar() as progress:
        document = measure_concurrency(
            find_measured(model, synthetic, synthetic_folder, progress),
            threads=threads,
            samples=samples,
            progress=progress,
        )
    if as_json:
        print(msgspec.json.format(msgspec.json.encode(document), indent=2).decode())
    else:
        print_concurrency(document, Console())
