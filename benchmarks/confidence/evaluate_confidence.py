"""Run one evaluation: ask what is missing, then count.

In: a bundle, questions, a file of results. Out: a `ConfidenceDocument`.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from edge_et.benchmarks.confidence.asking import ask_model, open_results
from edge_et.benchmarks.confidence.confidence_document import ConfidenceDocument
from edge_et.benchmarks.confidence.counting import count
from edge_et.benchmarks.quality.asking import model_of
from edge_et.benchmarks.quality.questions import Question
from edge_et.benchmarks.sensors import commit, describe_machine, versions
from edge_et.bundle import Bundle
from edge_et.export.steps import Progress, no_progress
from edge_et.threads import choose_threads


def evaluate_confidence(
    bundle: Bundle,
    source: str,
    questions: Sequence[Question],
    results: Path,
    *,
    threads: int | None,
    arguments: Sequence[str] = (),
    progress: Progress = no_progress,
) -> ConfidenceDocument:
    """Ask a bundle, and count what its confidence is worth.

    Args:
        bundle: the bundle.
        source: what was drawn.
        questions: each with its truth, at least one.
        results: file that answers are kept in, and taken from if they are there.
        threads: as for `edge_et.load`, without a profile.
        arguments: of the command line, for the document.
        progress: told before each question.

    Raises:
        OptionError: `threads` is out of its range.
        BenchError: the results cannot be used.
        EdgeETError: the bundle cannot be loaded, or fails.
    """
    threads = choose_threads(threads)
    model = model_of(bundle, threads)
    with open_results(results) as answers:
        ask_model(model, questions, answers, progress)
        said = [answers.find(model.key, question) for question in questions]
    outcome = count(model.key, questions, [one for one in said if one is not None])
    return ConfidenceDocument(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        commit=commit(),
        versions=versions(),
        machine=describe_machine(),
        threads=threads,
        arguments=tuple(arguments),
        questions=source,
        outcome=outcome,
    )
