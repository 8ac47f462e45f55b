"""Segments of text and image tokens become a KV cache, and the logits behind it.

In: templates, texts, image tokens, a GGUF. Out: a KV cache that holds exactly a prompt, with as
little prefill as possible; logits [V] float32. What is chosen from the logits is not known here.
`engines` is the only door to llama.cpp and its fork.
"""

from edge_et.llm.batch_rules import BatchRules
from edge_et.llm.engines import (
    Engine,
    default_engine,
    installed_engines,
    lays_out_weights,
    load_library,
    native_log,
)
from edge_et.llm.image_prompt_cache import ImagePromptCache
from edge_et.llm.kv_cache import LlamaKVCache
from edge_et.llm.kv_positions import (
    ROW_GROUP,
    Position,
    batches,
    common_prefix,
    generated,
    positions_of,
    restart_at,
)
from edge_et.llm.kv_protocol import KVCache, KVCacheSettings, PrefillProgress
from edge_et.llm.language_model import LanguageModel
from edge_et.llm.memory import keep_heap_small, trim_heap
from edge_et.llm.model_shape import ModelShape, read_shape
from edge_et.llm.places import places_of
from edge_et.llm.prompt import (
    ImageSegment,
    Part,
    Plain,
    Segment,
    TokenSegment,
    Trusted,
    assistant_turn,
    begin_reply,
    begin_user_turn,
    count_positions,
    end_turn,
    fill,
    in_a_row,
    system_turn,
    to_segments,
    told_reply,
    user_turn,
    without_unread_rows,
)
from edge_et.llm.tokenizer import TextStream, Tokenizer

__all__ = [
    "ROW_GROUP",
    "BatchRules",
    "Engine",
    "ImagePromptCache",
    "ImageSegment",
    "KVCache",
    "KVCacheSettings",
    "LanguageModel",
    "LlamaKVCache",
    "ModelShape",
    "Part",
    "Plain",
    "Position",
    "PrefillProgress",
    "Segment",
    "TextStream",
    "TokenSegment",
    "Tokenizer",
    "Trusted",
    "assistant_turn",
    "batches",
    "begin_reply",
    "begin_user_turn",
    "common_prefix",
    "count_positions",
    "default_engine",
    "end_turn",
    "fill",
    "generated",
    "in_a_row",
    "installed_engines",
    "keep_heap_small",
    "lays_out_weights",
    "load_library",
    "native_log",
    "places_of",
    "positions_of",
    "read_shape",
    "restart_at",
    "system_turn",
    "to_segments",
    "told_reply",
    "trim_heap",
    "user_turn",
    "without_unread_rows",
]
