"""`edge-et train own`: a personal bundle from a folder of labelled pictures."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    pass

PATH = click.Path(path_type=Path)


@click.command()
@click.argument("pictures", type=PATH)
@click.option("--out", type=PATH, required=True, help="Folder of the new bundle.")
@click.option("--bundle", help="Name or folder of the bundle to start from; default: the mini.")
@click.option("--steps", type=click.IntRange(min=1), default=80, help="Of training.")
@click.option("--work", type=PATH, help="Folder of the checkpoint; OUT.work if omitted.")
def own(pictures: Path, out: Path, bundle: str | None, steps: int, work: Path | None) -> None:
    """Teach the mini model to tell apart what the folder PICTURES shows.

    PICTURES holds a folder for each label, with ten pictures or so in each. One in five is kept
    apart and asked about before and after. A killed run goes on where it was.
    """
    from edge_et.tuning.own.own_pictures import read_own_pictures
    from edge_et.tuning.own.tune_own import open_bundle, tune_own

    read = read_own_pictures(pictures)
    for path, reason in read.broken:
        click.echo(f"passed over: {path}: {reason}", err=True)
    before, after = tune_own(
        read,
        open_bundle(bundle),
        out,
        work or out.with_name(out.name + ".work"),
        steps,
        lambda line: click.echo(line, err=True),
    )
    print("| pictures kept apart | asked | before | after |")
    print("|---|---:|---:|---:|")
    for name, first, last in (
        ("what is this", before.naming, after.naming),
        ("is it there", before.existence, after.existence),
    ):
        print(f"| {name} | {first.asked} | {first} | {last} |")
