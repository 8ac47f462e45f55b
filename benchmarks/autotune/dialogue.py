"""Record what a bundle's language models read and write, and replay it with other settings.

In: a bundle. Out: by role, its dialogues: the prompts that were read, the tokens that were written,
and the logits behind each. A KV cache with other settings replays a dialogue token by token. Its
logits show what the settings do to every next token; speed alone would not show nonsense.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edge_et.benchmarks.wrapped_kv_cache import WrappedKVCache, WrappedModel
from edge_et.bundle import Bundle, LanguageModelSpec
from edge_et.export.numeric_comparison import LogitsDifference, compare_logits, max_abs_error
from edge_et.image import ImageSource
from edge_et.llm import KVCache, PrefillProgress, Segment, Tokenizer, TokenSegment
from edge_et.pipeline import Model, Settings, open_model, open_pipeline

QUESTIONS = (
    "What is in the picture, and where?",
    "What colour is the largest thing?",
    "How many things are there?",
)
"""Asked about every picture."""

Role = Literal["perceiver", "reasoner"]
"""Whose weights."""

MAX_WRITTEN = 48
"""Most tokens that a stage writes: the logits of each are kept."""


@dataclass(slots=True, kw_only=True)
class Dialogue:
    """One prompt, and what was written behind it.

    Attributes:
        prompt: what was read.
        written: ids, each evaluated alone.
        logits: [1 + written, V] float32: behind the prompt and behind each of them.
    """

    prompt: tuple[Segment, ...]
    written: list[int] = field(default_factory=list)
    logits: list[NDArray[np.float32]] = field(default_factory=list)


class RecordingKVCache(WrappedKVCache):
    """Records what goes through it."""

    def __init__(self, inner: KVCache) -> None:
        """Begin with nothing recorded; see `WrappedKVCache`."""
        super().__init__(inner)
        self.dialogues: list[Dialogue] = []

    def prefill_steps(self, segments: Sequence[Segment]) -> Iterator[PrefillProgress]:
        """Make the cache hold exactly these segments; tell before each batch how far it is."""
        yield from self._inner.prefill_steps(segments)
        dialogue = Dialogue(prompt=tuple(segments))
        dialogue.logits.append(self._inner.logits)
        self.dialogues.append(dialogue)

    def decode(self, token: int, draft: Sequence[int] = ()) -> int:
        """Evaluate one token, just written, behind what the cache holds."""
        rows = self._inner.decode(token, draft)
        self.dialogues[-1].written.append(token)
        self.dialogues[-1].logits.append(self._inner.logits)
        return rows


def record(
    bundle: Bundle, settings: Settings, pictures: Sequence[ImageSource]
) -> dict[Role, list[Dialogue]]:
    """Let a bundle answer, and record what its language models read and write.

    Args:
        bundle: as it was made.
        settings: how to open it.
        pictures: to ask about.

    Returns:
        Dialogues by model; there is no reasoner where the perceiver's weights do its work.

    Raises:
        EdgeETError: as for `edge_et.load` and `ExtractThink.answer`.
    """
    recorded: dict[Role, list[RecordingKVCache]] = {}

    def open_recording(bundle: Bundle, spec: LanguageModelSpec, tokenizer: Tokenizer) -> Model:
        role: Role = "perceiver" if spec is bundle.manifest.perceiver else "reasoner"
        kv_caches = recorded.setdefault(role, [])

        def record_calls(kv_cache: KVCache) -> KVCache:
            kv_caches.append(RecordingKVCache(kv_cache))
            return kv_caches[-1]

        return WrappedModel(
            open_model(bundle, spec, tokenizer, convert_weights=False), record_calls
        )

    with open_pipeline(bundle, settings, open_model=open_recording) as pipeline:
        for picture in pictures:
            for question in QUESTIONS:
                pipeline.answer(
                    picture,
                    question,
                    max_extraction_tokens=MAX_WRITTEN,
                    max_thinking_tokens=MAX_WRITTEN,
                    temperature=0.0,
                )
    return {
        role: [dialogue for kv_cache in kv_caches for dialogue in kv_cache.dialogues]
        for role, kv_caches in recorded.items()
    }


def compare(kv_cache: KVCache, dialogues: Sequence[Dialogue]) -> LogitsDifference:
    """Replay dialogues on a KV cache and compare its logits with those recorded.

    Args:
        kv_cache: over the same vocabulary; it is emptied first.
        dialogues: from `record`.

    Raises:
        DecodeError: llama.cpp failed, or its logits are not finite.
    """
    kv_cache.clear()
    return compare_logits(
        (_replay(kv_cache, dialogue) for dialogue in dialogues),
        (np.stack(dialogue.logits) for dialogue in dialogues),
    )


def reuse_error(kv_cache: KVCache, ids: Sequence[int]) -> float:
    """Measure how logits change if the beginning of a text is in the cache already.

    The runtime promises that nothing changes (see `edge_et.llm.kv_positions`). Some kernels break
    that: flash attention on x86 moves logits of SmolLM2-135M by 1.3.

    Args:
        kv_cache: it is emptied.
        ids: tokens of a text, at least 32.

    Returns:
        The largest difference of a logit behind the text.

    Raises:
        DecodeError: llama.cpp failed, or its logits are not finite.
    """
    text = TokenSegment(tuple(ids))
    fresh = _logits_behind(kv_cache, text)
    worst = 0.0
    for shared in range(16, len(ids) - 8, 16):
        _logits_behind(kv_cache, TokenSegment((*ids[:shared], *ids[:8])))
        for _ in kv_cache.prefill_steps((text,)):
            pass
        worst = max(worst, max_abs_error(kv_cache.logits, fresh))
    return worst


def _logits_behind(kv_cache: KVCache, text: TokenSegment) -> NDArray[np.float32]:
    kv_cache.clear()
    for _ in kv_cache.prefill_steps((text,)):
        pass
    return kv_cache.logits


def _replay(kv_cache: KVCache, dialogue: Dialogue) -> NDArray[np.float32]:
    for _ in kv_cache.prefill_steps(dialogue.prompt):
        pass
    logits = [kv_cache.logits]
    for token in dialogue.written:
        kv_cache.decode(token)
        logits.append(kv_cache.logits)
    return np.stack(logits)


def draw_pictures() -> list[Image.Image]:
    """Draw what is asked about where no pictures are given: shapes on coloured grounds."""
    drawn = []
    for seed in range(2):
        numbers = np.random.default_rng(seed)
        picture = Image.new("RGB", (448, 336), tuple(numbers.integers(150, 256, 3).tolist()))
        for _ in range(2 + seed):
            side = int(numbers.integers(60, 140))
            shape = Image.new("RGB", (side, side), tuple(numbers.integers(0, 200, 3).tolist()))
            mask = Image.fromarray(_disc(side)) if numbers.random() < 0.5 else None
            place = (int(numbers.integers(0, 448 - side)), int(numbers.integers(0, 336 - side)))
            picture.paste(shape, place, mask)
        drawn.append(picture)
    return drawn


def _disc(side: int) -> NDArray[np.uint8]:
    y, x = np.mgrid[:side, :side] - side / 2
    return np.where(x**2 + y**2 < side**2 / 4, 255, 0).astype(np.uint8)


def read_pictures(paths: Sequence[Path]) -> list[ImageSource]:
    """Return the pictures to ask about: those given, or drawn ones."""
    return list(paths) or list(draw_pictures())
