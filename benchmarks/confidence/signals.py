"""What was seen of an answer as scores: how sure it is, and which stage is the less sure one.

In: a line of the results. Out: numbers by name. What they are worth is not known here.
"""

import math
from collections.abc import Mapping

from edge_et.benchmarks.confidence.asking import Signals, Sure

ANSWER = "answer"
"""`Confidence.answer`."""

ANSWERING = "answering"
"""`Confidence.answering`: how probable the answer is, and nothing else."""

DOUBT = "seeing against thinking and answering"
"""Above zero where `Confidence.doubt` is seeing."""

_LEAST = 1e-12  # of a probability in a ratio


def sureness(sure: Sure) -> Mapping[str, float]:
    """Return scores of an answer; the higher, the more likely it should be right."""
    seeing, thinking = (_stage(sure, name) for name in ("extract", "think"))
    answering = _answering(sure)
    found = {
        ANSWER: seeing.mean * thinking.mean * answering,
        ANSWERING: answering,
        "seeing": seeing.mean,
        "seeing, least": seeing.least,
        "thinking": thinking.mean,
        "thinking, least": thinking.least,
        "margin": _stage(sure, "answer").margin,
    }
    if sure.control is not None:
        found["answering over control"] = _log_ratio(answering, sure.control)
    return found


def blame(sure: Sure) -> Mapping[str, float]:
    """Return scores of an answer that is wrong; the higher, the more likely seeing is at fault."""
    seeing, thinking = (_stage(sure, name) for name in ("extract", "think"))
    answering = _answering(sure)
    found = {
        DOUBT: _log_ratio(thinking.mean * answering, seeing.mean),
        "seeing against thinking": _log_ratio(thinking.mean, seeing.mean),
        "seeing against thinking, least": _log_ratio(thinking.least, seeing.least),
        "seeing": -seeing.mean,
        "seeing, least": -seeing.least,
        "thinking": thinking.mean,
        "thinking, least": thinking.least,
    }
    if sure.control is not None:
        found["control"] = sure.control
    return found


def _answering(sure: Sure) -> float:
    written = _stage(sure, "answer")
    return written.mean**written.tokens


def _stage(sure: Sure, name: str) -> Signals:
    """Return what was seen of a stage; of one that wrote nothing, that there was no doubt."""
    return sure.stages.get(name, Signals(tokens=1, mean=1.0, least=1.0, margin=1.0))


def _log_ratio(over: float, under: float) -> float:
    return math.log(max(over, _LEAST)) - math.log(max(under, _LEAST))
