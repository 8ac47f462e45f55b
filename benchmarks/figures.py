"""Compute the figures of a document: medians of the samples, and rates beside their bounds."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import median

from edge_et.benchmarks.bounds import decode_bound, prefill_bound
from edge_et.benchmarks.document import (
    PHASES,
    TEMPERATURES,
    BundleInfo,
    Configuration,
    Document,
    Sample,
    Temperature,
)

MILESTONES: dict[str, Callable[[Sample], float]] = {
    "first extraction token": lambda sample: sample.first_extraction_s,
    "first thinking token": lambda sample: sample.first_thinking_s,
    "answer": lambda sample: sample.total_s,
}
"""Times since the question was asked, or since a fresh process began."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One thing that was measured several times.

    Attributes:
        configuration: its name.
        temperature: see `TEMPERATURES`; empty where it is of all processes together.
        measure: what it is; phases are called ``phase ...``.
        unit: s, bytes, J or C; empty: a ratio.
        values: all samples.
    """

    configuration: str
    temperature: str
    measure: str
    unit: str
    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle one of the samples."""
        return median(self.values)

    @property
    def spread(self) -> float:
        """The largest of the samples less the smallest."""
        return max(self.values) - min(self.values)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """How fast a language model was, and how fast it could be.

    Attributes:
        work: what it did.
        behind: positions in the KV cache meanwhile, on average.
        tokens_per_s: median over the samples.
        bound_per_s: what memory or matrix products of this machine allow.
    """

    work: str
    behind: float
    tokens_per_s: float
    bound_per_s: float

    @property
    def share(self) -> float:
        """Of the bound."""
        return self.tokens_per_s / self.bound_per_s


def figures(document: Document) -> Iterator[Figure]:
    """Yield everything that was sampled, configuration by configuration."""
    for configuration in document.configurations:
        for temperature in TEMPERATURES:
            samples = configuration.samples(temperature)
            for measure, unit, values in _sampled(samples):
                yield Figure(
                    configuration=configuration.name,
                    temperature=temperature,
                    measure=measure,
                    unit=unit,
                    values=values,
                )
        for question, values in configuration.busy_ratios.items():
            yield Figure(
                configuration=configuration.name,
                temperature=f"busy {question}",
                measure="busy to idle",
                unit="",
                values=values,
            )
        if configuration.peak_memory_bytes:
            yield Figure(
                configuration=configuration.name,
                temperature="",
                measure="peak memory",
                unit="bytes",
                values=tuple(map(float, configuration.peak_memory_bytes)),
            )


def phase_medians(samples: tuple[Sample, ...]) -> dict[str, float]:
    """Return the median of each phase that the samples have, seconds, in their order."""
    return {
        phase: median(sample.phases_s[phase] for sample in samples)
        for phase in PHASES
        if samples and phase in samples[0].phases_s
    }


def rates(document: Document, configuration: Configuration) -> Iterator[Rate]:
    """Yield the rates of a configuration's first questions in a warm process.

    Args:
        document: holds the bounds.
        configuration: one of it, not absent.
    """
    samples, bounds = configuration.first, document.bounds
    perceiver, reasoner = document.bundle.models[0], document.bundle.models[-1]
    tokens = samples[0].tokens
    if "vision" in samples[0].phases_s:  # otherwise the prefill has the tower in it
        reused, evaluated = tokens.prompt_reused, tokens.prompt_evaluated
        yield Rate(
            work="prefill",
            behind=reused + evaluated / 2,
            tokens_per_s=_rate(samples, "prefill", evaluated),
            bound_per_s=prefill_bound(bounds, perceiver, reused, evaluated),
        )
    read = tokens.prompt_reused + tokens.prompt_evaluated
    stage_2 = tokens.handover_reused + tokens.handover_evaluated
    opened: list[int | None] = [model.token_bytes for model in configuration.models]
    opened = opened or [None]
    for work, model, weight_bytes, prompt, written in (
        ("extract", perceiver, opened[0], read, tokens.extraction),
        ("think", reasoner, opened[-1], stage_2, tokens.thinking),
    ):
        behind = prompt + written / 2
        yield Rate(
            work=work,
            behind=behind,
            tokens_per_s=_rate(samples, work, written - 1),  # the first one is the prefill's
            bound_per_s=decode_bound(bounds, model, behind, weight_bytes),
        )


def weights_and_kv_bytes(bundle: BundleInfo, configuration: Configuration) -> int | None:
    """Return what weights of tower and language models and the KV caches take together, bytes.

    Args:
        bundle: the document's.
        configuration: one of it.

    Returns:
        None where the document does not tell: of other programs, and of an earlier version.
    """
    if not configuration.models or bundle.tower_bytes is None or bundle.kv_cache_bytes is None:
        return None
    weights = sum(model.file_bytes for model in configuration.models)
    return bundle.tower_bytes + weights + bundle.kv_cache_bytes


def _rate(samples: tuple[Sample, ...], phase: str, tokens: int) -> float:
    return tokens / median(sample.phases_s[phase] for sample in samples)


def _sampled(samples: tuple[Sample, ...]) -> Iterator[tuple[str, str, tuple[float, ...]]]:
    if not samples:
        return
    for phase in PHASES:
        if phase in samples[0].phases_s:
            yield f"phase {phase}", "s", tuple(sample.phases_s[phase] for sample in samples)
    for name, read in MILESTONES.items():
        yield name, "s", tuple(map(read, samples))
    energy = tuple(sample.energy_j for sample in samples if sample.energy_j is not None)
    heat = tuple(sample.temperature_c for sample in samples if sample.temperature_c is not None)
    for name, unit, values in (("energy", "J", energy), ("temperature", "C", heat)):
        if values:
            yield name, unit, values


def samples_of(
    document: Document, temperature: Temperature
) -> Iterator[tuple[Configuration, tuple[Sample, ...]]]:
    """Yield the configurations that have samples of one temperature, and these."""
    for configuration in document.configurations:
        if samples := configuration.samples(temperature):
            yield configuration, samples
