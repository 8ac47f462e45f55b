"""The time of an answer that uses up all budgets, from what `edge-et autotune` measured here.

In: a bundle, and its profile. Out: `AnswerTime`. Nothing is run. It is an estimate: reading goes
with the operations that a prompt takes, writing with the bytes that a token reads, which are all
weights and what the KV cache holds.
"""

from dataclasses import dataclass

from edge_et.bundle import Bundle, LanguageModelSpec
from edge_et.llm import (
    ModelShape,
    Tokenizer,
    count_positions,
    fill,
    read_shape,
    system_turn,
    to_segments,
    user_turn,
)
from edge_et.options import AnswerOptions, KvType
from edge_et.pipeline.device_profile import DeviceProfile, ModelSpeed
from edge_et.pipeline.request import Request

QUESTION_TOKENS = 64
"""Of a question that is longer than most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerTime:
    """What an answer takes at most, behind the picture, seconds.

    Attributes:
        hint_s: reading the question and writing a hint.
        extract_s: reading what is asked of stage 1, and writing the extraction.
        think_s: reading the extraction, and writing all thoughts.
        answer_s: writing the answer.
    """

    hint_s: float
    extract_s: float
    think_s: float
    answer_s: float

    @property
    def seconds(self) -> float:
        """All of it."""
        return self.hint_s + self.extract_s + self.think_s + self.answer_s


def longest_answer(
    bundle: Bundle, profile: DeviceProfile, image_tokens: int | None = None
) -> AnswerTime | None:
    """Estimate what an answer takes that uses up all of the bundle's budgets.

    Args:
        bundle: as its profile has it; see `apply_profile`.
        profile: of this machine.
        image_tokens: those of the picture; None: as many as the context has room for.

    Returns:
        The time; None where the profile has no speeds.
    """
    manifest = bundle.manifest
    if profile.perceiver_speed is None:
        return None
    perceiver = _Pace(bundle, manifest.perceiver, profile.perceiver_speed, profile.kv_type)
    reasoner = perceiver
    if manifest.reasoner is not None:
        if profile.reasoner_speed is None:
            return None
        reasoner = _Pace(bundle, manifest.reasoner, profile.reasoner_speed, profile.kv_type)
    extract, hint = manifest.extract, manifest.extract.hint
    thinking = Request.of("?", AnswerOptions(), manifest).thinking
    thought, answer = thinking.budget.thinking, thinking.budget.answer

    hint_s, hint_tokens = 0.0, QUESTION_TOKENS
    if hint is not None and extract.hint_places:
        hint_tokens = hint.max_hint_tokens
        asked = reasoner.positions(hint.prompt, question=QUESTION_TOKENS)
        hint_s = reasoner.reads(0, asked) + reasoner.writes(asked, hint_tokens)

    asked = perceiver.positions(
        extract.prompt + (extract.system or ""), question=QUESTION_TOKENS, hint=hint_tokens
    )
    written = extract.max_extraction_tokens
    continues = manifest.reasoner is None and manifest.think.sees == "conversation"
    told = reasoner.positions(thinking.template, question=QUESTION_TOKENS, extraction=written)
    if image_tokens is None:
        behind = told + thought + answer if continues else 0
        image_tokens = max(manifest.perceiver.context_length - asked - written - behind, 0)
    seen = image_tokens + asked
    extract_s = perceiver.reads(image_tokens, asked) + perceiver.writes(seen, written)

    start = seen + written if continues else 0
    think_s = reasoner.reads(start, told) + reasoner.writes(start + told, thought)
    answer_s = reasoner.writes(start + told + thought, answer)
    return AnswerTime(hint_s=hint_s, extract_s=extract_s, think_s=think_s, answer_s=answer_s)


class _Pace:
    """How fast one language model reads and writes."""

    def __init__(
        self, bundle: Bundle, spec: LanguageModelSpec, speed: ModelSpeed, kv_type: KvType
    ) -> None:
        self._chat = spec.chat
        self._tokenizer = Tokenizer(bundle.path(spec.tokenizer))
        self._shape: ModelShape = read_shape(bundle.path(spec.weights))
        self._weight_bytes = spec.weights.size_bytes
        self._speed = speed
        self._kv_type = kv_type

    def positions(self, template: str, **tokens: int) -> int:
        """Count a prompt with its turns, its places filled with so many tokens."""
        empty = fill(template.replace("{image}", ""), dict.fromkeys(tokens, ""))
        parts = [*system_turn(self._chat), *user_turn(self._chat, empty)]
        placed = sum(template.count(f"{{{name}}}") * count for name, count in tokens.items())
        return count_positions(to_segments(parts, self._tokenizer)) + placed

    def reads(self, before: int, positions: int) -> float:
        """Return the seconds that a prompt takes behind what the cache holds."""
        flops = self._shape.prefill_flops
        work = flops(before + positions) - flops(before)
        return work / flops(self._speed.prompt_tokens) * self._speed.prompt_seconds

    def writes(self, before: int, tokens: int) -> float:
        """Return the seconds that tokens take behind what the cache holds."""
        middle = self._bytes(before + tokens // 2)
        measured = self._bytes(self._speed.prompt_tokens)
        return tokens * self._speed.token_seconds * middle / measured

    def _bytes(self, positions: int) -> int:
        """Return what is read for one token behind so many positions."""
        return self._weight_bytes + self._shape.kv_bytes(positions, self._kv_type)
