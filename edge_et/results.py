"""What the pipeline gives back: events while it works, and an answer with its measurements."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

CutStage = Literal["hint", "extract", "think", "answer"]
CutReason = Literal["tokens", "deadline", "repetition"]

PHASES = ("image", "vision", "extract", "think")


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseUsage:
    """What one phase took.

    Attributes:
        seconds: time spent inside the phase; the caller's own time between events is not counted.
        evaluated_tokens: vision: image tokens made. extract, think: positions of the prompt that
            went through the language model.
        reused_tokens: vision: image tokens that were remembered, so that the tower did not run.
            extract, think: positions of the prompt that the KV cache held already.
        generated_tokens: tokens written, without the stop token.
        overlapped_tokens: think: those of `evaluated_tokens` that a reasoner of its own read while
            the perceiver was still writing; the time that took counts as the extraction's.
    """

    seconds: float = 0.0
    evaluated_tokens: int = 0
    reused_tokens: int = 0
    generated_tokens: int = 0
    overlapped_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Cut:
    """Something that ended before the model ended it.

    Attributes:
        stage: what was being written: the ``hint`` for stage 1, the extraction (``extract``), what
            comes before the answer (``think``), the ``answer``.
        reason: its budget of ``tokens`` was used; the ``deadline`` came; it was a ``repetition`` of
            the same words over and over.
    """

    stage: CutStage
    reason: CutReason


@dataclass(frozen=True, slots=True)
class ExtractionToken:
    """Text of stage 1, as it is written.

    Attributes:
        text: one or more whole characters.
    """

    text: str


@dataclass(frozen=True, slots=True)
class ReasoningToken:
    """Text of stage 2 before the answer marker, as it is written.

    Attributes:
        text: one or more whole characters.
    """

    text: str


@dataclass(frozen=True, slots=True)
class AnswerToken:
    """Text of the answer, as it is written.

    Attributes:
        text: one or more whole characters.
    """

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Extraction:
    """Outcome of stage 1.

    Attributes:
        text: what was written, without white space around it.
        tokens: what was written, as the perceiver's ids.
        conversation: prompt and extraction as segments; stage 2 of a one-model bundle goes on here.
        usage: what it took.
        hint: what the perceiver was asked to pay attention to; empty where the bundle's prompt has
            no place for it.
        cuts: what was cut, and why.
    """

    text: str
    tokens: tuple[int, ...]
    conversation: tuple[Any, ...]
    usage: PhaseUsage
    hint: str = ""
    cuts: tuple[Cut, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Thought:
    """Outcome of stage 2.

    Attributes:
        text: the answer, without white space around it.
        reasoning: what came before the answer marker, marked thoughts included, without white
            space around it.
        tokens: everything that was written, as the reasoner's ids.
        usage: what it took.
        cuts: what was cut, and why.
    """

    text: str
    reasoning: str
    tokens: tuple[int, ...]
    usage: PhaseUsage
    cuts: tuple[Cut, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An answer; also the last event of a stream.

    Attributes:
        text: the answer; never empty.
        extraction: what stage 1 wrote down; empty when the question was answered directly.
        reasoning: what stage 2 wrote before the answer.
        usage: what each phase took, by its name: image, vision, extract, think; and hint, where the
            reasoner wrote one.
        hint: what the perceiver was asked to pay attention to; empty where the bundle's prompt has
            no place for it.
        cuts: what was cut, in the order of the stages, and why; empty if everything came to its own
            end.
    """

    text: str
    extraction: str
    reasoning: str
    usage: Mapping[str, PhaseUsage]
    hint: str = ""
    cuts: tuple[Cut, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the answer as plain values, ready for JSON."""
        return {
            "text": self.text,
            "extraction": self.extraction,
            "reasoning": self.reasoning,
            "hint": self.hint,
            "cuts": [asdict(cut) for cut in self.cuts],
            "usage": {phase: asdict(usage) for phase, usage in self.usage.items()},
        }


Event = ExtractionToken | ReasoningToken | AnswerToken | Answer
