"""Dialogues: what a bundle's own answers asked of its language models, to be asked of others.

In: a bundle. Out: by role, the prompts that were read and the tokens that were written, with the
logits behind each. A context in other settings that is taken through the same dialogue, token by
token, shows what the settings do to every next token: nonsense too, which speed does not show.
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


class WatchedContext(WrappedKVCache):
    """Writes down what goes through it."""

    def __init__(self, inner: KVCache) -> None:
        """Begin with nothing written down; see `WrappedKVCache`."""
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
    """Let a bundle answer, and write down what its language models read and write.

    Args:
        bundle: as it was made.
        settings: how to open it.
        pictures: to ask about.

    Returns:
        Dialogues by model; there is no reasoner where the perceiver's weights do its work.

    Raises:
        EdgeETError: as for `edge_et.load` and `ExtractThink.answer`.
    """
    watched: dict[Role, list[WatchedContext]] = {}

    def open_watched(bundle: Bundle, spec: LanguageModelSpec, tokenizer: Tokenizer) -> Model:
        role: Role = "perceiver" if spec is bundle.manifest.perceiver else "reasoner"
        contexts = watched.setdefault(role, [])

        def watch(context: KVCache) -> KVCache:
            contexts.append(WatchedContext(context))
            return contexts[-1]

        return WrappedModel(open_model(bundle, spec, tokenizer), watch)

    with open_pipeline(bundle, settings, open_model=open_watched) as pipeline:
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
        role: [dialogue for context in contexts for dialogue in context.dialogues]
        for role, contexts in watched.items()
    }


def compare(context: KVCache, dialogues: Sequence[Dialogue]) -> LogitsDifference:
    """Take a context through dialogues and compare its logits with those written down.

    Args:
        context: over the same vocabulary; its cache is emptied first.
        dialogues: from `record`.

    Raises:
        DecodeError: llama.cpp failed, or its logits are not finite.
    """
    context.clear()
    return compare_logits(
        (_replay(context, dialogue) for dialogue in dialogues),
        (np.stack(dialogue.logits) for dialogue in dialogues),
    )


def reuse_error(context: KVCache, ids: Sequence[int]) -> float:
    """Tell what it changes that the beginning of a text is in the cache already.

    The runtime promises that it changes nothing (see `edge_et.llm.kv_positions`); there are kernels
    with which it
    does: flash attention on x86 moves logits of SmolLM2-135M by 1.3.

    Args:
        context: its cache is emptied.
        ids: tokens of a text, at least 32.

    Returns:
        The largest difference of a logit behind the text.

    Raises:
        DecodeError: llama.cpp failed, or its logits are not finite.
    """
    text = TokenSegment(tuple(ids))
    fresh = _logits_behind(context, text)
    worst = 0.0
    for shared in range(16, len(ids) - 8, 16):
        _logits_behind(context, TokenSegment((*ids[:shared], *ids[:8])))
        for _ in context.prefill_steps((text,)):
            pass
        worst = max(worst, max_abs_error(context.logits, fresh))
    return worst


def _logits_behind(context: KVCache, text: TokenSegment) -> NDArray[np.float32]:
    context.clear()
    for _ in context.prefill_steps((text,)):
        pass
    return context.logits


def _replay(context: KVCache, dialogue: Dialogue) -> NDArray[np.float32]:
    for _ in context.prefill_steps(dialogue.prompt):
        pass
    logits = [context.logits]
    for token in dialogue.written:
        context.decode(token)
        logits.append(context.logits)
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
