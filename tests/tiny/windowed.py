"""A tiny random Gemma 3 as GGUF: five layers of six see a window, the sixth sees all."""

from pathlib import Path

import gguf
import numpy as np

from tiny.llama import PADDING_ROWS, Tensors, add_tensors, add_vocabulary

WIDTH = 32
WINDOW = 24
LAYERS = 6
HEADS = 4
KV_HEADS = 2
HEAD = 16
FEED_FORWARD = 64


def write_gemma3(path: Path, tokenizer_json: Path, *, seed: int) -> Tensors:
    """Write the model; its rows are the tokenizer's ids and some of padding."""
    writer = gguf.GGUFWriter(path, "gemma3")
    rows = add_vocabulary(writer, tokenizer_json)
    tensors = _tensors(rows, seed)
    writer.add_context_length(2048)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_key_length(HEAD)
    writer.add_value_length(HEAD)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_sliding_window(WINDOW)
    add_tensors(writer, tensors)
    return tensors


def _tensors(rows: int, seed: int) -> Tensors:
    random = np.random.default_rng(seed)

    def matrix(out_width: int, in_width: int) -> np.ndarray:
        values = random.normal(0, 2 / np.sqrt(in_width), (out_width, in_width))
        return values.astype(np.float32)

    def norm(width: int) -> np.ndarray:
        return random.uniform(0.5, 1.5, width).astype(np.float32)

    tensors = {"token_embd.weight": matrix(rows, WIDTH), "output_norm.weight": norm(WIDTH)}
    # Padding rows that would win every time if they could be chosen.
    tensors["token_embd.weight"][-PADDING_ROWS:] *= 50
    for layer in range(LAYERS):
        block = {
            "attn_norm.weight": norm(WIDTH),
            "attn_q.weight": matrix(HEADS * HEAD, WIDTH),
            "attn_k.weight": matrix(KV_HEADS * HEAD, WIDTH),
            "attn_v.weight": matrix(KV_HEADS * HEAD, WIDTH),
            "attn_output.weight": matrix(WIDTH, HEADS * HEAD),
            "attn_q_norm.weight": norm(HEAD),
            "attn_k_norm.weight": norm(HEAD),
            "post_attention_norm.weight": norm(WIDTH),
            "ffn_norm.weight": norm(WIDTH),
            "ffn_gate.weight": matrix(FEED_FORWARD, WIDTH),
            "ffn_up.weight": matrix(FEED_FORWARD, WIDTH),
            "ffn_down.weight": matrix(WIDTH, FEED_FORWARD),
            "post_ffw_norm.weight": norm(WIDTH),
        }
        tensors |= {f"blk.{layer}.{name}": values for name, values in block.items()}
    return tensors
