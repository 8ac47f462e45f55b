"""Ask questions, and keep how sure each answer is as it comes, so that a killed run can go on.

In: a model, questions whose true extraction is known, a file of results. Out: more lines in that
file.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from edge_et.benchmarks.quality.asking import Model
from edge_et.benchmarks.quality.questions import Question
from edge_et.benchmarks.quality.scoring import is_accepted
from edge_et.errors import BenchError
from edge_et.export.resume_log import ResumeLog
from edge_et.export.steps import Progress, no_progress
from edge_et.pipeline import ExtractThink
from edge_et.results import Certainty, Confidence

Share = Annotated[float, Meta(ge=0, le=1)]


class Signals(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What was seen of one stage; see `edge_et.results.Certainty`."""

    tokens: int
    mean: Share
    least: Share
    margin: Share


class Sure(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One line of the results: an answer, how sure it is, and the answer to the true extraction."""

    question: Annotated[str, Meta(description="Key of the question.")]
    text: Annotated[str, Meta(description="The question as it was asked.")]
    model: Annotated[str, Meta(description="Key of the model.")]
    answer: Annotated[str, Meta(description="What was answered.")]
    extraction: Annotated[str, Meta(description="What stage 1 wrote.")]
    reasoning: Annotated[str, Meta(description="What stage 2 thought.")]
    true_answer: Annotated[
        str | None,
        Meta(
            description="The answer of stage 2 to the true extraction; null: the answer was right."
        ),
    ]
    control: Annotated[Share | None, Meta(description="`Confidence.control`.")]
    stages: Annotated[dict[str, Signals], Meta(description="`Confidence.stages`.")]
    seconds: Annotated[float, Meta(ge=0, description="Of both stages, without the control.")]
    control_seconds: Annotated[float, Meta(ge=0, description="Of the control.")]
    control_positions: Annotated[int, Meta(ge=0, description="That the control evaluated.")]


class Results:
    """The results of all runs into one file."""

    def __init__(self, log: ResumeLog[Sure]) -> None:
        """Take what is there; `open_results` opens the file."""
        self._log = log
        self._found = {(sure.model, sure.question): sure for sure in log.records}

    def find(self, model: str, question: Question) -> Sure | None:
        """Return what was seen; None: this was not asked yet."""
        return self._found.get((model, question.key))

    def add(self, sure: Sure) -> None:
        """Keep what was seen; it is on the disk when this returns.

        Raises:
            BenchError: the file cannot be written.
        """
        self._log.add(sure)
        self._found[sure.model, sure.question] = sure


@contextmanager
def open_results(path: Path) -> Iterator[Results]:
    """Open a file of results, new or to go on with.

    Raises:
        BenchError: it cannot be read or written, or something else wrote it.
    """
    with ResumeLog(path, Sure, writer="bench confidence", error=BenchError) as log:
        yield Results(log)


def ask_model(
    model: Model,
    questions: Sequence[Question],
    results: Results,
    progress: Progress = no_progress,
) -> None:
    """Ask a model what the results do not hold yet.

    Args:
        model: the model.
        questions: in order, each with its truth.
        results: where answers are kept.
        progress: told before each question.

    Raises:
        EdgeETError: the model cannot be loaded, or fails; the results can be used.
    """
    missing = [question for question in questions if results.find(model.key, question) is None]
    if not missing:
        return
    with model.open() as pipe:
        for done, question in enumerate(missing):
            progress(f"{model.key}: {question.kind}", done, len(missing))
            results.add(_ask(pipe, model.key, question))


def _ask(pipe: ExtractThink, model: str, question: Question) -> Sure:
    answer = pipe.answer(question.picture, question.text, confidence="control")
    is_right = is_accepted(answer.text, question.accepted)
    true = None if is_right else pipe.rethink(question.text, question.truth)
    found = answer.confidence
    assert isinstance(found, Confidence)
    control = found.control_usage
    return Sure(
        question=question.key,
        text=question.text,
        model=model,
        answer=answer.text,
        extraction=answer.extraction,
        reasoning=answer.reasoning,
        true_answer=None if true is None else true.text,
        control=found.control,
        stages={stage: _signals(certainty) for stage, certainty in found.stages.items()},
        seconds=answer.usage["extract"].seconds + answer.usage["think"].seconds,
        control_seconds=control.seconds if control else 0.0,
        control_positions=control.evaluated_tokens if control else 0,
    )


def _signals(certainty: Certainty) -> Signals:
    return Signals(
        tokens=certainty.tokens,
        mean=certainty.mean,
        least=certainty.least,
        margin=certainty.margin,
    )
