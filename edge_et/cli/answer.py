"""`edge-et answer`: one question about a picture, or about several."""

import json
import sys
from collections.abc import Iterator
from typing import Any

import click

from edge_et.cli.console import ProgressLine, printable
from edge_et.cli.options import add_options
from edge_et.options import AnswerOptions, LoadOptions
from edge_et.results import Answer, AnswerToken, Event, ExtractionToken, Progress, ReasoningToken

_TITLES: dict[type[Event], str] = {
    ExtractionToken: "Extraction",
    ReasoningToken: "Reasoning",
    AnswerToken: "Answer",
}


@click.command()
@click.argument("images", metavar="IMAGE...", nargs=-1, required=True)
@click.argument("question")
@click.option("--model", help="A bundle's name or folder; the installed mini if omitted.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.option(
    "--show-stages", is_flag=True, help="Print extraction, reasoning, hint and what was cut too."
)
@add_options(LoadOptions)
@add_options(AnswerOptions)
def answer(
    images: tuple[str, ...],
    question: str,
    model: str | None,
    as_json: bool,
    show_stages: bool,
    **options: Any,
) -> None:
    """Answer QUESTION about the picture in the file IMAGE, or the pictures in several."""
    import edge_et

    of_load = {name: options.pop(name) for name in LoadOptions.__struct_fields__ if name in options}
    with edge_et.load(model, **of_load) as pipe:
        events = pipe.stream(images, question, **options)
        with ProgressLine() as line:
            if sys.stdout.isatty() and not as_json:
                _print_as_it_comes(events, line, show_stages, several=len(images) > 1)
                return
            for event in events:
                last = event
                if isinstance(event, Progress):
                    line.show(event)
    assert isinstance(last, Answer)
    if as_json:
        print(json.dumps(last.to_dict(), indent=2))
    elif show_stages:
        for title, text in zip(
            _TITLES.values(), (last.extraction, last.reasoning, last.text), strict=True
        ):
            print(f"{title}: {printable(text)}")
        print(_notes(last) + _sureness(last), end="")
    else:
        print(f"{printable(last.text)}\n{_sureness(last)}", end="")


def _print_as_it_comes(
    events: Iterator[Event], line: ProgressLine, show_stages: bool, *, several: bool = False
) -> None:
    """Write events to a terminal as they happen, stages under titles, the answer alone without."""
    section = ""
    notes = ""
    for event in events:
        if isinstance(event, Answer):
            notes = (_notes(event) if show_stages else "") + _sureness(event)
            continue
        if isinstance(event, Progress):
            if section is None:  # else the cursor stands behind text, which tells of itself
                line.show(event)
            continue
        if not show_stages and not isinstance(event, AnswerToken):
            continue
        line.hide()
        title = _TITLES[type(event)]
        if several and isinstance(event, ExtractionToken):
            title += f" {event.picture + 1}"
        starting = title != section
        text = event.text.lstrip() if starting else event.text
        if starting and text:
            if section:
                sys.stdout.write("\n")
            section = title
            if show_stages:
                sys.stdout.write(f"{title}: ")
        sys.stdout.write(printable(text))
        sys.stdout.flush()
    sys.stdout.write(f"\n{notes}")


def _notes(answer: Answer) -> str:
    """Return lines about hint, cuts and a missing stage, where there are any."""
    lines = [f"Hint: {printable(answer.hint)}"] if answer.hint else []
    if set(answer.finish_reasons) == {"answer"}:
        lines.append("One stage, as this bundle prefers; --hint asks for two.")
    cut = [
        f"{stage} ({reason})" for stage, reason in answer.finish_reasons.items() if reason != "stop"
    ]
    if cut:
        lines.append(f"Cut: {', '.join(cut)}")
    return "".join(f"{line}\n" for line in lines)


def _sureness(answer: Answer) -> str:
    """Return a line about how sure an answer is, where that was asked for."""
    found = answer.confidence
    if found is None:
        return ""
    parts = {
        "seeing": found.seeing,
        "thinking": found.thinking,
        "answering": found.answering,
        "without seeing": found.control,
    }
    told = ", ".join(f"{name} {value:.0%}" for name, value in parts.items() if value is not None)
    doubt = f"; look at {found.doubt} first" if found.doubt else ""
    return f"Confidence: {found.answer:.0%} ({told}{doubt})\n"
