"""`edge-et watch`: a question about the frames of a camera, again and again."""

import json
import sys
from typing import TYPE_CHECKING, Any

import click

from edge_et.cli.console import printable
from edge_et.cli.options import add_options
from edge_et.options import AnswerOptions, LoadOptions

if TYPE_CHECKING:
    from edge_et.camera import WatchEvent


@click.command()
@click.argument("source")
@click.argument("question")
@click.option("--model", help="A bundle's name or folder; the installed mini if omitted.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON document a line.")
@click.option("--every", default=1.0, help="Seconds from one look to the next at least.")
@click.option(
    "--changed", is_flag=True, help="Look only at frames that differ from the one before."
)
@add_options(LoadOptions)
@add_options(AnswerOptions)
def watch(
    source: str,
    question: str,
    model: str | None,
    as_json: bool,
    every: float,
    changed: bool,
    **options: Any,
) -> None:
    """Answer QUESTION about the frames of SOURCE until it is interrupted.

    SOURCE is the URL of a camera (rtsp://, rtsps://, or http:// and https:// for MJPEG), or a
    folder that pictures are put into. Of frames that come while an answer is written, the newest
    is taken.
    """
    import edge_et
    from edge_et import camera

    of_load = {name: options.pop(name) for name in LoadOptions.__struct_fields__ if name in options}
    detector = camera.BlockChange() if changed else None
    with (
        edge_et.load(model, **of_load) as pipe,
        camera.watch(source, question, pipe, every=every, changed=detector, **options) as events,
    ):
        for event in events:
            if as_json:
                print(json.dumps(event.to_dict()), flush=True)
            elif event.error is not None:
                print(f"{_time(event)} {printable(str(event.error))}", file=sys.stderr, flush=True)
            else:
                print(f"{_time(event)} {printable(_told(event))}", flush=True)


def _time(event: "WatchEvent") -> str:
    return event.time.astimezone().isoformat(timespec="seconds")


def _told(event: "WatchEvent") -> str:
    """Return the answer on one line, with its share among choices, and whether it was cut."""
    answer = event.answer
    assert answer is not None
    text = " ".join(answer.text.split())
    if answer.shares:
        text += f" ({max(answer.shares.values()):.0%})"
    if "deadline" in answer.finish_reasons.values():
        text += " (cut by the deadline)"
    return text
