"""`edge-et answer`: one question about one picture."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from edge_et.cli.console import printable
from edge_et.results import Answer, AnswerToken, Event, ExtractionToken, ReasoningToken

_TITLES: dict[type[Event], str] = {
    ExtractionToken: "Extraction",
    ReasoningToken: "Reasoning",
    AnswerToken: "Answer",
}


def answer(
    image: Annotated[Path, typer.Argument(help="The picture, a file.")],
    question: Annotated[str, typer.Argument(help="The question.")],
    model: Annotated[
        str | None, typer.Option(help="A bundle's name or folder; the installed mini if omitted.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document: answer, stages, usage.")
    ] = False,
    show_stages: Annotated[
        bool, typer.Option("--show-stages", help="Print extraction and reasoning too.")
    ] = False,
    threads: Annotated[
        int | None, typer.Option(help="Threads; all CPUs of this process if omitted.")
    ] = None,
    max_extraction_tokens: Annotated[int | None, typer.Option(help="Budget of stage 1.")] = None,
    max_thinking_tokens: Annotated[
        int | None, typer.Option(help="Budget of stage 2 before the answer.")
    ] = None,
    max_answer_tokens: Annotated[int | None, typer.Option(help="Budget of the answer.")] = None,
    temperature: Annotated[
        float | None, typer.Option(help="0 takes the most probable token.")
    ] = None,
    top_p: Annotated[float | None, typer.Option(help="Probability mass to choose from.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of the choice, for a temperature.")] = None,
) -> None:
    """Answer a question about a picture."""
    import edge_et

    with edge_et.load(model, threads=threads) as pipe:
        events = pipe.stream(
            image,
            question,
            max_extraction_tokens=max_extraction_tokens,
            max_thinking_tokens=max_thinking_tokens,
            max_answer_tokens=max_answer_tokens,
            temperature=temperature,
            top_p=top_p,
            seed=seed,
        )
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
    else:
        print(printable(last.text))


def _print_as_it_comes(events: Iterator[Event], show_stages: bool) -> None:
    """Write events to a terminal as they happen, stages under titles, the answer alone without."""
    section: type[Event] | None = None
    for event in events:
        if isinstance(event, Answer) or not (show_stages or isinstance(event, AnswerToken)):
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
    sys.stdout.write("\n")
