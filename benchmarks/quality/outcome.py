"""Count what was answered: accuracies by kind, paired differences, costs.

In: the questions asked and the results. Out: structs of the document.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from statistics import median

import numpy as np
from numpy.typing import NDArray

from edge_et.benchmarks.quality.accuracy import Accuracy, mean_gain
from edge_et.benchmarks.quality.asking import Answers, Said
from edge_et.benchmarks.quality.choice_figures import choice_figures
from edge_et.benchmarks.quality.modes import ALL_MODES, CHOICES, Reply, is_reply_right
from edge_et.benchmarks.quality.quality_document import Cost, Difference, ModeComparison, Row, Share
from edge_et.benchmarks.quality.questions import BrokenQuestion, Question
from edge_et.benchmarks.quality.scoring import plain

Find = Callable[[Question], Said | None]
"""Finds what one mode of answering said to a question."""

Marks = NDArray[np.bool_]
"""bool [questions]: whether each was answered right."""


def mark(said: Said | None, question: Question) -> bool:
    """Say whether what was said is right; a question that could not be asked is not."""
    if said is None or said.reply is None:
        return False
    return is_reply_right(said.mode, said.reply, question.accepted, question.choices)


def share_of(marks: Marks) -> Share:
    """Return the share of right answers.

    Args:
        marks: bool [questions], at least one.
    """
    found = Accuracy(right=int(marks.sum()), asked=len(marks))
    return Share(right=found.right, share=found.share, interval=found.interval)


def cost_of(replies: Sequence[Reply]) -> Cost:
    """Return the medians of what replies took; zeros if there are none."""
    return Cost(
        seconds=median([reply.seconds for reply in replies] or [0.0]),
        tokens=median([reply.tokens for reply in replies] or [0]),
    )


def guessing(questions: Sequence[Question]) -> float:
    """Return the share that the most frequent right answer alone would get."""
    counts = Counter(answer for q in questions for answer in {plain(text) for text in q.accepted})
    return counts.most_common(1)[0][1] / len(questions)


def failures(questions: Sequence[Question], finds: Sequence[Find]) -> list[BrokenQuestion]:
    """Return the questions that some mode of answering could not be asked, each once."""
    failed = []
    for question in questions:
        reasons = [said.failed for find in finds if (said := find(question)) and said.failed]
        if reasons:
            failed.append(BrokenQuestion(where=question.where, reason=reasons[0]))
    return failed


def compare_modes(
    questions: Sequence[Question], model: str, modes: Sequence[str], answers: Answers
) -> ModeComparison:
    """Compare modes of answering.

    Args:
        questions: asked in all of them; at least one.
        model: key of the bundle.
        modes: keys of `ALL_MODES`.
        answers: what it said.
    """
    order = [mode for mode in ALL_MODES if mode in modes]
    said = {mode: [answers.find(model, mode, question) for question in questions] for mode in order}
    marks = {
        mode: np.array([mark(one, q) for one, q in zip(found, questions, strict=True)])
        for mode, found in said.items()
    }
    kinds = dict.fromkeys(question.kind for question in questions)
    members: dict[str | None, Marks] = {
        kind: np.array([question.kind == kind for question in questions]) for kind in kinds
    }
    members[None] = np.ones(len(questions), np.bool_)
    rows = [
        Row(
            kind=kind,
            asked=int(these.sum()),
            guessing=guessing([q for q, is_one in zip(questions, these, strict=True) if is_one]),
            modes={mode: share_of(marks[mode][these]) for mode in order},
        )
        for kind, these in members.items()
    ]
    differences = []
    for other in order[1:]:
        for kind, these in members.items():
            gain = mean_gain(marks[order[0]][these].astype(float) - marks[other][these])
            differences.append(
                Difference(
                    mode=order[0], other=other, kind=kind, gain=gain.value, interval=gain.interval
                )
            )
    costs = {
        mode: cost_of([one.reply for one in found if one is not None and one.reply is not None])
        for mode, found in said.items()
    }
    return ModeComparison(
        model=model,
        rows=tuple(rows[:-1]),
        overall=rows[-1],
        differences=tuple(differences),
        costs=costs,
        choices=choice_figures(questions, said[CHOICES]) if CHOICES in said else None,
    )
