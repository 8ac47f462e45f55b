"""Tiny random language models with a recurrent state as GGUF: LFM2 and Qwen3.5.

Their first layers are recurrent and the last one is attention, so the state at a position holds
what can be cut off, and what cannot.
"""

from pathlib import Path

import gguf
import numpy as np
from numpy.typing import NDArray

from tiny.llama import PADDING_ROWS, Tensors, add_tensors, add_vocabulary

WIDTH = 32
FEED_FORWARD = 64
HEADS = 4
KV_HEADS = 2
CONTEXT = 2048
LFM2_ATTENTION = (False, True, False, True)
"""Which layers of the LFM2 are attention; the others are short convolutions."""
LFM2_CONV_KERNEL = 3
QWEN35_INTERVAL = 4
QWEN35_LAYERS = 4
"""Layers of the Qwen3.5; every fourth is attention, the others are gated delta nets."""
QWEN35_HEAD = 16
"""Width of a head of the Qwen3.5's attention; half of it is rotated."""
QWEN35_STATE = 8
"""Width of a key or value of a gated delta net."""
QWEN35_KEY_HEADS = 2
QWEN35_VALUE_HEADS = 4
QWEN35_CONV_KERNEL = 4

_F32 = gguf.GGMLQuantizationType.F32


class _Random:
    """Values that keep the size of what goes through them."""

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)

    def matrix(self, out_width: int, in_width: int, scale: float = 2.0) -> NDArray[np.float32]:
        values = self._random.normal(0, scale / np.sqrt(in_width), (out_width, in_width))
        return values.astype(np.float32)

    def vector(self, low: float, high: float, size: int) -> NDArray[np.float32]:
        return self._random.uniform(low, high, size).astype(np.float32)


def lfm2_tensors(rows: int, seed: int) -> Tensors:
    """Return the tensors of an LFM2 by their names in the GGUF."""
    random = _Random(seed)
    head = WIDTH // HEADS
    tensors = _outer(random, rows, "token_embd_norm.weight")
    for layer, is_attention in enumerate(LFM2_ATTENTION):
        block = {
            "attn_norm.weight": random.vector(0.5, 1.5, WIDTH),
            "ffn_norm.weight": random.vector(0.5, 1.5, WIDTH),
            **_feed_forward(random),
        }
        if is_attention:
            block |= {
                "attn_q.weight": random.matrix(WIDTH, WIDTH),
                "attn_k.weight": random.matrix(KV_HEADS * head, WIDTH),
                "attn_v.weight": random.matrix(KV_HEADS * head, WIDTH),
                "attn_output.weight": random.matrix(WIDTH, WIDTH),
                "attn_q_norm.weight": random.vector(0.5, 1.5, head),
                "attn_k_norm.weight": random.vector(0.5, 1.5, head),
            }
        else:
            block |= {
                "shortconv.conv.weight": random.matrix(WIDTH, LFM2_CONV_KERNEL),
                "shortconv.in_proj.weight": random.matrix(3 * WIDTH, WIDTH),
                "shortconv.out_proj.weight": random.matrix(WIDTH, WIDTH),
            }
        tensors |= {f"blk.{layer}.{name}": values for name, values in block.items()}
    return tensors


