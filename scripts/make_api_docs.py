"""Writes docs/api.md from the code: `python scripts/make_api_docs.py > docs/api.md`.

What it says of a function, an option or an error stands in the code; what can only be told stands
here. A test compares the file with what this prints.
"""

import inspect
import re
from collections.abc import Callable
from typing import Any, get_type_hints

import edge_et
from edge_et import batch, camera, errors, results
from edge_et.cli.options import read_field
from edge_et.options import AnswerOptions, LoadOptions
from edge_et.pipeline import MemoryPlan, TextSession
from edge_et.ray import Answerer, answer_dataset

INTRODUCTION = """\
# The Python interface

What a program may rely on. `python scripts/make_api_docs.py > docs/api.md` makes this page from the
code.

**Stable** is what stands here: names, keywords, defaults, fields, and the keys of
`Answer.to_dict()`. A name that changes works for one release more and warns with a
`DeprecationWarning`. New keywords, fields, keys and errors may be added. Texts of answers are not
stable: they change with bundles, libraries and processors. Modules below `edge_et` that this page
does not name may change at any time.

**Types** are in the package (`py.typed`).

**Threads.** Any thread may use a pipeline, and go on with a stream that another one began, or close
it. At most as many calls as the pipeline has `contexts` are under way at once. Others wait, those
of a higher `priority` first, then in the order in which they came; with `max_waiting` of them there
is a `QueueFullError`. One call computes at a time, the first in the same order, and gives way
between two steps of its models. A second context is for calls of a higher priority, and for others
while a stream's caller is slow. A stream has its context until it is exhausted, closed or
forgotten.
Whoever waits for streams that nobody continues gets a `BusyError`: after 30 seconds, after 5 if the
same thread ran them so far, and at once in a program of one thread. The models use `threads`
threads of their own, one model after the other.

**Cancelling.** A call ends with a `CancelledError`, in the middle of a step too, when its
`CancelToken` is cancelled or its stream closed; of an asyncio program, when its task is cancelled.

**Forks.** A forked child cannot use what its parent opened, and gets a `ForkedError`; what it opens
itself works, and `edge_et.answer` opens by itself.

**Text and pictures.** Text from a caller never becomes a special token. A string that names a
picture is a path, never a URL.
"""

COMMAND_LINE = """\
`edge-et answer IMAGE... QUESTION` takes every option of a call and of a loaded bundle under the
same name: `max_tiles=5` is `--max-tiles 5`, `thinking=False` is `--no-thinking`.
"""

FUNCTIONS = (edge_et.answer, edge_et.load, edge_et.aload, edge_et.load_bundle, edge_et.watch)
EVENTS = (results.ExtractionToken, results.ReasoningToken, results.AnswerToken)
VALUES = (
    results.Answer,
    results.PictureExtraction,
    results.TokenLogprob,
    results.Confidence,
    results.Certainty,
    results.PhaseUsage,
    results.Extraction,
    results.Thought,
    edge_et.Bundle,
    MemoryPlan,
)
OF_CAMERA = (camera.WatchEvent, camera.Frame)
OF_BATCH = (batch.BatchProgress, batch.BatchSummary)
DETECTORS = (camera.BlockChange, camera.BackgroundChange)


