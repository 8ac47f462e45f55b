"""What the shares of choices are worth: calibration, and whether length decides.

In: questions and what was chosen. Out: structs of the document.
"""

from collections.abc import Sequence

import numpy as np

from edge_et.benchmarks.quality.asking import Said
from edge_et.benchmarks.quality.modes import Reply
from edge_et.benchmarks.quality.quality_document import ChoiceFigures, LengthBias, ShareBin
from edge_et.benchmarks.quality.questions import Question
from edge_et.benchmarks.quality.scoring import is_accepted

_BINS = 5


def choice_figures(
    questions: Sequence[Question], said: Sequence[Said | None]
) -> ChoiceFigures | None:
    """Count by share and by length.

    Args:
        questions: which offer choices.
        said: what was chosen, question by question; one that could not be asked counts nowhere.

    Returns:
        The figures; None: no question could be asked.
    """
    asked = [
        (question, one.reply)
        for question, one in zip(questions, said, strict=True)
        if one is not None and one.reply is not None
    ]
    if not asked:
        return None
    shares = np.array([reply.shares[reply.text] for _, reply in asked])
    right = np.array([is_accepted(reply.text, question.accepted) for question, reply in asked])
    place = np.minimum((shares * _BINS).astype(int), _BINS - 1)
    bins = []
    error = 0.0
    for index in range(_BINS):
        here = place == index
        share, found = (float(of[here].mean()) if here.any() else None for of in (shares, right))
        if share is not None and found is not None:
            error += float(here.mean()) * abs(share - found)
        bins.append(
            ShareBin(below=(index + 1) / _BINS, asked=int(here.sum()), share=share, right=found)
        )
    wrong = [pair for pair, is_right in zip(asked, right, strict=True) if not is_right]
    return ChoiceFigures(
        asked=len(asked),
        bins=tuple(bins),
        calibration_error=error,
        length_bias=_length_bias(wrong) if wrong else None,
    )


def _length_bias(wrong: Sequence[tuple[Question, Reply]]) -> LengthBias:
    picked, offered = [], []
    for question, reply in wrong:
        truth = next(text for text in question.offered if is_accepted(text, question.accepted))
        others = [text for text in question.offered if not is_accepted(text, question.accepted)]
        picked.append(np.sign(len(reply.text) - len(truth)))
        signs = np.array([np.sign(len(text) - len(truth)) for text in others])
        offered.append([(signs > 0).mean(), (signs < 0).mean()])
    longer, shorter = np.mean(offered, axis=0).tolist()
    return LengthBias(
        wrong=len(wrong),
        picked_longer=float(np.mean(np.array(picked) > 0)),
        picked_shorter=float(np.mean(np.array(picked) < 0)),
        offered_longer=longer,
        offered_shorter=shorter,
    )
