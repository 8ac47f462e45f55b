"""`edge-et answer`: one question about one picture."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Unpack

import click

from edge_et.cli.console import printable
from edge_et.options import OptionValues
from edge_et.results import Answer, AnswerToken, Event, ExtractionToken, ReasoningToken

_TITLES: dict[type[Event], str] = {
    ExtractionToken: "Extraction",
    ReasoningToken: "Reasoning",
    AnswerToken: "Answer",
}


@click.command()
@click.argument("image", type=click.Path(path_type=Path))
@click.argument("question")
@click.option("--model", help="A bundle's name or folder; the installed mini if omitted.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.option(
    "--show-stages", is_flag=True, help="Print extraction, reasoning, hint and what was cut too."
)
@click.option("--threads", type=int, help="Threads; all CPUs of this process if omitted.")
@click.option(
    "--cache-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="Keep pictures in this folder, so that later runs need not encode them again.",
)
@click.option("--max-tiles", type=int, help="Most tiles of the picture, all of it included.")
@click.option("--pooling", type=int, help="2: four tokens of a tile become one.")
@click.option("--max-extraction-tokens", type=int, help="Budget of stage 1.")
@click.option("--max-thinking-tokens", type=int, help="Budget of stage 2 before the answer.")
@click.option("--max-answer-tokens", type=int, help="Budget of the answer.")
@click.option("--temperature", type=float, help="0 takes the most probable token.")
@click.option("--top-p", type=float, help="Probability mass to choose from.")
@click.option("--seed", type=int, help="Of the choice, where the temperature is above 0.")
@click.option("--hint", help="What to pay attention to; the bundle decides if omitted.")
@click.option(
    "--thinking/--no-thinking",
    default=None,
    help="Whether a reasoner that marks its thoughts has any; the bundle decides if omitted.",
)
@click.option("--deadline-s", type=float, help="Seconds for the answer; then it is cut short.")
def answer(
    image: Path,
    question: str,
    model: str | None,
    as_json: bool,
    show_stages: bool,
    threads: int | None,
    cache_dir: Path | None,
    **options: Unpack[OptionValues],
) -> None:
    """Answer QUESTION about the picture in the file IMAGE."""
    import edge_et

    with edge_et.load(model, threads=threads, cache_dir=cache_dir) as pipe:
        events = pipe.stream(image, question, **options)
        if sys.stdout.isatty() and not as_json:
            _print_as_it_comes(events, show_stages)
            return
        *_, last = events
    assert isinstance(last, Answer)
    if as_json:
        print(json.dumps(last.to_dict(), indent=2))
    elif show_stages:
        for title, text in zip(
            _TITLES.values(), (last.extraction, last.reasoning, last.text), strict=True
        ):
            print(f"{title}: {printable(text)}")
        print(_notes(last), end="")
    else:
        print(printable(last.text))


def _print_as_it_comes(events: Iterator[Event], show_stages: bool) -> None:
    """Write events to a terminal as they happen, stages under titles, the answer alone without."""
    section: type[Event] | None = None
    notes = ""
    for event in events:
        if isinstance(event, Answer):
            notes = _notes(event) if show_stages else ""
            continue
        if not show_stages and not isinstance(event, AnswerToken):
            continue
        starting = type(event) is not section
        text = event.text.lstrip() if starting else event.text
        if starting and text:
            if section is not None:
                sys.stdout.write("\n")
            section = type(event)
            if show_stages:
                sys.stdout.write(f"{_TITLES[section]}: ")
        sys.stdout.write(printable(text))
        sys.stdout.flush()
    sys.stdout.write(f"\n{notes}")


def _notes(answer: Answer) -> str:
    """Return lines about hint and cuts, where there are any."""
    lines = [f"Hint: {printable(answer.hint)}"] if answer.hint else []
    if answer.cuts:
        cuts = ", ".join(f"{cut.stage} ({cut.reason})" for cut in answer.cuts)
        lines.append(f"Cut: {cuts}")
    return "".join(f"{line}\n" for line in lines)
