"""What the pipeline gives back: events while it works, and an answer with its measurements."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from types import NoneType
from typing import Any, Literal

from edge_et.deprecation import warn_renamed

Stage = Literal["hint", "extract", "think", "answer"]
"""What is written: the hint for stage 1, the extraction, the thinking, the answer."""

FinishReason = Literal["stop", "length", "deadline", "repetition"]
"""Why a stage ended: the model ended it; its budget of tokens was used; the deadline came; the
model repeated the same words over and over."""

Doubt = Literal["seeing", "thinking"]
"""Which stage to look at first where an answer is wrong."""

FinishReasons = Mapping[Stage, FinishReason]


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
        pictures: image, vision, extract: how many pictures the phase was about.
        answer_tokens: think: those of `generated_tokens` that are the answer's; the others are the
            reasoning's, the answer marker among them.
    """

    seconds: float = 0.0
    evaluated_tokens: int = 0
    reused_tokens: int = 0
    generated_tokens: int = 0
    pictures: int = 0
    answer_tokens: int = 0

    def __add__(self, other: "PhaseUsage") -> "PhaseUsage":
        """Return what both took together."""
        sums = {f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self)}
        return PhaseUsage(**sums)


@dataclass(frozen=True, slots=True)
class Cut:
    """A stage that the model did not end itself: the older form of `Answer.finish_reasons`.

    Attributes:
        stage: what was being written.
        reason: why it ended; ``tokens`` is ``length``.
    """

    stage: Stage
    reason: Literal["tokens", "deadline", "repetition"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a call is, told before a step of its models.

    Attributes:
        stage: ``vision``, or what is read for or written.
        phase: the tower encodes tiles, a language model reads a prompt (prefill), or it writes.
        done: tiles encoded, positions of the prompt that the KV cache holds, or tokens written.
        total: tiles, positions, or the most tokens.
        seconds_left: what the rest of this phase takes if it goes on at the speed measured so far,
            and for ``decode`` if all tokens are written; None: nothing was measured yet.
        picture: which of several pictures is encoded or written down; counted from 0.
    """

    stage: Literal["vision"] | Stage
    phase: Literal["encode", "prefill", "decode"]
    done: int
    total: int
    seconds_left: float | None = None
    picture: int = 0


@dataclass(frozen=True, slots=True)
class ExtractionToken:
    """Text of stage 1, as it is written.

    Attributes:
        text: one or more whole characters.
        picture: whose extraction it is, of several; counted from 0.
    """

    text: str
    picture: int = 0


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
class TokenLogprob:
    """How probable the model found a token of the answer.

    Attributes:
        text: its text; part of a character is U+FFFD.
        logprob: natural logarithm of its probability: of the softmax of the model's logits,
            whatever the temperature.
        token_bytes: its bytes, which make UTF-8 with those of the tokens around it.
        top: text and `logprob` of the most probable tokens at this place, the first most.
    """

    text: str
    logprob: float
    token_bytes: bytes
    top: tuple[tuple[str, float], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain values, ready for JSON."""
        return {
            "text": self.text,
            "logprob": self.logprob,
            "bytes": list(self.token_bytes),
            "top": [{"text": text, "logprob": logprob} for text, logprob in self.top],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Certainty:
    """How probable a model found what it wrote in one stage, token by token.

    Probabilities are those of the softmax of the model's logits, whatever the temperature, over the
    tokens that could come: where an answer is held to a form, those that fit it. The token that
    ended the stage counts too.

    Attributes:
        tokens: how many were chosen, at least 1.
        mean: geometric mean of their probabilities, 0 to 1.
        least: the smallest of them, 0 to 1.
        margin: where the two most probable tokens were closest, the difference of their
            probabilities, 0 to 1.
    """

    tokens: int
    mean: float
    least: float
    margin: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Confidence:
    """How sure an answer is; docs/confidence.md says how far that can be believed.

    It is no probability of being right: the models are surer than they are right.

    Attributes:
        answer: 0 to 1; the product of `seeing`, `thinking` and `answering`.
        answering: how probable the answer is behind all that was written before: the share of a
            choice, else the product of the probabilities of its tokens, 0 to 1. Nearly 1 where the
            reasoning has told it already.
        seeing: the geometric mean of the probabilities of the extraction's tokens, 0 to 1; None: no
            model wrote one.
        thinking: that of the reasoning's tokens, 0 to 1; None: the model wrote none.
        margin: how far the answer was from another one: the difference of the two largest shares,
            or `Certainty.margin`, 0 to 1; None: there was nothing to choose.
        control: `answering` where stage 2 is asked without extraction and reasoning, or the one
            stage without the picture, 0 to 1. Near `answering`: the answer may be a guess. None:
            that was not asked for, or there was no time or room, or nothing to leave out.
        doubt: where to look first if the answer is wrong: ``seeing`` where that is less than what
            stage 2 makes of it, `thinking` times `answering`, else ``thinking``; None without
            `seeing`.
        stages: what was seen of each stage; of an answer among choices there is nothing.
        control_usage: what `control` took; None with it.
    """

    answer: float
    answering: float
    seeing: float | None = None
    thinking: float | None = None
    margin: float | None = None
    control: float | None = None
    doubt: Doubt | None = None
    stages: Mapping[Stage, Certainty] = field(default_factory=dict)
    control_usage: PhaseUsage | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain values, ready for JSON."""
        told = {f.name: getattr(self, f.name) for f in fields(self)}
        stages = {stage: asdict(certainty) for stage, certainty in self.stages.items()}
        usage = self.control_usage
        return told | {"stages": stages, "control_usage": usage and asdict(usage)}


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureExtraction:
    """What stage 1 wrote of one picture.

    Attributes:
        text: without white space around it; empty with the finish reason ``deadline``: there was
            no time to look at the picture.
        finish_reason: why it ended.
        usage: what it took.
    """

    text: str
    finish_reason: FinishReason
    usage: PhaseUsage


@dataclass(frozen=True, slots=True, kw_only=True)
class Extraction:
    """Outcome of stage 1.

    Attributes:
        text: what was written, without white space around it; of several pictures the text that
            stage 2 reads, made of what was written of each.
        tokens: what was written, as the perceiver's ids.
        conversation: prompt and extraction as segments; stage 2 of a one-model bundle goes on here.
        usage: what it took.
        hint: what the perceiver was asked to pay attention to; empty where the bundle's prompt has
            no place for it.
        finish_reasons: why it ended, and the hint where one was written.
        extractions: of each picture, in their order; of pictures that are shown together one.
        details: as for `Answer`.
        asking: what it took to ask for them; None: nobody was asked.
        certainty: with `confidence` how probable what was written is, of all pictures; else None.
    """

    text: str
    tokens: tuple[int, ...]
    conversation: tuple[Any, ...]
    usage: PhaseUsage
    hint: str = ""
    finish_reasons: FinishReasons = field(default_factory=dict)
    extractions: tuple[PictureExtraction, ...] = ()
    details: tuple[str, ...] = ()
    asking: PhaseUsage | None = None
    certainty: Certainty | None = None

    @property
    def cuts(self) -> tuple[Cut, ...]:
        """What was cut; `finish_reasons` says more."""
        warn_renamed("Extraction.cuts", "finish_reasons")
        return _cuts(self.finish_reasons)


@dataclass(frozen=True, slots=True, kw_only=True)
class Thought:
    """Outcome of stage 2.

    Attributes:
        answer: the answer, without white space around it.
        reasoning: what came before the answer marker, marked thoughts included, without white
            space around it.
        tokens: everything that was written, as the reasoner's ids.
        usage: what it took.
        finish_reasons: why thinking and answer ended.
        value: as for `Answer`.
        shares: as for `Answer`.
        logprobs: as for `Answer`.
        confidence: as for `Answer`.
    """

    answer: str
    reasoning: str
    tokens: tuple[int, ...]
    usage: PhaseUsage
    finish_reasons: FinishReasons = field(default_factory=dict)
    value: Any = None
    shares: Mapping[str, float] = field(default_factory=dict)
    logprobs: tuple[TokenLogprob, ...] = ()
    confidence: Confidence | None = None

    @property
    def text(self) -> str:
        """The answer."""
        warn_renamed("Thought.text", "Thought.answer")
        return self.answer

    @property
    def cuts(self) -> tuple[Cut, ...]:
        """What was cut; `finish_reasons` says more."""
        warn_renamed("Thought.cuts", "finish_reasons")
        return _cuts(self.finish_reasons)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An answer; also the last event of a stream.

    Attributes:
        text: the answer; never empty.
        extraction: what stage 1 wrote down, as stage 2 read it; empty when the question was
            answered directly.
        reasoning: what stage 2 wrote before the answer.
        usage: what each phase took, by its name: image, vision, extract, think; hint, where the
            reasoner wrote one; and look_again, where it was asked what the extraction lacks.
        hint: what the perceiver was asked to pay attention to; empty where the bundle's prompt has
            no place for it.
        finish_reasons: why each stage that was written ended, in the order of the stages: hint
            (where the reasoner wrote one), extract, think, answer. Of several pictures, extract is
            ``stop`` if all ended so, else the first other reason; `extractions` has each.
        extractions: what stage 1 wrote of each picture, in their order; of pictures that are shown
            together one; none where no picture was looked at in stage 1.
        value: the answer for a program: with `choices` the chosen text, with ``kind="yes/no"`` a
            bool, with ``kind="number"`` an int, or a float where it has a decimal point, with
            `schema` the object that the JSON in `text` stands for; else None.
        shares: with `choices` and ``kind="yes/no"`` the share of each text, 0 to 1 and 1 together:
            how probable the model finds it as the whole answer, among these texts. Else empty.
        logprobs: with `top_logprobs` how probable the model found each token of the answer, those
            that begin before its end. Left out is what came in one token with the answer marker,
            and the token that ended the answer. Else empty.
        details: with `look_again` what the picture was looked at again for, as the reasoner named
            it; `extraction` has a line of each look. Else empty.
        confidence: with `confidence` how sure the answer is; else None.
    """

    text: str
    extraction: str
    reasoning: str
    usage: Mapping[str, PhaseUsage]
    hint: str = ""
    finish_reasons: FinishReasons = field(default_factory=dict)
    extractions: tuple[PictureExtraction, ...] = ()
    value: Any = None
    shares: Mapping[str, float] = field(default_factory=dict)
    logprobs: tuple[TokenLogprob, ...] = ()
    details: tuple[str, ...] = ()
    confidence: Confidence | None = None

    @property
    def cuts(self) -> tuple[Cut, ...]:
        """What was cut; `finish_reasons` says more."""
        warn_renamed("Answer.cuts", "Answer.finish_reasons")
        return _cuts(self.finish_reasons)

    def to_dict(self) -> dict[str, Any]:
        """Return the answer as plain values, ready for JSON.

        ``cuts`` is the older form of ``finish_reasons``, and goes with edge-et 0.3.
        """
        return {
            "text": self.text,
            "extraction": self.extraction,
            "extractions": [asdict(extraction) for extraction in self.extractions],
            "reasoning": self.reasoning,
            "hint": self.hint,
            "details": list(self.details),
            "value": self.value if type(self.value) in _PLAIN else json.loads(self.text),
            "shares": dict(self.shares),
            "logprobs": [token.to_dict() for token in self.logprobs],
            "confidence": self.confidence and self.confidence.to_dict(),
            "finish_reasons": dict(self.finish_reasons),
            "cuts": [asdict(cut) for cut in _cuts(self.finish_reasons)],
            "usage": {phase: asdict(usage) for phase, usage in self.usage.items()},
        }


_PLAIN = (NoneType, bool, int, float, str)
"""Types of values that JSON has; all others come of a schema, whose answer is JSON itself."""

StageEvent = Progress | ExtractionToken | ReasoningToken | AnswerToken
"""What a stage tells while it runs."""

Event = StageEvent | Answer
"""What a stream tells."""


def _cuts(reasons: FinishReasons) -> tuple[Cut, ...]:
    return tuple(
        Cut(stage, "tokens" if reason == "length" else reason)
        for stage, reason in reasons.items()
        if reason != "stop"
    )
