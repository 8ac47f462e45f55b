"""Tokens of an answer, as protocols count them."""

from dataclasses import dataclass

from edge_et.results import Answer, PhaseUsage

_NOTHING = PhaseUsage()


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenUsage:
    """What a request took.

    Attributes:
        prompt_tokens: positions of the first prompt that a model read, image tokens included; what
            stage 2 reads of stage 1 is no prompt of the client's.
        completion_tokens: all tokens written, extraction and reasoning included.
        cached_tokens: those of `prompt_tokens` that a KV cache held already.
        reasoning_tokens: those of `completion_tokens` that are no part of the answer.
        image_tokens: made or remembered.
        pictures: that were looked at.
        prompt_s: seconds for pictures and prompts.
    """

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    reasoning_tokens: int
    image_tokens: int
    pictures: int
    prompt_s: float


def usage_of(answer: Answer) -> TokenUsage:
    """Count the tokens of an answer."""
    vision = answer.usage.get("vision", _NOTHING)
    extract = answer.usage.get("extract", _NOTHING)
    think = answer.usage.get("think", _NOTHING)
    first = extract if extract.evaluated_tokens + extract.reused_tokens else think
    written = extract.generated_tokens + think.generated_tokens
    return TokenUsage(
        prompt_tokens=first.evaluated_tokens + first.reused_tokens,
        completion_tokens=written,
        cached_tokens=first.reused_tokens,
        reasoning_tokens=written - think.answer_tokens,
        image_tokens=vision.evaluated_tokens + vision.reused_tokens,
        pictures=vision.pictures,
        prompt_s=vision.seconds,
    )
