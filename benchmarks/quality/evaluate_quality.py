"""Run one evaluation: ask what is missing, then count.

In: bundles, questions, a file of results. Out: a `QualityDocument`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from edge_et.benchmarks.quality.asking import (
    RETHINK,
    ask_model,
    model_key,
    model_of,
    open_answers,
    rethink,
)
from edge_et.benchmarks.quality.grid import grid_outcome, perceiver_weights, reasoner_weights
from edge_et.benchmarks.quality.modes import EXTRACTION
from edge_et.benchmarks.quality.outcome import Find, compare_modes, failures
from edge_et.benchmarks.quality.quality_document import Grid, ModeComparison, QualityDocument
from edge_et.benchmarks.quality.questions import BrokenQuestion, Question
from edge_et.benchmarks.sensors import commit, describe_machine, versions
from edge_et.bundle import Bundle
from edge_et.errors import BenchError, OptionError
from edge_et.export.steps import Progress, no_progress
from edge_et.threads import choose_threads


@dataclass(frozen=True, slots=True, kw_only=True)
class QuestionSet:
    """What is asked.

    Attributes:
        source: the file, or what was drawn.
        questions: in order.
        broken: what cannot be asked.
    """

    source: str
    questions: Sequence[Question]
    broken: Sequence[BrokenQuestion] = ()

    def without(self, broken: Sequence[BrokenQuestion]) -> "QuestionSet":
        """Return the set without questions whose pictures turned out to be broken.

        Raises:
            BenchError: none is left.
        """
        gone = {question.where: question for question in broken}
        left = [question for question in self.questions if question.where not in gone]
        if not left:
            raise BenchError(f"no picture can be used; {broken[0].where}: {broken[0].reason}")
        return replace(self, questions=left, broken=(*self.broken, *gone.values()))


def default_modes(bundle: Bundle) -> list[str]:
    """Return the modes of the paper's comparison, as far as a bundle has prompts for them."""
    modes = ["extract-think", "caption-think", EXTRACTION]
    return modes if bundle.manifest.direct is None else [*modes, "direct"]


def evaluate_modes(
    bundle: Bundle,
    asked: QuestionSet,
    modes: Sequence[str],
    results: Path,
    *,
    threads: int | None,
    arguments: Sequence[str] = (),
    progress: Progress = no_progress,
) -> QualityDocument:
    """Ask one bundle in several modes.

    Args:
        bundle: the bundle.
        asked: the questions.
        modes: keys of `ALL_MODES`, at least one.
        results: file that answers are kept in, and taken from if they are there.
        threads: as for `edge_et.load`, without a profile.
        arguments: of the command line, for the document.
        progress: told before each question.

    Raises:
        OptionError: `threads` is out of its range, or the bundle has no prompt for direct answers.
        BenchError: the results cannot be used, or no picture can.
        EdgeETError: the bundle cannot be loaded, or fails.
    """
    if "direct" in modes and bundle.manifest.direct is None:
        raise OptionError("mode", "direct", "another one: this bundle has no prompt for it")
    threads = choose_threads(threads)
    model = model_of(bundle, threads)
    with open_answers(results) as answers:
        asked = asked.without(ask_model(model, asked.questions, modes, answers, progress))
        outcome = compare_modes(asked.questions, model.key, modes, answers)
        finds: list[Find] = [partial(answers.find, model.key, mode) for mode in modes]
        return _document(asked, finds, threads, arguments, modes=outcome)


def evaluate_grid(
    perceivers: Sequence[Bundle],
    reasoners: Sequence[Bundle],
    asked: QuestionSet,
    results: Path,
    *,
    threads: int | None,
    arguments: Sequence[str] = (),
    progress: Progress = no_progress,
) -> QualityDocument:
    """Let every perceiver write once, and every reasoner think over what each of them wrote.

    Args:
        perceivers: at least one; their reasoners are not used.
        reasoners: at least one; their perceivers are not used.
        asked: as for `evaluate_modes`.
        results: as for `evaluate_modes`.
        threads: as for `evaluate_modes`.
        arguments: as for `evaluate_modes`.
        progress: as for `evaluate_modes`.

    Raises:
        OptionError: `threads` is out of its range, or a bundle is given twice on one side.
        BenchError: as for `evaluate_modes`.
        EdgeETError: a bundle cannot be loaded, or fails.
    """
    _refuse_twice("perceivers", perceivers)
    _refuse_twice("reasoners", reasoners)
    threads = choose_threads(threads)
    seeing = [model_of(bundle, threads) for bundle in perceivers]
    thinking = [model_of(bundle, threads) for bundle in reasoners]
    keys = [model.key for model in seeing]
    with open_answers(results) as answers:
        for model in seeing:
            asked = asked.without(
                ask_model(model, asked.questions, [EXTRACTION], answers, progress)
            )
        for model in thinking:
            rethink(model, keys, asked.questions, answers, progress)
        outcome = grid_outcome(
            asked.questions,
            [perceiver_weights(bundle) for bundle in perceivers],
            [reasoner_weights(bundle) for bundle in reasoners],
            answers,
        )
        finds: list[Find] = [
            partial(answers.find, model.key, RETHINK, perceiver=key)
            for model in thinking
            for key in keys
        ]
        return _document(asked, finds, threads, arguments, grid=outcome)


def _refuse_twice(side: str, bundles: Sequence[Bundle]) -> None:
    keys = [model_key(bundle) for bundle in bundles]
    for key in keys:
        if keys.count(key) > 1:
            raise OptionError(side, key, "each bundle once")


def _document(
    asked: QuestionSet,
    finds: Sequence[Find],
    threads: int,
    arguments: Sequence[str],
    *,
    modes: ModeComparison | None = None,
    grid: Grid | None = None,
) -> QualityDocument:
    return QualityDocument(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        commit=commit(),
        versions=versions(),
        machine=describe_machine(),
        threads=threads,
        arguments=tuple(arguments),
        questions=asked.source,
        broken=tuple(asked.broken),
        failed=tuple(failures(asked.questions, finds)),
        modes=modes,
        grid=grid,
    )
