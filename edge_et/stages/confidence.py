"""How sure an answer is: by what was seen while it was written, and by writing it once more.

In: what a `Watch` saw, and the extraction's part of it; for the control, a prompt that tells less.
Out: a `Confidence`. Which prompt that is, is not known here. docs/confidence.md has the figures
behind these formulas.
"""

import math
from collections.abc import Generator
from dataclasses import dataclass
from typing import Final

from edge_et.generation import Deadline, Watch
from edge_et.results import (
    Certainty,
    Confidence,
    Doubt,
    PhaseUsage,
    Progress,
    Stage,
    StageEvent,
    Thought,
)
from edge_et.stages.timing import timed

STAGES: Final[tuple[Stage, ...]] = ("extract", "think")
"""What an answer rests on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """The same answer behind a prompt that tells less.

    Attributes:
        answering: as for `edge_et.results.Confidence`, there.
        usage: what asking took.
    """

    answering: float
    usage: PhaseUsage


def control(
    events: Generator[StageEvent, None, Thought], watch: Watch, answer: str, deadline: Deadline
) -> Generator[Progress, None, Control | None]:
    """Write an answer once more, and tell how sure it is there; its text is not told again.

    Args:
        events: of a stage that `watch` follows.
        watch: made with what was said when the answer was written first.
        answer: its text.
        deadline: where it comes between two steps, there is no control.

    Yields:
        Progress before every step.

    Returns:
        The control; None: it took longer than there was time.
    """
    events = timed(events)
    while True:
        try:
            event = next(events)
        except StopIteration as stop:
            thought: Thought = stop.value
            return Control(answering=_sureness(thought, watch, answer), usage=thought.usage)
        if deadline.passed():
            events.close()
            return None
        if isinstance(event, Progress):
            yield event


def confidence_of(
    thought: Thought,
    watch: Watch,
    extraction: Certainty | None = None,
    control: Control | None = None,
) -> Confidence:
    """Return how sure an answer is.

    Args:
        thought: has the answer.
        watch: saw it, and the reasoning before it.
        extraction: what was seen of stage 1; None: no model wrote one.
        control: None: there was none.
    """
    stages = dict(watch.certainties)
    if extraction is not None:
        stages = {"extract": extraction, **stages}
    seeing, thinking = (stages[name].mean if name in stages else None for name in STAGES)
    answering = _sureness(thought, watch, thought.answer)
    return Confidence(
        answer=answering * math.prod(stages[name].mean for name in STAGES if name in stages),
        answering=answering,
        seeing=seeing,
        thinking=thinking,
        margin=_margin(thought, watch),
        control=None if control is None else control.answering,
        doubt=_doubt(seeing, thinking, answering),
        stages=stages,
        control_usage=None if control is None else control.usage,
    )


def _sureness(thought: Thought, watch: Watch, answer: str) -> float:
    """Return the share of a choice, or how probable the model found all tokens that it wrote."""
    if thought.shares:
        return thought.shares[answer]
    certainty = watch.certainties.get("answer")
    return 1.0 if certainty is None else certainty.mean**certainty.tokens


def _margin(thought: Thought, watch: Watch) -> float | None:
    if thought.shares:
        first, second = sorted(thought.shares.values())[:-3:-1]
        return first - second
    certainty = watch.certainties.get("answer")
    return None if certainty is None else certainty.margin


def _doubt(seeing: float | None, thinking: float | None, answering: float) -> Doubt | None:
    if seeing is None:
        return None
    stage_2 = answering if thinking is None else thinking * answering
    return "seeing" if seeing < stage_2 else "thinking"