def main() -> None:
    """Print the page."""
    print(INTRODUCTION)
    print("## Functions\n")
    for function in FUNCTIONS:
        print_function(f"edge_et.{function.__name__}", function)
    print("## Options of a call\n\nNone, which all of them have by default, is the bundle's own.\n")
    print_options(AnswerOptions)
    print("## Options of a loaded bundle\n")
    print_options(LoadOptions)
    print(f"## The command line\n\n{COMMAND_LINE}")
    print("## edge_et.ExtractThink\n\nA loaded bundle; `edge_et.load` returns one.\n")
    print_methods(edge_et.ExtractThink)
    print("## edge_et.Session\n\nQuestions about a picture; `ExtractThink.session` returns one.\n")
    print_methods(edge_et.Session)
    print(
        "## TextSession\n\nQuestions without a picture; `ExtractThink.text_session` returns one.\n"
    )
    print_methods(TextSession)
    print("## edge_et.CancelToken\n\nEnds the calls that it was given to; any thread may use it.\n")
    print_methods(edge_et.CancelToken)
    print("## Events of a stream\n")
    print("Text comes as one or more whole characters; the last event is the `Answer`.\n")
    for kind in EVENTS:
        print(f"- `edge_et.{kind.__name__}`: {summary(kind)}")
    print()
    print_value(edge_et.Progress)
    print("## Values\n")
    for kind in VALUES:
        print_value(kind)
    print("## edge_et.camera\n\nWhat `edge_et.watch` gives and takes; docs/camera.md shows it.\n")
    for kind in OF_CAMERA:
        print_value(kind)
    for detector in DETECTORS:
        print_function(detector.__name__, detector)
    reasons = ", ".join(f"`{reason}`" for reason in results.FinishReason.__args__)
    print(f"Finish reasons are {reasons}.\n")
    print("## edge_et.batch\n\nWhat `edge-et batch` does, for programs; docs/batch.md shows it.\n")
    print_function("answer_all", batch.answer_all)
    for kind in OF_BATCH:
        print_value(kind)
    print_function("RowAnswerer", batch.RowAnswerer)
    print_function("RowAnswerer.answer", batch.RowAnswerer.answer)
    print("## edge_et.ray\n\nDatasets of Ray Data; docs/ray.md shows it.\n")
    print_function("answer_dataset", answer_dataset)
    print_function("Answerer", Answerer)
    print("## Errors\n\n```")
    print((errors.__doc__ or "").partition("::")[2].strip("\n"))
    print("```\n\nAll are in `edge_et.errors`; numbers, names and paths are attributes too.")


def print_methods(kind: type) -> None:
    """Print the public methods of a class."""
    for name, method in vars(kind).items():
        if inspect.isfunction(method) and not name.startswith("_"):
            print_function(name, method)


def print_function(name: str, function: Callable[..., Any]) -> None:
    """Print a function's signature and what its docstring says."""
    parameters = list(inspect.signature(function).parameters.values())
    of_call = [each for each in parameters if each.name in AnswerOptions.__struct_fields__]
    if len(of_call) > 2:  # which a table tells
        parameters = [each for each in parameters if each not in of_call]
    told = [shown(each) for each in parameters if each.name != "self"]
    if len(of_call) > 2:
        told.append("*options of a call*")
        left_out = set(AnswerOptions.__struct_fields__) - {each.name for each in of_call}
        if left_out:
            told[-1] = f"*options of a call but {' and '.join(sorted(left_out))}*"
    print(f"### {name}({', '.join(told)})\n")
    print(described(inspect.getdoc(function) or "") + "\n")


def shown(parameter: inspect.Parameter) -> str:
    """Return a parameter with its default."""
    if parameter.default is inspect.Parameter.empty:
        return parameter.name
    return f"{parameter.name}={parameter.default!r}"


def described(docstring: str) -> str:
    """Turn a Google docstring into Markdown."""
    lines: list[str] = []
    listing = False
    for line in docstring.splitlines():
        if section := re.fullmatch(r"(Args|Returns|Raises|Yields|Source):", line):
            lines.append(f"{section[1]}:\n")
            listing = section[1] in ("Args", "Raises")
        elif item := re.fullmatch(r"    (\w+): (.*)", line) if listing else None:
            lines.append(f"- `{item[1]}`: {item[2]}")
        else:
            lines.append(
                f"  {line.strip()}" if listing and line.startswith("     ") else line.strip()
            )
    return "\n".join(lines).strip().replace("``", "`")


def print_options(kind: type[AnswerOptions] | type[LoadOptions]) -> None:
    """Print the options of a struct as a table."""
    print("| option | type | default | |\n|---|---|---|---|")
    for name, hint in get_type_hints(kind, include_extras=True).items():
        value_type, description = read_field(hint)
        default = getattr(kind(), name)
        print(f"| `{name}` | {value_type.__name__} | `{default!r}` | {description} |")
    print()


def print_value(kind: type) -> None:
    """Print a dataclass with its fields."""
    before, _, fields = (inspect.getdoc(kind) or "").partition("Attributes:")
    print(f"### {kind.__name__}\n\n{before.strip()}\n")
    for line in fields.splitlines():
        if item := re.fullmatch(r"    (\w+): (.*)", line):
            print(f"- `{item[1]}`: {item[2]}".replace("``", "`"))
        elif line.strip():
            print(f"  {line.strip()}".replace("``", "`"))
    print()


def summary(kind: type) -> str:
    """Return the first line of a docstring."""
    return (inspect.getdoc(kind) or "").partition("\n")[0]


if __name__ == "__main__":
    main()
