"""A second witness for language models: their logits by numpy alone, from a checkpoint's tensors.

It shares no code with transformers, torch's modules or llama.cpp. The base of the rotary positions
is given by the caller, so that no reading of a config can be wrong in both.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

Array = NDArray[np.float64]


def logits(
    folder: Path, ids: list[int], *, heads: int, base: float, eps: float = 1e-6
) -> NDArray[np.float32]:
    """Evaluate a Llama, Qwen2 or Qwen3, alone or inside a vision-language model.

    Args:
        folder: holds model.safetensors in float32.
        ids: token ids.
        heads: query heads.
        base: of the rotary frequencies.
        eps: of the norms.

    Returns:
        `[T, V] float32`.
    """
    tensors = {
        name.removeprefix("language_model.").replace("model.language_model.", "model."): values
        for name, values in load_file(folder / "model.safetensors").items()
    }
    tensors = {name: values.astype(np.float64) for name, values in tensors.items()}

    def linear(name: str, values: Array) -> Array:
        product = values @ tensors[f"{name}.weight"].T
        return product + tensors.get(f"{name}.bias", 0.0)

    def norm(name: str, values: Array) -> Array:
        scale = np.sqrt((values**2).mean(-1, keepdims=True) + eps)
        return values / scale * tensors[f"{name}.weight"]

    table = tensors["model.embed_tokens.weight"]
    hidden = table[ids]
    layer = 0
    while f"model.layers.{layer}.input_layernorm.weight" in tensors:
        name = f"model.layers.{layer}"
        normed = norm(f"{name}.input_layernorm", hidden)
        mixed = _attention(f"{name}.self_attn", normed, tensors, linear, norm, heads, base)
        hidden = hidden + mixed
        normed = norm(f"{name}.post_attention_layernorm", hidden)
        gate = linear(f"{name}.mlp.gate_proj", normed)
        gate = gate / (1 + np.exp(-gate)) * linear(f"{name}.mlp.up_proj", normed)
        hidden = hidden + linear(f"{name}.mlp.down_proj", gate)
        layer += 1
    hidden = norm("model.norm", hidden)
    return (hidden @ tensors.get("lm_head.weight", table).T).astype(np.float32)


def _attention(
    name: str,
    values: Array,
    tensors: dict[str, Any],
    linear: Callable[[str, Array], Array],
    norm: Callable[[str, Array], Array],
    heads: int,
    base: float,
) -> Array:
    width = len(tensors[f"{name}.q_proj.weight"]) // heads

    def split(kind: str) -> Array:
        """`[heads, T, width]`"""
        rows = linear(f"{name}.{kind}_proj", values).reshape(len(values), -1, width)
        if f"{name}.{kind}_norm.weight" in tensors:
            rows = norm(f"{name}.{kind}_norm", rows)
        return rows.swapaxes(0, 1)

    queries, keys = _rotate(split("q"), base), _rotate(split("k"), base)
    shared = heads // len(keys)
    keys, contents = keys.repeat(shared, 0), split("v").repeat(shared, 0)
    scores = queries @ keys.swapaxes(1, 2) / np.sqrt(width)
    scores += np.triu(np.full(scores.shape[1:], -np.inf), 1)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    mixed = (weights @ contents).swapaxes(0, 1).reshape(len(values), -1)
    return linear(f"{name}.o_proj", mixed)


def _rotate(rows: Array, base: float) -> Array:
    """Turn each pair (i, i + width/2) of a row by its position times base^(-2i/width)."""
    half = rows.shape[-1] // 2
    angles = np.arange(rows.shape[1])[:, None] * base ** (-np.arange(half) / half)
    first, second = rows[..., :half], rows[..., half:]
    cos, sin = np.cos(angles), np.sin(angles)
    return np.concatenate((first * cos - second * sin, second * cos + first * sin), -1)
