"""The commands by name. What a command needs is imported when it runs."""

import click

from edge_et.cli.answer import answer
from edge_et.cli.autotune import autotune
from edge_et.cli.batch import batch
from edge_et.cli.bench import bench
from edge_et.cli.build import build
from edge_et.cli.doctor import doctor
from edge_et.cli.export import export
from edge_et.cli.info import info
from edge_et.cli.models import models
from edge_et.cli.quantize import quantize
from edge_et.cli.renamed import group_with_old_names
from edge_et.cli.serve import serve
from edge_et.cli.train import train
from edge_et.cli.watch import watch


@click.group(
    cls=group_with_old_names({"tune": "autotune", "tuning": "train"}),
    context_settings={"help_option_names": ["-h", "--help"], "show_default": True},
)
@click.version_option(package_name="edge-et")
def app() -> None:
    """Answer questions about images on a small CPU: extract first, then think."""


for command in (
    answer,
    watch,
    batch,
    serve,
    info,
    doctor,
    models,
    build,
    bench,
    autotune,
    export,
    quantize,
    train,
):
    app.add_command(command)
