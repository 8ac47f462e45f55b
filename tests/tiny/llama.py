"""A tiny random Llama as a GGUF, and LoRA adapters for it."""

import json
from pathlib import Path

import gguf
import numpy as np
from numpy.typing import NDArray

WIDTH = 32
HEADS = 4
KV_HEADS = 2
LAYERS = 2
FEED_FORWARD = 64
PADDING_ROWS = 8
"""Rows behind the tokenizer's last id, as real checkpoints have them."""

Tensors = dict[str, NDArray[np.float32]]


def random_tensors(
    rows: int, seed: int, width: int = WIDTH, feed_forward: int = FEED_FORWARD
) -> Tensors:
    random = np.random.default_rng(seed)
    kv_width = width // HEADS * KV_HEADS

    def matrix(out_width: int, in_width: int, scale: float = 1.0) -> NDArray[np.float32]:
        values = random.normal(0, scale / np.sqrt(in_width), (out_width, in_width))
        return values.astype(np.float32)

    ones = np.ones(width, np.float32)
    tensors = {
        "token_embd.weight": matrix(rows, width, np.sqrt(width)),
        "output.weight": matrix(rows, width, 3.0),
        "output_norm.weight": ones,
    }
    # Padding rows that would win every time if they could be chosen.
    tensors["output.weight"][-PADDING_ROWS:] *= 50
    for layer in range(LAYERS):
        tensors |= {
            f"blk.{layer}.attn_norm.weight": ones,
            f"blk.{layer}.attn_q.weight": matrix(width, width, 2.0),
            f"blk.{layer}.attn_k.weight": matrix(kv_width, width, 2.0),
            f"blk.{layer}.attn_v.weight": matrix(kv_width, width, 2.0),
            f"blk.{layer}.attn_output.weight": matrix(width, width, 2.0),
            f"blk.{layer}.ffn_norm.weight": ones,
            f"blk.{layer}.ffn_gate.weight": matrix(feed_forward, width, 2.0),
            f"blk.{layer}.ffn_up.weight": matrix(feed_forward, width, 2.0),
            f"blk.{layer}.ffn_down.weight": matrix(width, feed_forward, 2.0),
        }
    return tensors


def own_tensors(architecture: str, seed: int, width: int) -> Tensors:
    """Return what a family has besides the tensors that all have."""
    random = np.random.default_rng(seed)
    head, kv_width = width // HEADS, width // HEADS * KV_HEADS
    shapes = {
        "llama": {},
        "qwen2": {"attn_q.bias": width, "attn_k.bias": kv_width, "attn_v.bias": kv_width},
        "qwen3": {"attn_q_norm.weight": head, "attn_k_norm.weight": head},
    }
    return {
        f"blk.{layer}.{name}": random.normal(1, 0.5, size).astype(np.float32)
        for layer in range(LAYERS)
        for name, size in shapes[architecture].items()
    }


def add_vocabulary(writer: gguf.GGUFWriter, tokenizer_json: Path) -> int:
    """Add a tokenizer's ids and some rows of padding; return how many there are."""
    content = json.loads(tokenizer_json.read_text())
    vocabulary = dict(content["model"]["vocab"])
    special = {entry["content"]: entry["id"] for entry in content["added_tokens"]}
    by_id = {number: text for text, number in (vocabulary | special).items()}
    rows = len(by_id) + PADDING_ROWS
    writer.add_vocab_size(rows)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list([by_id.get(number, f"[PAD{number}]") for number in range(rows)])
    writer.add_token_types(
        [
            gguf.TokenType.CONTROL
            if by_id.get(number) in special
            else gguf.TokenType.NORMAL
            if number in by_id
            else gguf.TokenType.UNUSED
            for number in range(rows)
        ]
    )
    merges = content["model"]["merges"]
    writer.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in merges])
    writer.add_eos_token_id(special["<|im_end|>"])
    return rows


def add_tensors(
    writer: gguf.GGUFWriter,
    tensors: Tensors,
    kind: gguf.GGMLQuantizationType = gguf.GGMLQuantizationType.F32,
) -> None:
    """Add all tensors, matrices but the kernels of convolutions in another type; close."""
    for name, values in tensors.items():
        is_vector = values.ndim == 1 or "conv" in name.split(".")[-2]
        if kind is gguf.GGMLQuantizationType.F32 or is_vector:
            writer.add_tensor(name, values)
        else:
            writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)
    close(writer)


def write_llama(
    path: Path,
    tokenizer_json: Path,
    *,
    seed: int,
    width: int = WIDTH,
    feed_forward: int = FEED_FORWARD,
    architecture: str = "llama",
    more: Tensors | None = None,
    kind: gguf.GGMLQuantizationType = gguf.GGMLQuantizationType.F32,
) -> Tensors:
    """Write the model; its rows are the tokenizer's ids and some of padding."""
    writer = gguf.GGUFWriter(path, architecture)
    rows = add_vocabulary(writer, tokenizer_json)
    tensors = random_tensors(rows, seed, width, feed_forward) | own_tensors(
        architecture, seed, width
    )
    tensors |= more or {}
    writer.add_context_length(2048)
    writer.add_embedding_length(width)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(feed_forward)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(width // HEADS)
    writer.add_rope_freq_base(10000.0)
    add_tensors(writer, tensors, kind)
    return tensors


def write_adapter(
    path: Path,
    *,
    seed: int,
    width: int = WIDTH,
    rank: int = 4,
    architecture: str = "llama",
    more: dict[str, tuple[tuple[int, int], tuple[int, int]]] | None = None,
) -> None:
    """Write a LoRA for the attention's queries and outputs, large enough to change every text.

    Args:
        path: of the file.
        seed: of its numbers.
        width: of the model.
        rank: of the halves.
        architecture: of the model.
        more: shapes of halves for further tensors.
    """
    random = np.random.default_rng(seed)
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", float(rank))
    shapes = {
        f"blk.{layer}.{name}.weight": ((rank, width), (width, rank))
        for layer in range(LAYERS)
        for name in ("attn_q", "attn_output")
    }
    for name, halves in {**shapes, **(more or {})}.items():
        for part, shape in zip(("lora_a", "lora_b"), halves, strict=True):
            values = random.normal(0, 0.5, shape).astype(np.float32)
            writer.add_tensor(f"{name}.{part}", values)
    close(writer)


def close(writer: gguf.GGUFWriter) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
