"""One evaluation from beginning to end: ask what is missing, then count.

In: bundles, questions, a file of results. Out: a `QualityDocument`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from edge_et.benchmarks.quality.asking import (
    RETHINK,
    Model,
    ask_model,
    model_key,
    open_answers,
    rethink,
)
from edge_et.benchmarks.quality.grid import grid_outcome, perceiver_weights, reasoner_weights
from edge_et.benchmarks.quality.modes import EXTRACTION
from edge_et.benchmarks.quality.outcome import Find, failures, ways_outcome
from edge_et.benchmarks.quality.quality_document import Grid, QualityDocument, Ways
from edge_et.benchmarks.quality.questions import BrokenQuestion, Question
from edge_et.benchmarks.sensors import commit, describe_machine, versions
from edge_et.bundle import Bundle
from edge_et.errors import BenchError, OptionError
from edge_et.export.steps import Progress, no_progress
from edge_et.pipeline import load


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


def default_ways(bundle: Bundle) -> list[str]:
    """Return the ways of the paper's comparison, as far as a bundle has prompts for them."""
    ways = ["extract-think", "caption-think", EXTRACTION]
    return ways if bundle.manifest.direct is None else [*ways, "direct"]


def evaluate_ways(
    bundle: Bundle,
    asked: QuestionSet,
    ways: Sequence[str],
    results: Path,
    *,
    threads: int,
    arguments: Sequence[str] = (),
    progress: Progress = no_progress,
) -> QualityDocument:
    """Ask one bundle in several ways.

    Args:
        bundle: the bundle.
        asked: the questions.
        ways: keys of `WAYS`, at least one.
        results: file that answers are kept in, and taken from if they are there.
        threads: threads of tower and language models, at least 1.
        arguments: of the command line, for the document.
        progress: told before each question.

    Raises:
        OptionError: the bundle has no prompt for direct answers.
        BenchError: the results cannot be used, or no picture can.
        EdgeETError: the bundle cannot be loaded, or fails.
    """
    if "direct" in ways and bundle.manifest.direct is None:
        raise OptionError("way", "direct", "another one: this bundle has no prompt for it")
    model = _model(bundle, threads)
    with open_answers(results) as answers:
        asked = asked.without(ask_model(model, asked.questions, ways, answers, progress))
        outcome = ways_outcome(asked.questions, model.key, ways, answers)
        finds: list[Find] = [partial(answers.find, model.key, way) for way in ways]
        return _document(asked, finds, threads, arguments, ways=outcome)


def evaluate_grid(
    perceivers: Sequence[Bundle],
    reasoners: Sequence[Bundle],
    asked: QuestionSet,
    results: Path,
    *,
    threads: int,
    arguments: Sequence[str] = (),
    progress: Progress = no_progress,
) -> QualityDocument:
    """Let every perceiver write once, and every reasoner think over what each of them wrote.

    Args:
        perceivers: at least one; their reasoners are not used.
        reasoners: at least one; their perceivers are not used.
        asked: as for `evaluate_ways`.
        results: as for `evaluate_ways`.
        threads: as for `evaluate_ways`.
        arguments: as for `evaluate_ways`.
        progress: as for `evaluate_ways`.

    Raises:
        OptionError: a bundle is given twice on one side.
        BenchError: as for `evaluate_ways`.
        EdgeETError: a bundle cannot be loaded, or fails.
    """
    _refuse_twice("perceivers", perceivers)
    _refuse_twice("reasoners", reasoners)
    seeing = [_model(bundle, threads) for bundle in perceivers]
    thinking = [_model(bundle, threads) for bundle in reasoners]
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


def _model(bundle: Bundle, threads: int) -> Model:
    # Without what was tuned to this machine: results belong to the bundle, on any machine.
    opener = partial(load, bundle.folder, threads=threads, use_profile=False)
    return Model(key=model_key(bundle), open=opener)


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
    ways: Ways | None = None,
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
        ways=ways,
        grid=grid,
    )
