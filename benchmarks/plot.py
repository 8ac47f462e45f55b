"""Draw a document: a stacked bar for each configuration, with a piece for each phase."""

from pathlib import Path

from edge_et.benchmarks.document import PHASES, TEMPERATURES, Document
from edge_et.benchmarks.figures import phase_medians, samples_of
from edge_et.errors import BenchError
from edge_et.export.steps import atomic_output, needing_extra

with needing_extra("bench"):
    import matplotlib
    from matplotlib.figure import Figure

SUFFIXES = (".png", ".svg")


def check_plot_path(path: Path) -> None:
    """Refuse a file that no plot can be written to.

    Raises:
        BenchError: another suffix than those of `SUFFIXES`.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise BenchError(f"{path}: a plot is written to a file that ends in .png or .svg")


def write_plot(document: Document, path: Path) -> None:
    """Draw medians of all phases.

    Args:
        document: the benchmark.
        path: the file to write; its suffix tells the format.

    Raises:
        BenchError: another suffix than those of `SUFFIXES`.
        OutputError: the file cannot be written.
    """
    check_plot_path(path)
    bars = [
        (f"{configuration.name}\n{temperature}", phase_medians(samples))
        for temperature in reversed(TEMPERATURES)
        for configuration, samples in reversed(list(samples_of(document, temperature)))
    ]
    figure = Figure(figsize=(9, 1.2 + 0.55 * len(bars)), layout="constrained")
    axes = figure.subplots()
    labels = [label for label, _ in bars]
    left = [0.0] * len(bars)
    for index, phase in enumerate(PHASES):
        widths = [phases.get(phase, 0.0) for _, phases in bars]
        axes.barh(labels, widths, left=left, label=phase, color=f"C{index}")
        left = [start + width for start, width in zip(left, widths, strict=True)]
    bundle, machine = document.bundle, document.machine
    axes.set_title(
        f"{bundle.name} {bundle.version}, {machine.cpu}, {document.threads} threads: "
        "medians of each phase"
    )
    axes.set_xlabel("seconds")
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    save_plot(figure, path)


def save_plot(figure: Figure, path: Path) -> None:
    """Write a figure whole or not at all; equal figures give equal files.

    Args:
        figure: what was drawn.
        path: the file to write; its suffix tells the format.

    Raises:
        OutputError: the file cannot be written.
    """
    metadata = {"Date": None} if path.suffix.lower() == ".svg" else {"Software": None}
    with atomic_output(path) as temporary, matplotlib.rc_context({"svg.hashsalt": "edge-et"}):
        figure.savefig(temporary, dpi=150, metadata=metadata)
