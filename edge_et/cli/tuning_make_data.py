"""`edge-et tuning make-data`: visual instruction data to extraction data."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge_et.cli.console import progress_bar

if TYPE_CHECKING:
    from edge_et.tuning.data.describers import Describer

PATH = click.Path(path_type=Path)


@click.command("make-data")
@click.argument("data", type=PATH)
@click.option("--images", type=PATH, required=True, help="Folder that the images are in.")
@click.option("--out", type=PATH, required=True, help="JSON Lines file; gone on with if it exists.")
@click.option("--endpoint", help="URL of an OpenAI-compatible API, up to /v1.")
@click.option("--model", help="Model of the endpoint, or name or folder of a bundle.")
@click.option("--bundle", is_flag=True, help="Let a bundle describe; the mini without --model.")
@click.option("--truth", is_flag=True, help="Describe by the rows' facts, as scenes have them.")
@click.option(
    "--requests-per-minute", type=click.FloatRange(min=0.1), default=60.0, help="Of the endpoint."
)
def make_data(
    data: Path,
    images: Path,
    out: Path,
    endpoint: str | None,
    model: str | None,
    bundle: bool,
    truth: bool,
    requests_per_minute: float,
) -> None:
    """Turn the questions and answers in DATA into descriptions to learn extraction from.

    DATA is LLaVA's JSON, or JSON Lines with image, question and answer. An endpoint's key is read
    from OPENAI_API_KEY. Rows that cannot be used go to OUT's .rejected.jsonl.
    """
    if (endpoint is not None) + bundle + truth != 1:
        raise click.UsageError("choose who describes: --endpoint, --bundle or --truth")
    if endpoint is not None and model is None:
        raise click.UsageError("--endpoint needs --model")
    from edge_et.tuning.data.make import make_data, rejected_path
    from edge_et.tuning.data.readers import read_instructions

    rows = list(read_instructions(data))
    with _describer(endpoint, model, truth, requests_per_minute) as describer:
        with progress_bar() as show:
            tally = make_data(
                rows,
                images,
                out,
                describer,
                lambda t: show("describe", t.made + t.kept + t.rejected, len(rows)),
            )
    click.echo(
        f"{out}: {tally.made} made, {tally.kept} done before, {tally.rejected} rejected", err=True
    )
    if tally.rejected:
        click.echo(f"why, is in {rejected_path(out)}", err=True)


@contextmanager
def _describer(
    endpoint: str | None, model: str | None, truth: bool, requests_per_minute: float
) -> "Iterator[Describer]":
    from edge_et.tuning.data import describers
    from edge_et.tuning.data.endpoint import Endpoint

    if truth:
        yield describers.TruthDescriber()
    elif endpoint is not None:
        assert model is not None
        key = os.environ.get("OPENAI_API_KEY")
        yield describers.EndpointDescriber(
            Endpoint(endpoint, model, key=key, requests_per_minute=requests_per_minute)
        )
    else:
        import edge_et

        with edge_et.load(model) as pipe:
            yield describers.bundle_describer(pipe)
