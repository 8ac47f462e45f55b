"""`edge-et autotune`: what is fastest on this machine and still right."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge_et.cli.console import progress_bar

if TYPE_CHECKING:
    from rich.console import Console

    from edge_et.benchmarks.autotune.search import Trial


@click.command()
@click.argument("model", required=False)
@click.option(
    "--image",
    "images",
    type=click.Path(path_type=Path),
    multiple=True,
    help="A picture to judge the settings on; may be repeated. Drawn ones if omitted.",
)
@click.option("--forget", is_flag=True, help="Drop the profile; the bundle opens as it was made.")
def autotune(model: str | None, images: tuple[Path, ...], forget: bool) -> None:
    """Measure which settings answer fastest on this machine, and use them from now on.

    MODEL is a bundle's name or folder; the installed mini if omitted. Tried are weight formats,
    with the adapter merged into them, flash attention, the type of the KV cache, and threads. What
    changes the outputs is not taken, however fast it is. docs/autotune.md tells more. Run it with
    nothing else running.
    """
    from rich.console import Console

    from edge_et.bundle import find_bundle, load_bundle
    from edge_et.pipeline import profile_folder

    bundle = load_bundle(find_bundle(model))
    folder = profile_folder(bundle)
    if forget:
        shutil.rmtree(folder, ignore_errors=True)
        return
    from edge_et.benchmarks.autotune.dialogue import read_pictures
    from edge_et.benchmarks.autotune.search import autotune as search

    with progress_bar() as progress:
        trials = search(bundle, read_pictures(images), progress)
    _print(trials, Console())
    Console(stderr=True).print(f"written to {folder}", highlight=False)


def _print(trials: "list[Trial]", console: "Console") -> None:
    from rich.table import Table

    table = Table("setting", "prefill", "decode", "an answer", "mean KL", "same", "")
    for trial in trials:
        speed, difference = trial.speed, trial.difference
        table.add_row(
            f"{trial.role}: {trial.setting}",
            "" if speed is None else f"{speed.prefill_per_s:.0f}/s",
            "" if speed is None else f"{speed.decode_per_s:.1f}/s",
            "" if speed is None else f"{speed.answer_s:.2f} s",
            "" if difference is None else f"{difference.mean_kl:.4f}",
            "" if difference is None else f"{difference.same_top:.1%}",
            trial.verdict,
        )
    console.print(table)
