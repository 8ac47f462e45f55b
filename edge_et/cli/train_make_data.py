"""`edge-et train make-data`: visual instruction data in, extraction data out."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge_et.cli.console import printable, progress_bar

if TYPE_CHECKING:
    from edge_et.tuning.data.describers import Describer

PATH = click.Path(path_type=Path)
_REASONS_SHOWN = 5


@click.command("make-data")
@click.argument("data", metavar="IN", type=PATH)
@click.option("--out", type=PATH, required=True, help="JSON Lines file of samples.")
@click.option("--images", type=PATH, help="Folder of the pictures; that of IN if omitted.")
@click.option("--endpoint", metavar="URL", help="An OpenAI-compatible API describes; up to /v1.")
@click.option("--model", help="Model of the endpoint.")
@click.option("--bundle", help="A bundle describes; its name or folder.")
@click.option("--truth", is_flag=True, help="The facts in rows of rendered scenes describe.")
@click.option(
    "--requests-per-minute",
    type=click.FloatRange(min=0.01),
    default=60.0,
    help="Most requests to the endpoint.",
)
def make_data(
    data: Path,
    out: Path,
    images: Path | None,
    endpoint: str | None,
    model: str | None,
    bundle: str | None,
    truth: bool,
    requests_per_minute: float,
) -> None:
    """Turn questions and answers about pictures into samples to learn extraction from.

    IN is LLaVA's JSON, or JSON Lines with image, question and answer. One of --endpoint, --bundle
    and --truth says who describes the pictures. An endpoint's key is read from OPENAI_API_KEY.
    Rows that cannot be used go to OUT's .rejected.jsonl. A run that was stopped or killed goes on
    where it was when the same command is given again.
    """
    if (endpoint is not None) + (bundle is not None) + truth != 1:
        raise click.UsageError("give one of --endpoint, --bundle and --truth")
    if (endpoint is None) != (model is None):
        raise click.UsageError("--endpoint and --model belong together")
    if out.resolve() == data.resolve():
        raise click.UsageError("--out is IN itself")
    from edge_et.tuning.data import make_data as make
    from edge_et.tuning.data.instructions import read_instructions

    rows = read_instructions(data)
    try:
        with (
            _describer(endpoint, model, bundle, requests_per_minute) as describer,
            progress_bar() as show,
        ):
            tally = make.make_data(rows, images or data.parent, out, describer, show)
    except KeyboardInterrupt:
        click.echo("interrupted; give the same command again to go on", err=True)
        sys.exit(130)
    for row in tally.rejected[:_REASONS_SHOWN]:
        click.echo(f"row {row.row} rejected: {printable(row.reason)}", err=True)
    if len(tally.rejected) > _REASONS_SHOWN:
        click.echo(f"... all of them with reasons: {make.rejected_path(out)}", err=True)
    click.echo(
        f"{out}: {tally.made} samples made, {tally.skipped} done before, "
        f"{len(tally.rejected)} rows rejected",
        err=True,
    )


@contextmanager
def _describer(
    endpoint: str | None, model: str | None, bundle: str | None, requests_per_minute: float
) -> "Iterator[Describer]":
    from edge_et.tuning.data import describers
    from edge_et.tuning.data.endpoint import Endpoint
    from edge_et.tuning.mini.truth_describer import TruthDescriber

    if endpoint is not None:
        assert model is not None
        key = os.environ.get("OPENAI_API_KEY")
        yield describers.EndpointDescriber(
            Endpoint(endpoint, model, key=key, requests_per_minute=requests_per_minute)
        )
    elif bundle is not None:
        import edge_et

        with edge_et.load(bundle) as pipe:
            yield describers.BundleDescriber(pipe)
    else:
        yield TruthDescriber()
