"""Count what confidence is worth: AUC, blame, calibration, risk against coverage.

In: the questions and what was seen of each answer. Out: an `Outcome`.
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from statistics import median

import numpy as np

from edge_et.benchmarks.confidence.asking import Sure
from edge_et.benchmarks.confidence.confidence_document import (
    Bin,
    Cost,
    Curve,
    Estimate,
    Faults,
    Outcome,
    Signal,
)
from edge_et.benchmarks.confidence.figures import (
    Marks,
    Scores,
    auc,
    aurc,
    calibration_error,
    reliability,
    risk_against_coverage,
    with_interval,
)
from edge_et.benchmarks.confidence.signals import ANSWER, ANSWERING, DOUBT, blame, sureness
from edge_et.benchmarks.quality.questions import Question
from edge_et.benchmarks.quality.scoring import is_accepted

CHOSEN_ON = 10
"""Questions of each exam that formulas of the runtime were chosen on, the mini being asked."""

CURVES = (ANSWER, ANSWERING, "seeing")
"""Signals that are drawn."""


def count(model: str, questions: Sequence[Question], said: Sequence[Sure]) -> Outcome:
    """Count.

    Args:
        model: key of the bundle.
        questions: at least one.
        said: what was seen of each, in the same order.
    """
    pairs = list(zip(questions, said, strict=True))
    right = np.array([is_accepted(one.answer, asked.accepted) for asked, one in pairs])
    seeing = np.array(
        [
            one.true_answer is not None and is_accepted(one.true_answer, asked.accepted)
            for asked, one in pairs
        ]
    )
    new = _are_new(questions)
    scores = _columns([sureness(one) for one in said])
    blames = _columns([blame(one) for one in said])
    doubts = blames[DOUBT] > 0
    return Outcome(
        model=model,
        asked=len(pairs),
        right=int(right.sum()),
        signals=_signals(scores, right, new),
        faults=Faults(
            seeing=int((~right & seeing).sum()),
            thinking=int((~right & ~seeing).sum()),
            seeing_told=int((~right & seeing & doubts).sum()),
            thinking_told=int((~right & ~seeing & ~doubts).sum()),
        ),
        blame=_signals(
            {name: column[~right] for name, column in blames.items()},
            seeing[~right],
            new[~right],
        ),
        curves=tuple(_curve(name, scores[name], right) for name in CURVES),
        cost=Cost(
            seconds=median(one.seconds for one in said),
            control_seconds=median(one.control_seconds for one in said),
            control_positions=median(one.control_positions for one in said),
        ),
    )


def _are_new(questions: Sequence[Question]) -> Marks:
    """Return which questions come behind the first `CHOSEN_ON` of their exam."""
    before: Counter[str] = Counter()
    found = []
    for question in questions:
        found.append(before[question.kind] >= CHOSEN_ON)
        before[question.kind] += 1
    return np.array(found)


def _columns(rows: Sequence[Mapping[str, float]]) -> dict[str, Scores]:
    """Return the scores that all questions have, by name."""
    names = [name for name in rows[0] if all(name in row for row in rows)]
    return {name: np.array([row[name] for row in rows]) for name in names}


def _signals(columns: Mapping[str, Scores], marks: Marks, new: Marks) -> tuple[Signal, ...]:
    return tuple(
        Signal(
            name=name,
            auc=_estimate(auc, column, marks),
            first=_estimate(auc, column[~new], marks[~new]),
            others=_estimate(auc, column[new], marks[new]),
        )
        for name, column in columns.items()
    )


def _curve(name: str, scores: Scores, right: Marks) -> Curve:
    return Curve(
        name=name,
        bins=tuple(Bin(**asdict(part)) for part in reliability(scores, right)),
        calibration_error=_estimate(calibration_error, scores, right),
        risks=tuple(risk_against_coverage(scores, right).tolist()),
        area=_estimate(aurc, scores, right),
    )


def _estimate(figure: Callable[[Scores, Marks], float], scores: Scores, marks: Marks) -> Estimate:
    if not len(scores):
        return Estimate(value=None, interval=None)
    value, interval = with_interval(figure, scores, marks)
    if math.isnan(value):
        return Estimate(value=None, interval=None)
    return Estimate(value=value, interval=interval)
