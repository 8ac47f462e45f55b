"""Print a document: tables for people, CSV for spreadsheets."""

import csv
from collections.abc import Iterator
from statistics import median
from typing import TextIO

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from edge_et.benchmarks.document import PHASES, TEMPERATURES, Configuration, Document, Temperature
from edge_et.benchmarks.figures import (
    MILESTONES,
    Rate,
    figures,
    phase_medians,
    rates,
    samples_of,
    weights_and_kv_bytes,
)

_TITLES: dict[Temperature, str] = {
    "cold": "Fresh process, first question",
    "restart": "Fresh process, a picture that an earlier one kept on disk",
    "first": "Warm process, new picture",
    "second": "Warm process, second question on the same picture",
    "busy first": "Beside busy processes: warm process, new picture",
    "busy second": "Beside busy processes: second question on the same picture",
}

_BUSY_SHARE = 0.1


def print_report(document: Document, console: Console) -> None:
    """Print what was measured: medians, in milliseconds.

    Args:
        document: the benchmark.
        console: where to.
    """
    console.print("\n".join(_heading(document)), markup=False, highlight=False)
    for temperature in TEMPERATURES:
        if any(samples_of(document, temperature)):
            console.print(_times(document, temperature))
    console.print(_speeds(document))
    for configuration in document.configurations:
        told = f"{configuration.name}: {configuration.note}"
        for model in configuration.models:
            told += (
                f"; {model.role} in {model.engine} {model.engine_version}, weights {model.weights}"
            )
        if configuration.absent is not None:
            told += f". Absent: {configuration.absent}"
        console.print(told, markup=False, highlight=False)


def write_csv(document: Document, file: TextIO) -> None:
    """Write every sample as a row: configuration, temperature, measure, unit, sample, value.

    Args:
        document: the benchmark.
        file: opened with ``newline=""``.
    """
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["configuration", "temperature", "measure", "unit", "sample", "value"])
    for figure in figures(document):
        for index, value in enumerate(figure.values):
            writer.writerow(
                [
                    figure.configuration,
                    figure.temperature,
                    figure.measure,
                    figure.unit,
                    index,
                    f"{value:.9g}",
                ]
            )


def _heading(document: Document) -> Iterator[str]:
    machine, bundle, work = document.machine, document.bundle, document.work
    cores = "unknown" if machine.cores is None else str(machine.cores)
    yield f"{bundle.name} {bundle.version} ({bundle.sha256[:12]}), {document.created}"
    yield (
        f"{machine.cpu}, {cores} cores, {machine.memory_bytes / 2**30:.0f} GiB, {machine.system}; "
        f"{document.threads} threads"
    )
    yield (
        f"Bounds: reads {document.bounds.memory_bytes_per_s / 1e9:.1f} GB/s from memory, "
        f"{document.bounds.gemm_flops_per_s / 1e9:.0f} GFLOP/s of float32 matrix products"
    )
    yield (
        f"Every question: {work.extraction_tokens} tokens extracted, {work.thinking_tokens} "
        f"thought, {work.answer_tokens} answered, by forced decoding"
    )
    if document.busy:
        yield f"Busy samples: beside {document.busy} processes that compute without pause"
    load = machine.load_average
    if load is not None and load > _BUSY_SHARE * machine.logical_cpus:
        yield (
            f"WARNING: {load:.2f} processes were running in the minute before; "
            "figures of a busy machine mean little"
        )


def _times(document: Document, temperature: Temperature) -> Table:
    measured = list(samples_of(document, temperature))
    table = Table("ms", title=_TITLES[temperature])
    for configuration, _ in measured:
        table.add_column(escape(configuration.name), justify="right")
    medians = [phase_medians(samples) for _, samples in measured]
    for phase in PHASES:
        if any(phase in found for found in medians):
            table.add_row(phase, *(_milliseconds(found.get(phase)) for found in medians))
    table.add_section()
    for name, read in MILESTONES.items():
        cells = (median(map(read, samples)) for _, samples in measured)
        table.add_row(f"to {name}", *map(_milliseconds, cells))
    for question in ("first", "second"):
        if temperature == f"busy {question}":
            ratios = (configuration.busy_ratios[question] for configuration, _ in measured)
            table.add_row("busy to idle", *(f"{median(values):.2f}" for values in ratios))
    return table


def _speeds(document: Document) -> Table:
    title = (
        "Warm process, new picture: tokens/s behind so many positions, of the bound; "
        "and the processes' peak memory"
    )
    table = Table("", title=title)
    measured = [found for found in document.configurations if found.absent is None]
    for configuration in measured:
        table.add_column(escape(configuration.name), justify="right")
    columns = [
        {rate.work: rate for rate in rates(document, configuration)} for configuration in measured
    ]
    for work, first in columns[0].items():
        cells = (_rate(column.get(work)) for column in columns)
        table.add_row(f"{work}, behind {first.behind:.0f}", *cells)
    table.add_section()
    table.add_row("peak memory", *(_megabytes(_peak(found)) for found in measured))
    needed = [weights_and_kv_bytes(document.bundle, found) for found in measured]
    if any(needed):
        table.add_row("weights + KV cache", *map(_megabytes, needed))
        beside = (
            None if one is None else _peak(found) - one
            for found, one in zip(measured, needed, strict=True)
        )
        table.add_row("peak less these", *map(_megabytes, beside))
    if any(sample.energy_j is not None for found in measured for sample in found.first):
        table.add_row("energy a question", *(_energy(configuration) for configuration in measured))
    return table


def _milliseconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds * 1e3:.1f}"


def _rate(rate: Rate | None) -> str:
    if rate is None:
        return ""
    return f"{rate.tokens_per_s:.1f} of {rate.bound_per_s:.0f}, {rate.share:.0%}"


def _peak(configuration: Configuration) -> int:
    return max(configuration.peak_memory_bytes)


def _megabytes(count: int | None) -> str:
    return "" if count is None else f"{count / 1e6:.0f} MB"


def _energy(configuration: Configuration) -> str:
    values = [sample.energy_j for sample in configuration.first if sample.energy_j is not None]
    return f"{median(values):.1f} J" if values else ""
