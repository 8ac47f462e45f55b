"""How often a bundle is right, by exam and by mode of answering.

Questions go through the installed path (ONNX Runtime, GGUF, greedy). Every answer is kept as it
comes, so that a stopped evaluation goes on, and several may share the work.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from edge_et.benchmarks.quality.accuracy import Accuracy
from edge_et.benchmarks.quality.modes import MODES, Reply, ask, is_reply_right
from edge_et.errors import TuningError
from edge_et.tuning.evaluation.exam import Exam

if TYPE_CHECKING:
    from edge_et.pipeline import ExtractThink


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """One question, and what each mode of answering said.

    Attributes:
        bundle: name, version and hash of the bundle.
        style: of the pictures.
        exam: name of the exam.
        index: of the question in the exam.
        question: as it was asked.
        expected: the right answer.
        expected_extraction: the right extraction.
        replies: by mode of answering, a key of `MODES`.
    """

    bundle: str
    style: str
    exam: str
    index: int
    question: str
    expected: str
    expected_extraction: str
    replies: dict[str, Reply]

    def is_right(self, mode: str) -> bool:
        """Say whether a mode of answering was right."""
        return is_reply_right(mode, self.replies[mode], (self.expected,))


def take_exam(
    pipe: ExtractThink,
    exam: Exam,
    count: int,
    style: str,
    modes: Sequence[str],
    results: Path,
    on_trial: Callable[[int], None] = lambda asked: None,
) -> None:
    """Ask a bundle the first questions of an exam, except those that the results hold already.

    Args:
        pipe: the bundle.
        exam: which exam.
        count: how many questions.
        style: of the pictures, a name for the results.
        modes: modes of answering, keys of `MODES`.
        results: JSON Lines of `Trial`, appended to.
        on_trial: called after each question with its number.

    Raises:
        TuningError: the results cannot be read.
    """
    bundle = bundle_key(pipe)
    kept = {
        trial.index
        for trial in (read_trials([results]) if results.exists() else ())
        if (trial.bundle, trial.style, trial.exam) == (bundle, style, exam.name)
    }
    for index, (picture, example) in enumerate(islice(exam.questions(), count)):
        if index not in kept:
            image = pipe.encode_image(picture)
            trial = Trial(
                bundle=bundle,
                style=style,
                exam=exam.name,
                index=index,
                question=example.question,
                expected=example.answer,
                expected_extraction=example.extraction,
                replies=ask(pipe, image, example.question, modes),
            )
            with results.open("ab") as file:
                file.write(msgspec.json.encode(trial) + b"\n")
        on_trial(index + 1)


def bundle_key(pipe: ExtractThink) -> str:
    """Name a bundle by its manifest: name, version, and the start of the tower's hash."""
    manifest = pipe.manifest
    return f"{manifest.name} {manifest.version} {manifest.vision.files[-1].sha256[:8]}"


def read_trials(paths: Sequence[Path]) -> list[Trial]:
    """Read results.

    Raises:
        TuningError: a file cannot be read, or a line is no trial.
    """
    trials = []
    for path in paths:
        try:
            lines = path.read_bytes().splitlines()
        except OSError as err:
            raise TuningError(f"{path} cannot be read: {err.strerror}") from err
        for number, line in enumerate(lines, 1):
            try:
                trials.append(msgspec.json.decode(line, type=Trial))
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as err:
                raise TuningError(f"{path}:{number} is no result of an evaluation: {err}") from err
    return trials


def accuracy(trials: Sequence[Trial], mode: str) -> Accuracy:
    """Count the right answers of a mode of answering."""
    return Accuracy(right=sum(trial.is_right(mode) for trial in trials), asked=len(trials))


def guessing(trials: Sequence[Trial]) -> float:
    """Return the share that the most frequent right answer alone would get."""
    counts = Counter(trial.expected.lower() for trial in trials)
    return counts.most_common(1)[0][1] / len(trials)


def table(trials: Sequence[Trial], exams: Sequence[str]) -> str:
    """Write a Markdown table: a row an exam, a column a mode of answering, with 95% intervals.

    Args:
        trials: to count.
        exams: names of exams, in the order of the rows; one without trials has no row.
    """
    modes = [mode for mode in MODES if all(mode in trial.replies for trial in trials)]
    lines = [
        f"| question | asked | {' | '.join(modes)} | guessing |",
        "|---|---:|" + "---:|" * (len(modes) + 1),
    ]
    for exam in exams:
        some = [trial for trial in trials if trial.exam == exam]
        if some:
            cells = [str(accuracy(some, mode)) for mode in modes]
            row = [exam, str(len(some)), *cells, f"{guessing(some):.0%}"]
            lines.append(f"| {' | '.join(row)} |")
    return "\n".join(lines)
