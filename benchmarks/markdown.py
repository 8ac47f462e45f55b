"""Write documents as Markdown: the tables of README.md and docs/benchmarks.md.

In: documents of `benchmarks/results`. Out: files whose tables, each between two marks, were made
anew. So nobody ever types a figure:
``python -m edge_et.benchmarks.markdown README.md docs/benchmarks.md``.
"""

import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median

from edge_et.benchmarks.document import Configuration, Document, Sample, read_document
from edge_et.errors import BenchError
from edge_et.store import atomic_write

RESULTS = Path(__file__).parent / "results"

_COLUMNS: tuple[tuple[str, Callable[[Configuration], float | None]], ...] = (
    ("first question: to the extraction", lambda c: _median(c.first, _to_extraction)),
    ("hand-over", lambda c: _median(c.first, lambda sample: sample.phases_s.get("handover"))),
    ("whole answer", lambda c: _median(c.first, lambda sample: sample.total_s)),
    ("second question: to the extraction", lambda c: _median(c.second, _to_extraction)),
    ("whole answer", lambda c: _median(c.second, lambda sample: sample.total_s)),
    ("cold start to the answer", lambda c: _median(c.cold, lambda sample: sample.total_s)),
)


def markdown(documents: Sequence[Document]) -> str:
    """Return a table for each document, with what it was measured on.

    Args:
        documents: at least one.
    """
    return "\n".join(line for document in documents for line in _table(document)).rstrip() + "\n"


def fill_marks(path: Path, folder: Path) -> str:
    """Return a file's text with its tables made anew.

    What stands between ``<!-- bench: A.json B.json -->`` and ``<!-- end -->`` becomes the tables of
    these documents.

    Args:
        path: a Markdown file.
        folder: where the documents lie.

    Raises:
        BenchError: a document cannot be read, or a mark has no end.
    """

    def tables(found: re.Match[str]) -> str:
        documents = [read_document(folder / name) for name in found[2].split()]
        return f"{found[1]}\n{markdown(documents)}{found[3]}"

    text = path.read_text()
    filled, count = re.subn(
        r"(<!-- bench: ([\w.+ -]+?) -->)\n.*?(<!-- end -->)", tables, text, flags=re.DOTALL
    )
    if count != text.count("<!-- bench:"):
        raise BenchError(f"{path}: a mark <!-- bench: ... --> has no <!-- end -->")
    return filled


def _table(document: Document) -> Iterator[str]:
    machine, work = document.machine, document.work
    measured = [found for found in document.configurations if found.absent is None]
    runtime = measured[0]
    yield (
        f"**{document.bundle.name}** on {machine.cpu}, {document.threads} threads, "
        f"{document.created[:10]}; {runtime.first[0].tokens.image} image tokens, "
        f"{work.extraction_tokens} tokens extracted, {work.thinking_tokens} thought, "
        f"{work.answer_tokens} answered. Seconds, medians; behind them, how many times "
        f"{runtime.name}'s."
    )
    yield ""
    yield "| | " + " | ".join(title for title, _ in _COLUMNS) + " | peak memory |"
    yield "|---|" + "---:|" * (len(_COLUMNS) + 1)
    own = [read(runtime) for _, read in _COLUMNS]
    for configuration in measured:
        cells = [
            _cell(read(configuration), base, is_runtime=configuration is runtime)
            for (_, read), base in zip(_COLUMNS, own, strict=True)
        ]
        peak = f"{max(configuration.peak_memory_bytes) / 1e6:,.0f} MB"
        yield f"| {configuration.name} | " + " | ".join((*cells, peak)) + " |"
    absent = [found.name for found in document.configurations if found.absent is not None]
    if absent:
        yield ""
        yield f"Absent: {', '.join(absent)}."
    yield ""


def _cell(seconds: float | None, base: float | None, *, is_runtime: bool) -> str:
    if seconds is None:
        return ""
    told = f"{seconds:.3f}" if seconds < 1 else f"{seconds:.2f}"
    return told if is_runtime or not base else f"{told} ({seconds / base:.1f})"


def _median(samples: Sequence[Sample], read: Callable[[Sample], float | None]) -> float | None:
    values = [value for sample in samples if (value := read(sample)) is not None]
    return median(values) if values else None


def _to_extraction(sample: Sample) -> float:
    return sample.first_extraction_s


def main() -> None:
    """Make the tables of the files on the command line anew."""
    for name in sys.argv[1:]:
        path = Path(name)
        with atomic_write(path) as partial:
            partial.write_text(fill_marks(path, RESULTS))


if __name__ == "__main__":
    main()
