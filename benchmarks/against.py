"""Hold a new run against a stored document of the same bundle and work: did the runtime get worse?

Seconds belong to a machine. What is compared are ratios of seconds that one machine measured in
turn, round by round: of this runtime to each baseline, of its second question to its first, and of
its answers beside busy processes to those without. The smaller, the better. The rule of noise is
that of `edge_et.benchmarks.compare_documents`.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from edge_et.benchmarks.compare_documents import LEAST_SAMPLES, Verdict, verdict
from edge_et.benchmarks.document import Configuration, Document, Sample, Temperature
from edge_et.benchmarks.latency import BASELINES, RUNTIMES, run_latency
from edge_et.bundle import Bundle
from edge_et.errors import BenchError, OptionError
from edge_et.export.steps import Progress, no_progress
from edge_et.pipeline import manifest_sha256

_SECONDS: tuple[tuple[Temperature, str, Callable[[Sample], float]], ...] = (
    ("cold", "answer", lambda sample: sample.total_s),
    ("first", "to the extraction", lambda sample: sample.first_extraction_s),
    ("first", "hand-over", lambda sample: sample.phases_s["handover"]),
    ("first", "answer", lambda sample: sample.total_s),
    ("second", "to the extraction", lambda sample: sample.first_extraction_s),
    ("second", "answer", lambda sample: sample.total_s),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """One ratio of both documents.

    Attributes:
        name: of what to what, and of which seconds.
        before: of the stored document, a value a round.
        after: of the new one.
        verdict: what the rule says; more is worse.
    """

    name: str
    before: tuple[float, ...]
    after: tuple[float, ...]
    verdict: Verdict


def run_against(
    stored: Document,
    bundle: Bundle,
    *,
    samples: int,
    picture: Path | None = None,
    drawn_size: tuple[int, int],
    llama_server: Path | None = None,
    arguments: Sequence[str] = (),
    progress: Progress = no_progress,
) -> Document:
    """Measure what a stored document measured.

    Args:
        stored: says which configurations, how many threads and tokens, and beside how many busy
            processes.
        bundle: the same as the stored document's.
        samples: of every figure.
        picture: as for `run_latency`, and so are those below.
        drawn_size: width and height of the picture that is drawn, pixels.
        llama_server: the program that is a baseline of this name.
        arguments: of the command line.
        progress: told what is measured.

    Raises:
        OptionError: too few samples for the rule of noise.
        BenchError: the stored document is of another bundle, work or number of threads, has too few
            samples, or configurations that are not known here; or as for `run_latency`.
    """
    if samples < LEAST_SAMPLES:
        raise OptionError("samples", samples, f"at least {LEAST_SAMPLES} with --against")
    if stored.bundle.sha256 != manifest_sha256(bundle):
        raise BenchError(
            f"the stored document is of the bundle {stored.bundle.name} {stored.bundle.version} "
            f"({stored.bundle.sha256[:12]}), not of {bundle.manifest.name} "
            f"{bundle.manifest.version} ({manifest_sha256(bundle)[:12]}); name that one with "
            "--model or --synthetic, or store a new document"
        )
    _check_ratios(stored)
    measured = {found.name for found in stored.configurations if found.absent is None}
    runtimes = [setup for setup in RUNTIMES if setup.name in measured]
    baselines = [setup for setup in BASELINES if setup.name in measured]
    unknown = measured - {setup.name for setup in (*runtimes, *baselines)}
    if unknown:
        raise BenchError(
            f"the stored document has configurations that this version does not know: "
            f"{', '.join(sorted(unknown))}; store a new one"
        )
    work = stored.work
    return run_latency(
        bundle,
        threads=stored.threads,
        samples=samples,
        extraction_tokens=work.extraction_tokens,
        thinking_tokens=work.thinking_tokens,
        answer_tokens=work.answer_tokens,
        picture=picture,
        drawn_size=drawn_size,
        runtimes=runtimes,
        baselines=baselines,
        busy=stored.busy,
        expected=stored,
        llama_server=llama_server,
        arguments=arguments,
        progress=progress,
    )


def ratios(document: Document) -> dict[str, tuple[float, ...]]:
    """Return the ratios of a document by name, a value a round; those of too few rounds are not."""
    names = {setup.name for setup in RUNTIMES}
    runtimes = [found for found in document.configurations if found.name in names]
    others = [found for found in document.configurations if found.name not in names]
    return {
        name: values
        for runtime in runtimes
        for name, values in (
            *_to_baselines(runtime, others),
            *_to_first_question(runtime),
            *_to_idle(runtime),
        )
        if len(values) >= LEAST_SAMPLES
    }


def hold(stored: Document, new: Document) -> list[Held]:
    """Compare the ratios that both documents have.

    Args:
        stored: the earlier one.
        new: from `run_against`.

    Raises:
        BenchError: there are none.
    """
    before, after = ratios(stored), ratios(new)
    common = [
        Held(
            name=name, before=before[name], after=after[name], verdict=verdict(before[name], values)
        )
        for name, values in after.items()
        if name in before
    ]
    if not common:
        raise BenchError("the stored document and the new one have no ratio in common")
    return common


def print_held(held: Sequence[Held], console: Console) -> None:
    """Print all ratios of both documents.

    Args:
        held: from `hold`.
        console: where to.
    """
    table = Table("seconds of", "stored", "now", "", title="Ratios, medians; less is better")
    words: dict[Verdict, str] = {"more": "worse", "less": "better", "same": "", "unknown": ""}
    for one in held:
        cells = f"{median(one.before):.3f}", f"{median(one.after):.3f}", words[one.verdict]
        table.add_row(escape(one.name), *cells)
    console.print(table)


def check_no_worse(held: Sequence[Held]) -> None:
    """Refuse a run in which a ratio got worse beyond the noise.

    Raises:
        BenchError: one did; tells all that did.
    """
    worse = [
        f"{one.name}: {median(one.before):.3f} stored, {median(one.after):.3f} now"
        for one in held
        if one.verdict == "more"
    ]
    if worse:
        raise BenchError(
            f"{len(worse)} of {len(held)} ratios are worse beyond the noise: {'; '.join(worse)}"
        )


def _check_ratios(stored: Document) -> None:
    """Refuse a document that holds nothing to compare.

    Raises:
        BenchError: it does not; tells why.
    """
    if ratios(stored):
        return
    names = {setup.name for setup in RUNTIMES}
    counts = [len(found.first) for found in stored.configurations if found.name in names]
    if not any(counts):
        raise BenchError(
            "the stored document has no ratio to compare: edge-et itself was not measured in it; "
            "store a new one"
        )
    raise BenchError(
        f"the stored document has no ratio to compare: edge-et has {max(counts)} samples in it; "
        f"store a new one with --samples of at least {LEAST_SAMPLES}"
    )


def _to_baselines(
    runtime: Configuration, others: Sequence[Configuration]
) -> Iterator[tuple[str, tuple[float, ...]]]:
    for other in others:
        for temperature, what, read in _SECONDS:
            name = f"{runtime.name} to {other.name}: {temperature}, {what}"
            yield name, _over(runtime.samples(temperature), other.samples(temperature), read)


def _to_first_question(runtime: Configuration) -> Iterator[tuple[str, tuple[float, ...]]]:
    for temperature, what, read in _SECONDS:
        if temperature == "second":
            name = f"{runtime.name}, second question to first: {what}"
            yield name, _over(runtime.second, runtime.first, read)


def _to_idle(runtime: Configuration) -> Iterator[tuple[str, tuple[float, ...]]]:
    for question, values in runtime.busy_ratios.items():
        yield f"{runtime.name}, {question} question busy to idle: answer", values


def _over(
    these: Sequence[Sample], those: Sequence[Sample], read: Callable[[Sample], float]
) -> tuple[float, ...]:
    return tuple(
        read(one) / read(other) for one, other in zip(these, those, strict=False) if read(other)
    )
