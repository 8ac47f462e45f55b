"""What the pipeline gives back: events while it works, and an answer with its measurements."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from edge_et.prompt import Segment

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
    """

    seconds: float = 0.0
    evaluated_tokens: int = 0
    reused_tokens: int = 0
    generated_tokens: int = 0


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
    """

    text: str
    tokens: tuple[int, ...]
    conversation: tuple[Segment, ...]
    usage: PhaseUsage


@dataclass(frozen=True, slots=True, kw_only=True)
class Thought:
    """Outcome of stage 2.

    Attributes:
        text: the answer, without white space around it.
        reasoning: what came before the answer marker, without white space around it.
        tokens: everything that was written, as the reasoner's ids.
        usage: what it took.
    """

    text: str
    reasoning: str
    tokens: tuple[int, ...]
    usage: PhaseUsage


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An answer; also the last event of a stream.

    Attributes:
        text: the answer.
        extraction: what stage 1 wrote down; empty when the question was answered directly.
        reasoning: what stage 2 wrote before the answer.
        usage: what each phase took, by its name: image, vision, extract, think.
    """

    text: str
    extraction: str
    reasoning: str
    usage: Mapping[str, PhaseUsage]

    def to_dict(self) -> dict[str, Any]:
        """Return the answer as plain values, ready for JSON."""
        return {
            "text": self.text,
            "extraction": self.extraction,
            "reasoning": self.reasoning,
            "usage": {phase: asdict(usage) for phase, usage in self.usage.items()},
        }


Event = ExtractionToken | ReasoningToken | AnswerToken | Answer
