"""How often a bundle is right on held-out scenes, by exam and by way of answering.

Questions go through the installed path (ONNX Runtime, GGUF, greedy). Every answer is kept as it
comes, so that a stopped evaluation goes on, and several may share the work.
"""

from __future__ import annotations

import copy
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from edge_et.errors import TuningError
from edge_et.tuning import recipe
from edge_et.tuning.exams import EXAMS, Exam, questions

if TYPE_CHECKING:
    from edge_et.pipeline import ExtractThink
    from edge_et.tuning.scenes.mix import SceneKit
    from edge_et.vision import ImageTokens

_ARTICLE = re.compile(r"^(a|an|the) ")
_ABSENT = re.compile(r"^(there is|there are|i see) no\b")


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """What one way of answering said.

    Attributes:
        text: The answer.
        extraction: What stage 1 wrote; empty for direct answers.
        reasoning: What stage 2 thought.
        seconds: Of the language model, without the vision tower.
    """

    text: str
    extraction: str
    reasoning: str
    seconds: float


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """One question, and what each way of answering said.

    Attributes:
        bundle: Name, version and hash of the bundle.
        style: Of the drawings.
        exam: Name of the exam.
        index: Of the question in the exam.
        question: As it was asked.
        expected: The right answer.
        expected_extraction: The right extraction.
        replies: By way of answering, a key of `WAYS`.
    """

    bundle: str
    style: str
    exam: str
    index: int
    question: str
    expected: str
    expected_extraction: str
    replies: dict[str, Reply]

    def is_right(self, way: str) -> bool:
        """Says whether a way of answering was right."""
        return is_right(self.replies[way].text, self.expected)


def extract_then_think(pipe: ExtractThink, image: ImageTokens, question: str) -> Reply:
    """Answers as the paper does: extraction for the question, reasoning, answer."""
    answer = pipe.answer(image, question)
    seconds = sum(phase.seconds for phase in answer.usage.values())
    return Reply(
        text=answer.text, extraction=answer.extraction, reasoning=answer.reasoning, seconds=seconds
    )


def extract_then_answer(pipe: ExtractThink, image: ImageTokens, question: str) -> Reply:
    """Answers from the extraction, without reasoning."""
    answer = pipe.answer(image, question, max_thinking_tokens=0)
    seconds = sum(phase.seconds for phase in answer.usage.values())
    return Reply(text=answer.text, extraction=answer.extraction, reasoning="", seconds=seconds)


def caption_then_think(pipe: ExtractThink, image: ImageTokens, question: str) -> Reply:
    """Answers from a description that was written without knowing the question."""
    captioning = copy.copy(pipe)
    extract = msgspec.structs.replace(pipe.manifest.extract, prompt=recipe.CAPTION_PROMPT)
    captioning.manifest = msgspec.structs.replace(pipe.manifest, extract=extract)
    return extract_then_think(captioning, image, question)


def direct(pipe: ExtractThink, image: ImageTokens, question: str) -> Reply:
    """Answers at once."""
    answer = pipe.answer_directly(image, question)
    return Reply(
        text=answer.text, extraction="", reasoning="", seconds=answer.usage["think"].seconds
    )


WAYS: Mapping[str, Callable[[ExtractThink, ImageTokens, str], Reply]] = {
    "extract-think": extract_then_think,
    "direct": direct,
    "caption-think": caption_then_think,
    "extract-answer": extract_then_answer,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    """Right answers among questions.

    Attributes:
        right: Questions answered right.
        asked: Questions asked.
    """

    right: int
    asked: int

    @property
    def share(self) -> float:
        """Right answers a question, 0 to 1."""
        return self.right / self.asked

    @property
    def interval(self) -> tuple[float, float]:
        """The 95% interval of the share (Wilson, 1927)."""
        z, n = 1.96, self.asked
        middle = (self.share + z * z / (2 * n)) / (1 + z * z / n)
        half = (
            z / (1 + z * z / n) * math.sqrt(self.share * (1 - self.share) / n + (z / (2 * n)) ** 2)
        )
        return max(0.0, middle - half), min(1.0, middle + half)


def sit_exam(
    pipe: ExtractThink,
    exam: Exam,
    count: int,
    kit: SceneKit,
    style: str,
    ways: Sequence[str],
    results: Path,
    on_trial: Callable[[int], None] = lambda asked: None,
) -> None:
    """Asks a bundle the first questions of an exam, except those that the results hold already.

    Args:
        pipe: The bundle.
        exam: Which exam.
        count: How many questions.
        kit: What scenes are drawn with.
        style: Name of the drawing style, for the results.
        ways: Ways of answering, keys of `WAYS`.
        results: JSON Lines of `Trial`, appended to.
        on_trial: Called after each question with its number.

    Raises:
        TuningError: The results cannot be read.
    """
    bundle = bundle_key(pipe)
    kept = {
        trial.index
        for trial in (read_trials([results]) if results.exists() else ())
        if (trial.bundle, trial.style, trial.exam) == (bundle, style, exam.name)
    }
    for index, (picture, example) in enumerate(islice(questions(exam, kit), count)):
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
                replies={way: WAYS[way](pipe, image, example.question) for way in ways},
            )
            with results.open("ab") as file:
                file.write(msgspec.json.encode(trial) + b"\n")
        on_trial(index + 1)


def bundle_key(pipe: ExtractThink) -> str:
    """Names a bundle by its manifest: name, version, and the start of the vision graph's hash."""
    manifest = pipe.manifest
    return f"{manifest.name} {manifest.version} {manifest.vision.graph.sha256[:8]}"


def read_trials(paths: Sequence[Path]) -> list[Trial]:
    """Reads results.

    Raises:
        TuningError: A file cannot be read, or a line is no trial.
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
            except (msgspec.DecodeError, UnicodeDecodeError) as err:
                raise TuningError(f"{path}:{number} is no result of an evaluation: {err}") from err
    return trials


def is_right(answered: str, expected: str) -> bool:
    """Says whether two answers agree, apart from case, an article and closing punctuation.

    Where something is not there, any sentence that says so is right.
    """
    if _ABSENT.match(expected.lower()):
        return _ABSENT.match(answered.strip().lower()) is not None
    return _plain(answered) == _plain(expected)


def accuracy(trials: Sequence[Trial], way: str) -> Accuracy:
    """Counts the right answers of a way of answering."""
    return Accuracy(right=sum(trial.is_right(way) for trial in trials), asked=len(trials))


def guessing(trials: Sequence[Trial]) -> float:
    """Returns the share that the most frequent right answer alone would get."""
    counts = Counter(trial.expected.lower() for trial in trials)
    return counts.most_common(1)[0][1] / len(trials)


def table(trials: Sequence[Trial]) -> str:
    """Writes a Markdown table: a row an exam, a column a way of answering, with 95% intervals."""
    ways = [way for way in WAYS if all(way in trial.replies for trial in trials)]
    lines = [
        f"| question | asked | {' | '.join(ways)} | guessing |",
        "|---|---:|" + "---:|" * (len(ways) + 1),
    ]
    for exam in EXAMS:
        some = [trial for trial in trials if trial.exam == exam.name]
        if some:
            cells = [_cell(accuracy(some, way)) for way in ways]
            row = [exam.name, str(len(some)), *cells, f"{guessing(some):.0%}"]
            lines.append(f"| {' | '.join(row)} |")
    return "\n".join(lines)


def _cell(found: Accuracy) -> str:
    low, high = found.interval
    return f"{found.share:.0%} ({low:.0%} to {high:.0%})"


def _plain(text: str) -> str:
    return _ARTICLE.sub("", text.strip().strip(".!?\"'").lower())
