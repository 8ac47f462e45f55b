"""What an engine is asked to compute, so that it can be compared: a prompt of the bundle.

In: an engine, weights, a manifest. Out: token ids, and the logits behind each. What they should be
is not known here.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edge_et.bundle import LanguageModelSpec, Manifest
from edge_et.llm import (
    Engine,
    KVCacheSettings,
    LanguageModel,
    Tokenizer,
    TokenSegment,
    end_turn,
    fill,
    to_segments,
    told_reply,
    user_turn,
)
from edge_et.options import KvType
from edge_et.stages import extraction_turns
from edge_et.threads import available_cpus

# From 64 rows on the prebuilt engine multiplies weights of every type as in large batches: see its
# rules. Images come in such batches.
PROBE_TOKENS: Final = 80
_PROBE_POSITIONS = 256
_QUESTION = "How many people are in the picture, and what is the one on the left doing?"
_EXTRACTION = "There are two people in a park. One sits on a bench and reads a newspaper."


Probe = Callable[
    [Engine, Path, Path | None, LanguageModelSpec, NDArray[np.int32], KVCacheSettings],
    tuple[NDArray[np.float32], NDArray[np.float32]],
]
"""Computes logits [n, V] with an engine: token by token, and in one batch."""


def probe_logits(
    engine: Engine,
    weights: Path,
    adapter: Path | None,
    spec: LanguageModelSpec,
    ids: NDArray[np.int32],
    settings: KVCacheSettings,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Compute logits with an engine.

    Args:
        engine: the engine.
        weights: GGUF.
        adapter: LoRA; None: there is none.
        spec: what a manifest says of them.
        ids: [n] int32, at most as many as the cache holds.
        settings: of the cache.

    Returns:
        [n, V] float32, token by token, and of all in one batch.

    Raises:
        ModelFileError: the engine cannot open them.
        EngineError: it cannot be loaded, or does not do what they need.
        DecodeError: it cannot evaluate them.
    """
    model = LanguageModel(
        weights, spec, engine=engine, adapter=adapter, token_count=spec.vocabulary_size
    )
    try:
        single = model.all_logits(ids, settings, batch_positions=1)
        return single, model.all_logits(ids, settings, batch_positions=len(ids))
    finally:
        model.close()


def probe_settings(kv_type: KvType, *, flash_attention: bool) -> KVCacheSettings:
    """Return the settings of the KV cache that an engine is asked with.

    Args:
        kv_type: its number type.
        flash_attention: whether attention never makes its whole matrix.
    """
    return KVCacheSettings(
        context_length=_PROBE_POSITIONS,
        threads=available_cpus(),
        kv_type=kv_type,
        flash_attention=flash_attention,
    )


def probe_ids(
    manifest: Manifest, spec: LanguageModelSpec, tokenizer: Tokenizer
) -> NDArray[np.int32]:
    """Return what an engine is asked to read: a conversation with the bundle's own prompts.

    Args:
        manifest: of the bundle.
        spec: one of its models.
        tokenizer: the model's.

    Returns:
        [80] int32: its beginning; where it is shorter, it is repeated.
    """
    values = {"question": _QUESTION, "hint": "", "extraction": _EXTRACTION}
    parts = extraction_turns(spec.chat, manifest.extract, _QUESTION, "")
    parts += [*told_reply(spec.chat, _EXTRACTION), *end_turn(spec.chat)]
    parts += user_turn(spec.chat, fill(manifest.think.prompt, values))
    (segment,) = to_segments(parts, tokenizer)
    assert isinstance(segment, TokenSegment)
    return np.resize(np.array(segment.ids, np.int32), PROBE_TOKENS)
