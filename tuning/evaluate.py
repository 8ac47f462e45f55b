"""How often a bundle answers held-out scenes right, by kind of question.

Goes in: a loaded pipeline, so that what is measured is what users run. Comes out: counts with 95%
intervals, for Extract+Think and for direct answering on the same questions, beside guessing.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from edge_et.errors import TuningError
from edge_et.tuning.questions import KINDS, Example, ask
from edge_et.tuning.scenes import FIRST_HELD_OUT_SEED, Icons, render_scene

if TYPE_CHECKING:
    from edge_et.pipeline import ExtractThink

_SINGLE_OBJECT_KINDS = ("name",)
_ARTICLE = re.compile(r"^(a|an|the)\s+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One question put to a bundle.

    Attributes:
        example: The question with its right answers.
        extracted: What stage 1 wrote.
        answered: What Extract+Think answered.
        answered_directly: What the bundle answered without extraction; None if not asked.
        seconds: From the picture to the answer of Extract+Think.
    """

    example: Example
    extracted: str
    answered: str
    answered_directly: str | None
    seconds: float


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


def held_out_questions(
    kind: str, count: int, libraries: Sequence[Icons]
) -> Iterator[tuple[Image.Image, Example]]:
    """Makes questions of one kind about scenes that no training saw.

    Args:
        kind: One of `KINDS`. Names are asked of scenes with a single object.
        count: How many questions.
        libraries: Drawing styles; seeds take turns.

    Raises:
        TuningError: There is no such kind.
    """
    if kind not in KINDS:
        raise TuningError(f"there is no kind of question {kind!r}; there are {', '.join(KINDS)}")
    made = 0
    composition = "single" if kind in _SINGLE_OBJECT_KINDS else None
    seed = FIRST_HELD_OUT_SEED + 1_000_000 * KINDS.index(kind)
    while made < count:
        scene = render_scene(seed, libraries[seed % len(libraries)], composition)
        example = ask(scene.objects, kind, np.random.default_rng(seed))
        seed += 1
        if example is not None:
            made += 1
            yield scene.picture, example


def run_trials(
    pipe: ExtractThink,
    questions: Iterator[tuple[Image.Image, Example]],
    on_trial: Callable[[Trial], None] = lambda trial: None,
) -> list[Trial]:
    """Asks a pipeline every question, with extraction and, where the bundle can, directly."""
    trials = []
    for picture, example in questions:
        answer = pipe.answer(picture, example.question)
        direct = None
        if pipe.manifest.direct is not None:
            direct = pipe.answer_directly(picture, example.question).text
        trial = Trial(
            example=example,
            extracted=answer.extraction,
            answered=answer.text,
            answered_directly=direct,
            seconds=sum(phase.seconds for phase in answer.usage.values()),
        )
        trials.append(trial)
        on_trial(trial)
    return trials


def is_right(answered: str, expected: str) -> bool:
    """Says whether two answers agree, apart from case, an article and closing punctuation."""
    return _plain(answered) == _plain(expected)


def accuracy(trials: Sequence[Trial]) -> Accuracy:
    """Counts the right answers of Extract+Think."""
    right = sum(is_right(trial.answered, trial.example.answer) for trial in trials)
    return Accuracy(right=right, asked=len(trials))


def direct_accuracy(trials: Sequence[Trial]) -> Accuracy | None:
    """Counts the right answers without extraction; None if none were asked for."""
    answers = [(t.answered_directly, t.example.answer) for t in trials]
    asked = [(given, expected) for given, expected in answers if given is not None]
    if not asked:
        return None
    right = sum(is_right(given, expected) for given, expected in asked)
    return Accuracy(right=right, asked=len(asked))


def guessing(trials: Sequence[Trial]) -> float:
    """Returns the share that the most frequent right answer alone would get."""
    counts = Counter(trial.example.answer for trial in trials)
    return counts.most_common(1)[0][1] / len(trials)


def table(results: dict[str, list[Trial]]) -> str:
    """Writes a Markdown table: a row a kind, Extract+Think, direct, guessing."""
    lines = [
        "| question | asked | Extract+Think | 95% interval | direct | guessing |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for kind, trials in results.items():
        both = accuracy(trials)
        low, high = both.interval
        direct = direct_accuracy(trials)
        lines.append(
            f"| {kind} | {both.asked} | {both.share:.0%} | {low:.0%} to {high:.0%} "
            f"| {'-' if direct is None else f'{direct.share:.0%}'} | {guessing(trials):.0%} |"
        )
    return "\n".join(lines)


def _plain(text: str) -> str:
    return _ARTICLE.sub("", text.strip().strip(".!?\"'").lower())
