"""The commands by name. What a command needs is imported when it runs."""

import typer

from edge_et.cli.answer import answer
from edge_et.cli.export import export_app
from edge_et.cli.info import info
from edge_et.cli.quantize import quantize_app
from edge_et.cli.tuning import tuning_app

app = typer.Typer(
    name="edge-et",
    help="Answer questions about images on a small CPU: extract first, then think.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(answer)
app.command()(info)
app.add_typer(export_app, name="export")
app.add_typer(quantize_app, name="quantize")
app.add_typer(tuning_app, name="tuning")
