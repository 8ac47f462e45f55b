"""Ask models questions, and keep each answer as it comes, so that a killed run can go on.

In: models, questions, modes of answering, a file of results. Out: more lines in that file.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from edge_et.benchmarks.quality.modes import ALL_MODES, CHOICES, EXTRACTION, Asking, Reply
from edge_et.benchmarks.quality.questions import BrokenQuestion, Question
from edge_et.bundle import MANIFEST_NAME, Bundle, file_ref
from edge_et.errors import BenchError, ImageError, PromptTooLongError
from edge_et.export.resume_log import ResumeLog
from edge_et.export.steps import Progress, no_progress
from edge_et.pipeline import ExtractThink, load

RETHINK = "rethink"
"""The mode that thinks over an extraction of another bundle."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A bundle that is asked.

    Attributes:
        key: names it in results: name, version, start of the SHA-256 of its bundle.json.
        open: loads it; called only if there is something to ask.
    """

    key: str
    open: Callable[[], ExtractThink]


class Said(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One line of the results: what a model said to a question in one mode of answering."""

    question: Annotated[str, Meta(description="Key of the question.")]
    text: Annotated[str, Meta(description="The question as it was asked.")]
    model: Annotated[str, Meta(description="Key of the model.")]
    mode: str = msgspec.field(name="way")  # its name in files written so far
    perceiver: Annotated[
        str, Meta(description="Key of the model whose extraction was thought about; or empty.")
    ] = ""
    reply: Annotated[Reply | None, Meta(description="null: it could not be asked.")] = None
    failed: Annotated[str, Meta(description="Why not; or empty.")] = ""


class Answers:
    """The results of all runs into one file."""

    def __init__(self, log: ResumeLog[Said]) -> None:
        """Take what is there; `open_answers` opens the file."""
        self._log = log
        self._found = {_key_of(said): said for said in log.records}

    def find(self, model: str, mode: str, question: Question, perceiver: str = "") -> Said | None:
        """Return what was said; None: this was not asked yet."""
        return self._found.get((model, perceiver, mode, question.key))

    def add(self, said: Said) -> None:
        """Keep what was said; it is on the disk when this returns.

        Raises:
            BenchError: the file cannot be written.
        """
        self._log.add(said)
        self._found[_key_of(said)] = said


@contextmanager
def open_answers(path: Path) -> Iterator[Answers]:
    """Open a file of results, new or to go on with.

    Raises:
        BenchError: it cannot be read or written, or something else wrote it.
    """
    with ResumeLog(path, Said, writer="bench quality", error=BenchError) as log:
        yield Answers(log)


def model_key(bundle: Bundle) -> str:
    """Return what a bundle is called in results."""
    manifest = bundle.manifest
    sha256 = file_ref(bundle.folder / MANIFEST_NAME).sha256
    return f"{manifest.name} {manifest.version} {sha256[:8]}"


def model_of(bundle: Bundle, threads: int) -> Model:
    """Return a bundle as a model that is asked.

    Args:
        bundle: the bundle.
        threads: as for `edge_et.load`.
    """
    # Without what was tuned to this machine: results belong to the bundle, on any machine.
    opener = partial(load, bundle.folder, threads=threads, use_profile=False)
    return Model(key=model_key(bundle), open=opener)


def ask_model(
    model: Model,
    questions: Sequence[Question],
    modes: Sequence[str],
    answers: Answers,
    progress: Progress = no_progress,
) -> list[BrokenQuestion]:
    """Ask a model what the results do not hold yet.

    A question that does not fit the model's context counts as asked, and failed.

    Args:
        model: the model.
        questions: in order.
        modes: keys of `ALL_MODES`.
        answers: the results.
        progress: told before each question.

    Returns:
        Questions whose pictures cannot be used; nobody is asked these.

    Raises:
        BenchError: a question offers no choices, and is to be answered by one.
        EdgeETError: the model cannot be loaded, or fails otherwise; the results can be used.
    """
    for question in questions if CHOICES in modes else ():
        if not question.offered:
            raise BenchError(f"mode {CHOICES}: {question.where} offers no choices")
    order = [mode for mode in ALL_MODES if mode in modes]
    missing = [
        (question, lacking)
        for question in questions
        if (lacking := [mode for mode in order if answers.find(model.key, mode, question) is None])
    ]
    broken: list[BrokenQuestion] = []
    if not missing:
        return broken
    with model.open() as pipe:
        for done, (question, lacking) in enumerate(missing):
            progress(f"{model.key}: {question.kind}", done, len(missing))
            unsaid = Said(question=question.key, text=question.text, model=model.key, mode="")
            try:
                image = pipe.encode_image(question.picture)
                asking = Asking(pipe, image, question.text, offered=question.offered)
            except ImageError as err:
                broken.append(BrokenQuestion(where=question.where, reason=str(err)))
                continue
            except PromptTooLongError as err:
                for mode in lacking:
                    answers.add(msgspec.structs.replace(unsaid, mode=mode, failed=str(err)))
                continue
            for mode in lacking:
                said = msgspec.structs.replace(unsaid, mode=mode)
                answers.add(_say(said, partial(ALL_MODES[mode], asking)))
    return broken


def rethink(
    model: Model,
    perceivers: Sequence[str],
    questions: Sequence[Question],
    answers: Answers,
    progress: Progress = no_progress,
) -> None:
    """Let a model think over extractions of others, where the results do not hold it yet.

    Args:
        model: thinks; its own tower and perceiver are not used.
        perceivers: keys of models that were asked for extractions.
        questions: those that all of them were asked.
        answers: the results.
        progress: told before each question.

    Raises:
        EdgeETError: as for `ask_model`.
    """
    missing = [
        (perceiver, question)
        for perceiver in perceivers
        for question in questions
        if answers.find(model.key, RETHINK, question, perceiver) is None
    ]
    if not missing:
        return
    with model.open() as pipe:
        for done, (perceiver, question) in enumerate(missing):
            progress(f"{model.key} over {perceiver}", done, len(missing))
            seen = answers.find(perceiver, EXTRACTION, question)
            assert seen is not None, question.where
            said = Said(
                question=question.key,
                text=question.text,
                model=model.key,
                mode=RETHINK,
                perceiver=perceiver,
            )
            if seen.reply is None:
                answers.add(msgspec.structs.replace(said, failed=seen.failed))
                continue
            extraction = seen.reply.extraction
            answers.add(_say(said, partial(_rethink, pipe, question.text, extraction)))


def _rethink(pipe: ExtractThink, question: str, extraction: str) -> Reply:
    answer = pipe.rethink(question, extraction)
    usage = answer.usage["think"]
    return Reply(
        text=answer.text,
        extraction=extraction,
        reasoning=answer.reasoning,
        seconds=usage.seconds,
        tokens=usage.generated_tokens,
    )


def _say(said: Said, mode: Callable[[], Reply]) -> Said:
    """Return what is said, or that the question does not fit."""
    try:
        return msgspec.structs.replace(said, reply=mode())
    except PromptTooLongError as err:
        return msgspec.structs.replace(said, failed=str(err))


def _key_of(said: Said) -> tuple[str, str, str, str]:
    return said.model, said.perceiver, said.mode, said.question