def write_lfm2(
    path: Path, tokenizer_json: Path, *, seed: int, kind: gguf.GGMLQuantizationType = _F32
) -> Tensors:
    """Write an LFM2; its rows are the tokenizer's ids and some of padding."""
    writer = gguf.GGUFWriter(path, "lfm2")
    rows = add_vocabulary(writer, tokenizer_json)
    tensors = lfm2_tensors(rows, seed)
    _add_sizes(writer, len(LFM2_ATTENTION), WIDTH // HEADS, WIDTH // HEADS)
    writer.add_head_count_kv([KV_HEADS * attention for attention in LFM2_ATTENTION])
    writer.add_shortconv_l_cache(LFM2_CONV_KERNEL)
    add_tensors(writer, tensors, kind)
    return tensors


def qwen35_tensors(rows: int, seed: int) -> Tensors:
    """Return the tensors of a Qwen3.5 by their names in the GGUF."""
    random = _Random(seed)
    values_width = QWEN35_VALUE_HEADS * QWEN35_STATE
    mixed = 2 * QWEN35_KEY_HEADS * QWEN35_STATE + values_width
    tensors = _outer(random, rows, "output_norm.weight")
    for layer in range(QWEN35_LAYERS):
        block = {
            "attn_norm.weight": random.vector(0.5, 1.5, WIDTH),
            "post_attention_norm.weight": random.vector(0.5, 1.5, WIDTH),
            **_feed_forward(random),
        }
        if (layer + 1) % QWEN35_INTERVAL == 0:
            block |= {
                "attn_q.weight": random.matrix(2 * HEADS * QWEN35_HEAD, WIDTH),
                "attn_k.weight": random.matrix(KV_HEADS * QWEN35_HEAD, WIDTH),
                "attn_v.weight": random.matrix(KV_HEADS * QWEN35_HEAD, WIDTH),
                "attn_output.weight": random.matrix(WIDTH, HEADS * QWEN35_HEAD),
                "attn_q_norm.weight": random.vector(0.5, 1.5, QWEN35_HEAD),
                "attn_k_norm.weight": random.vector(0.5, 1.5, QWEN35_HEAD),
            }
        else:
            block |= {
                "attn_qkv.weight": random.matrix(mixed, WIDTH),
                "attn_gate.weight": random.matrix(values_width, WIDTH),
                "ssm_conv1d.weight": random.matrix(mixed, QWEN35_CONV_KERNEL),
                "ssm_dt.bias": random.vector(-1, 1, QWEN35_VALUE_HEADS),
                # Up to 0.9 of the state is lost in a step: what it holds is of many steps.
                "ssm_a": -random.vector(0.01, 0.5, QWEN35_VALUE_HEADS),
                "ssm_beta.weight": random.matrix(QWEN35_VALUE_HEADS, WIDTH),
                "ssm_alpha.weight": random.matrix(QWEN35_VALUE_HEADS, WIDTH),
                "ssm_norm.weight": random.vector(0.5, 1.5, QWEN35_STATE),
                "ssm_out.weight": random.matrix(WIDTH, values_width),
            }
        tensors |= {f"blk.{layer}.{name}": values for name, values in block.items()}
    return tensors


def write_qwen35(
    path: Path, tokenizer_json: Path, *, seed: int, kind: gguf.GGMLQuantizationType = _F32
) -> Tensors:
    """Write a Qwen3.5; its rows are the tokenizer's ids and some of padding."""
    writer = gguf.GGUFWriter(path, "qwen35")
    rows = add_vocabulary(writer, tokenizer_json)
    tensors = qwen35_tensors(rows, seed)
    _add_sizes(writer, QWEN35_LAYERS, QWEN35_HEAD, QWEN35_HEAD // 2)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_rope_dimension_sections([2, 1, 1, 0])
    writer.add_full_attention_interval(QWEN35_INTERVAL)
    writer.add_ssm_conv_kernel(QWEN35_CONV_KERNEL)
    writer.add_ssm_state_size(QWEN35_STATE)
    writer.add_ssm_group_count(QWEN35_KEY_HEADS)
    writer.add_ssm_time_step_rank(QWEN35_VALUE_HEADS)
    writer.add_ssm_inner_size(QWEN35_VALUE_HEADS * QWEN35_STATE)
    add_tensors(writer, tensors, kind)
    return tensors


def _add_sizes(writer: gguf.GGUFWriter, layers: int, head: int, rotated: int) -> None:
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_key_length(head)
    writer.add_value_length(head)
    writer.add_rope_dimension_count(rotated)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(1e-5)


def _outer(random: _Random, rows: int, norm: str) -> Tensors:
    tensors = {
        "token_embd.weight": random.matrix(rows, WIDTH, np.sqrt(WIDTH)),
        "output.weight": random.matrix(rows, WIDTH, 3.0),
        norm: random.vector(0.5, 1.5, WIDTH),
    }
    # Padding rows that would win every time if they could be chosen.
    tensors["output.weight"][-PADDING_ROWS:] *= 50
    return tensors


def _feed_forward(random: _Random) -> Tensors:
    return {
        "ffn_gate.weight": random.matrix(FEED_FORWARD, WIDTH),
        "ffn_up.weight": random.matrix(FEED_FORWARD, WIDTH),
        "ffn_down.weight": random.matrix(WIDTH, FEED_FORWARD),
    }
