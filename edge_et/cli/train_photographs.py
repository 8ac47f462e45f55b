"""`edge-et train photographs` and `failures`: what a bundle gets wrong, as pictures."""

from pathlib import Path

import click

from edge_et.cli.console import printable, progress_bar
from edge_et.cli.renamed import CommandWithMode

PATH = click.Path(path_type=Path)

assets_option = click.option(
    "--assets", type=PATH, default=Path("runs/assets"), help="Folder of downloads."
)


@click.command()
@click.argument("model", required=False)
@click.option("--sheet", type=PATH, help="JPEG file for a picture of all of them.")
@click.option("--threads", type=int, help="Threads; all CPUs of this process if omitted.")
@assets_option
def photographs(model: str | None, sheet: Path | None, threads: int | None, assets: Path) -> None:
    """Ask a bundle what real photographs show that no training saw.

    MODEL is a bundle's name or folder; the installed mini if omitted.
    """
    import edge_et
    from edge_et.tuning.mini.assets.photographs import photographs
    from edge_et.tuning.mini.evaluate_photographs import (
        name_photographs,
        photograph_table,
        write_photograph_sheet,
    )

    pictures = list(photographs(assets))
    done = 0

    def count(naming: object) -> None:
        nonlocal done
        done += 1
        show("photographs", done, len(pictures))

    with edge_et.load(model, threads=threads, use_profile=False) as pipe, progress_bar() as show:
        namings = name_photographs(pipe, pictures, count)
    print(printable(photograph_table(namings)))
    if sheet is not None:
        write_photograph_sheet(namings, sheet)


@click.command(cls=CommandWithMode)
@click.argument("results", type=PATH, nargs=-1, required=True)
@click.option("--out", type=PATH, required=True, help="JPEG file.")
@click.option("--mode", default="extract-think", help="How it was answered; see evaluate.")
@assets_option
def failures(results: tuple[Path, ...], out: Path, mode: str, assets: Path) -> None:
    """Draw the first wrong answers of each exam in RESULTS, which `evaluate` wrote."""
    import dataclasses

    from edge_et.tuning.evaluation.evaluate import read_trials
    from edge_et.tuning.mini.assets.scene_kit import scene_kit
    from edge_et.tuning.mini.evaluate_scenes import write_failures

    trials = read_trials(results)
    held_out = trials[0].style == "held-out"
    kit = dataclasses.replace(scene_kit(assets, held_out=held_out), held_out=True)
    write_failures([t for t in trials if t.style == trials[0].style], kit, out, mode)
