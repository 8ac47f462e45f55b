"""`edge-et bench`: what an answer takes on this machine, phase by phase."""

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

import click
from click.core import ParameterSource

from edge_et.cli.bench_concurrency import concurrency
from edge_et.cli.bench_confidence import confidence
from edge_et.cli.bench_quality import quality
from edge_et.cli.console import progress_bar
from edge_et.cli.measured import PATH, check_one_named, drawn_size, find_measured

if TYPE_CHECKING:
    from edge_et.export.steps import Progress

_BASELINES = (
    "reuse-off",
    "torch",
    "torch-bf16",
    "mtmd",
    "llama-server",
    "openvino-int8",
    "openvino-int4",
)
_SAID_BY_DOCUMENT = (
    "threads",
    "extraction_tokens",
    "thinking_tokens",
    "answer_tokens",
    "engines",
    "baselines",
    "busy",
    "compare",
)

_ENGINES = ("llama", "prebuilt")


@click.group(invoke_without_command=True)
@click.option("--model", help="A bundle's name or folder; the installed mini if omitted.")
@click.option("--synthetic", help="Measure random weights with the dimensions of this model.")
@click.option(
    "--synthetic-folder", type=PATH, help="Where these are kept; the user's cache if omitted."
)
@click.option("--image", type=PATH, help="The picture that is asked about; a drawn one if omitted.")
@click.option("--threads", type=int, help="Threads; all CPUs of this process if omitted.")
@click.option("--samples", type=click.IntRange(min=1), default=5, help="Of every figure.")
@click.option(
    "--extraction-tokens", type=click.IntRange(min=2), default=64, help="Written in stage 1."
)
@click.option(
    "--thinking-tokens", type=click.IntRange(min=2), default=48, help="Written before the answer."
)
@click.option("--answer-tokens", type=click.IntRange(min=1), default=8, help="Of the answer.")
@click.option(
    "--engine",
    "engines",
    type=click.Choice(_ENGINES),
    multiple=True,
    help="Of the language models; may be repeated. What loading chooses if omitted.",
)
@click.option(
    "--baseline",
    "baselines",
    type=click.Choice(_BASELINES),
    multiple=True,
    default=_BASELINES,
    help="What is measured beside it; may be repeated.",
)
@click.option(
    "--llama-server",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Program of the baseline of this name; the one on PATH if omitted.",
)
@click.option(
    "--busy",
    type=click.IntRange(min=0, max=1024),
    default=0,
    help="Measure warm answers again beside so many processes that compute without pause.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.option("--csv", "as_csv", is_flag=True, help="Print all samples as CSV.")
@click.option("--plot", type=PATH, help="PNG or SVG file to draw the phases to.")
@click.option(
    "--compare",
    type=PATH,
    nargs=2,
    help="Measure nothing; tell what changed from one --json document to another.",
)
@click.option(
    "--against",
    type=PATH,
    help="Measure what this --json document measured; status 1 where a ratio of it got worse.",
)
@click.pass_context
def bench(
    context: click.Context,
    model: str | None,
    synthetic: str | None,
    synthetic_folder: Path | None,
    image: Path | None,
    threads: int | None,
    samples: int,
    extraction_tokens: int,
    thinking_tokens: int,
    answer_tokens: int,
    engines: tuple[str, ...],
    baselines: tuple[str, ...],
    llama_server: Path | None,
    busy: int,
    as_json: bool,
    as_csv: bool,
    plot: Path | None,
    compare: tuple[Path, Path] | None,
    against: Path | None,
) -> None:
    """Measure what answers take: cold and warm, a first and a second question on a picture.

    Every configuration runs in fresh processes and does the same work: what is written is fixed, so
    that it does not depend on the weights. docs/benchmarks.md explains the figures.

    A command measures something else, with options of its own behind its name.
    """
    if context.invoked_subcommand is not None:
        _refuse_options(context)
        return
    if as_json and as_csv:
        raise click.UsageError("--json and --csv both print to stdout; give one of them")
    check_one_named(model, synthetic)
    if against is not None:
        _refuse_beside_against(context)
    from rich.console import Console

    if compare is not None:
        from edge_et.benchmarks.compare_documents import print_comparison
        from edge_et.benchmarks.document import read_document

        before, after = map(read_document, compare)
        print_comparison(before, after, Console())
        return
    import msgspec

    from edge_et.benchmarks.against import check_no_worse, hold, print_held, run_against
    from edge_et.benchmarks.document import read_document
    from edge_et.benchmarks.latency import BASELINES, RUNTIME, RUNTIMES, run_latency
    from edge_et.benchmarks.report import print_report, write_csv

    if plot is not None:
        from edge_et.benchmarks.plot import check_plot_path, write_plot

        check_plot_path(plot)
    stored = None if against is None else read_document(against)
    with progress_bar() as progress:
        bundle = find_measured(model, synthetic, synthetic_folder, progress)
        common: _Common = {
            "samples": samples,
            "picture": image,
            "drawn_size": drawn_size(synthetic),
            "llama_server": llama_server or _on_path("llama-server"),
            "arguments": sys.argv[1:],
            "progress": progress,
        }
        if stored is not None:
            document = run_against(stored, bundle, **common)
        else:
            document = run_latency(
                bundle,
                threads=threads,
                extraction_tokens=extraction_tokens,
                thinking_tokens=thinking_tokens,
                answer_tokens=answer_tokens,
                runtimes=[setup for setup in RUNTIMES if setup.key in (engines or (RUNTIME.key,))],
                baselines=[baseline for baseline in BASELINES if baseline.key in baselines],
                busy=busy,
                **common,
            )
    if as_json:
        print(msgspec.json.format(msgspec.json.encode(document), indent=2).decode())
    elif as_csv:
        write_csv(document, sys.stdout)
    else:
        print_report(document, Console())
    if plot is not None:
        write_plot(document, plot)
    if stored is not None:
        held = hold(stored, document)
        if not (as_json or as_csv):
            print_held(held, Console())
        check_no_worse(held)


bench.add_command(quality)
bench.add_command(concurrency)
bench.add_command(confidence)


class _Common(TypedDict):
    """What is said of a run, whether a document of `--against` says the rest or options do."""

    samples: int
    picture: Path | None
    drawn_size: tuple[int, int]
    llama_server: Path | None
    arguments: Sequence[str]
    progress: "Progress"


def _on_path(program: str) -> Path | None:
    found = shutil.which(program)
    return None if found is None else Path(found)


def _refuse_beside_against(context: click.Context) -> None:
    """Refuse options whose values are those of the stored document.

    Raises:
        click.UsageError: there is one.
    """
    given = ParameterSource.COMMANDLINE
    for parameter in context.command.params:
        name = parameter.name or ""
        if name in _SAID_BY_DOCUMENT and context.get_parameter_source(name) is given:
            raise click.UsageError(
                f"--against measures what its document did; leave out {parameter.opts[0]}"
            )


def _refuse_options(context: click.Context) -> None:
    """Refuse options of latency before the name of another measurement, which would not see them.

    Raises:
        click.UsageError: there are some.
    """
    given = ParameterSource.COMMANDLINE
    if any(context.get_parameter_source(name) is given for name in context.params):
        command = context.invoked_subcommand
        raise click.UsageError(f"options of {command!r} stand behind its name")
