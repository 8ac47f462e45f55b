"""A language model computed by numpy alone, from the GGUF that engines open.

In: a GGUF, and perhaps a LoRA for it; token ids. Out: logits in float32, or what is not known of
the model. Weights are made float32 some rows at a time. Nothing is rounded on the way, so an engine
is as far from this as its own arithmetic makes it. No engine is known here.

Source: src/models/llama.cpp, qwen2.cpp and qwen3.cpp of llama.cpp, for what the tensors and keys
mean.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from edge_et.weights.tensors import (
    GgufTensors,
    Lora,
    Step,
    UnknownTypeError,
    multiply,
    no_step,
    open_tensors,
    row_bytes,
)

Array = NDArray[np.float32]

_MATRICES: Final = (
    "attn_q.weight",
    "attn_k.weight",
    "attn_v.weight",
    "attn_output.weight",
    "ffn_gate.weight",
    "ffn_up.weight",
    "ffn_down.weight",
)
_NORMS: Final = ("attn_norm.weight", "ffn_norm.weight")
_HEAD_NORMS: Final = ("attn_q_norm.weight", "attn_k_norm.weight")
_INPUT_BIASES: Final = ("attn_q.bias", "attn_k.bias", "attn_v.bias")
_BIASES: Final = (
    *_INPUT_BIASES,
    "attn_output.bias",
    "ffn_gate.bias",
    "ffn_up.bias",
    "ffn_down.bias",
)

_KEYS: Final = frozenset(
    (
        "attention.head_count",
        "attention.head_count_kv",
        "attention.key_length",
        "attention.layer_norm_rms_epsilon",
        "attention.value_length",
        "block_count",
        "context_length",
        "embedding_length",
        "feed_forward_length",
        "rope.dimension_count",
        "rope.freq_base",
        "vocab_size",
    )
)
"""Of an architecture's own; another one may change what is computed."""

_FREQ_BASE: Final = 10_000.0  # where a file names none
_FREQ_FACTORS: Final = "rope_freqs.weight"


@dataclass(frozen=True, slots=True)
class _Architecture:
    """What tells families apart.

    Attributes:
        adjacent: whether rotary pairs are neighbours; otherwise half a head lies between them.
        head_norms: whether queries and keys are normed.
        optional: tensors of a layer that may be there.
        freq_factors: whether `rope_freqs.weight` may be there.
    """

    adjacent: bool
    head_norms: bool
    optional: tuple[str, ...]
    freq_factors: bool


_ARCHITECTURES: Final = {
    "llama": _Architecture(True, False, _BIASES, True),
    "qwen2": _Architecture(False, False, _INPUT_BIASES, False),
    "qwen3": _Architecture(False, True, _INPUT_BIASES, False),
}


@dataclass(frozen=True, slots=True)
class Unsupported:
    """A model that is not known well enough to be computed.

    Attributes:
        reason: what is not known.
    """

    reason: str


def reference_logits(
    weights: Path, adapter: Path | None, ids: NDArray[np.integer], *, step: Step = no_step
) -> Array | Unsupported:
    """Compute the logits behind each of some tokens.

    Every key and tensor of the architecture, and of the adapter, has to be known. Of the adapter
    its types, its architecture and its shapes are checked, as llama.cpp does, and what it has for a
    single row, such as a norm, adds nothing there either. Values are not looked at.

    Args:
        weights: a GGUF.
        adapter: a LoRA for it, applied with scale 1; None: there is none.
        ids: [n] token ids below V; they stand at the positions from 0 on.
        step: is called every few milliseconds; what it raises ends the work.

    Returns:
        [n, V] float32, padding rows of the vocabulary included; or what is not known of the model.

    Raises:
        ModelFileError: a file is damaged, or the adapter is no LoRA or one for other weights.
        UnreadableFileError: a file cannot be read.
    """
    tensors, lora = open_tensors(weights, adapter, step)
    if reason := _unknown(tensors, lora):
        return Unsupported(reason)
    try:
        return _Model(tensors, lora).logits(np.asarray(ids, np.int64))
    except UnknownTypeError as err:
        return Unsupported(str(err))


def _unknown(tensors: GgufTensors, lora: Lora) -> str:
    """Say what is not known of a model; empty: all is."""
    values = tensors.head.values
    name = str(values["general.architecture"])
    architecture = _ARCHITECTURES.get(name)
    if architecture is None:
        return f"the architecture {name}"
    own = f"{name}."
    for key, value in values.items():
        known = not key.startswith(own) or key.removeprefix(own) in _KEYS
        if not known or (key.startswith(own) and not isinstance(value, int | float)):
            return f"the key {key}"
    if lora.unknown:
        return f"the adapter's {lora.unknown}"
    needed, optional = _names(architecture, int(values[f"{own}block_count"]))
    found = {tensor.name for tensor in tensors.head.tensors}
    if odd := found - needed - optional:
        return f"the tensor {min(odd)}"
    if missing := needed - found:
        return f"how it goes without {min(missing)}"
    if odd := lora.names - found:
        return f"the adapter's {min(odd)}"
    sizes = _Sizes(values)
    if not sizes.key_width == sizes.value_width == sizes.rotated:
        return "heads that are turned in part, or of several widths"
    return ""


def _names(architecture: _Architecture, layers: int) -> tuple[set[str], set[str]]:
    """Return the tensors that have to be there, and those that may be."""
    of_layer = (*_MATRICES, *_NORMS, *(_HEAD_NORMS if architecture.head_norms else ()))
    needed = {f"blk.{layer}.{name}" for layer in range(layers) for name in of_layer}
    optional = {f"blk.{n}.{name}" for n in range(layers) for name in architecture.optional}
    optional |= {"output.weight"} | ({_FREQ_FACTORS} if architecture.freq_factors else set())
    return needed | {"token_embd.weight", "output_norm.weight"}, optional


class _Sizes:
    """The numbers of a model's metadata."""

    def __init__(self, values: Any) -> None:
        name = values["general.architecture"]

        def number(key: str, default: Any = None) -> Any:
            return values.get(f"{name}.{key}", default)

        width = number("embedding_length")
        self.layers = number("block_count")
        self.heads = number("attention.head_count")
        self.kv_heads = number("attention.head_count_kv", self.heads)
        self.key_width = number("attention.key_length", width // self.heads)
        self.value_width = number("attention.value_length", width // self.heads)
        self.rotated = number("rope.dimension_count", self.key_width)
        self.base = number("rope.freq_base", _FREQ_BASE)
        self.eps = np.float32(number("attention.layer_norm_rms_epsilon", 0.0))


class _Model:
    """A decoder with grouped queries and a gated feed-forward."""

    def __init__(self, tensors: GgufTensors, lora: Lora) -> None:
        self._tensors, self._lora = tensors, lora
        values = tensors.head.values
        self._sizes = _Sizes(values)
        self._architecture = _ARCHITECTURES[values["general.architecture"]]

    def logits(self, ids: NDArray[np.int64]) -> Array:
        """Compute `reference_logits`."""
        for tensor in self._tensors.head.tensors:
            row_bytes(tensor)  # an unknown type is told before anything is computed
        rotate = self._rotation(len(ids))
        hidden = self._tensors.rows("token_embd.weight", ids)
        for layer in range(self._sizes.layers):
            name = f"blk.{layer}"
            normed = self._norm(f"{name}.attn_norm", hidden)
            hidden = hidden + self._attention(name, normed, rotate)
            normed = self._norm(f"{name}.ffn_norm", hidden)
            gate = self._linear(f"{name}.ffn_gate", normed)
            gate = gate / (1 + np.exp(-gate)) * self._linear(f"{name}.ffn_up", normed)
            hidden = hidden + self._linear(f"{name}.ffn_down", gate)
        is_tied = "output.weight" not in self._tensors
        return self._linear(
            "token_embd" if is_tied else "output", self._norm("output_norm", hidden)
        )

    def _attention(self, name: str, values: Array, rotate: Callable[[Array], Array]) -> Array:
        sizes = self._sizes

        def split(kind: str) -> Array:
            """Return heads, [heads, n, width]."""
            rows = self._linear(f"{name}.attn_{kind}", values)
            rows = rows.reshape(len(values), -1, sizes.key_width)
            if self._architecture.head_norms and kind != "v":
                rows = self._norm(f"{name}.attn_{kind}_norm", rows)
            return rows.swapaxes(0, 1)

        shared = sizes.heads // sizes.kv_heads
        queries, keys = rotate(split("q")), rotate(split("k")).repeat(shared, 0)
        scores = queries @ keys.swapaxes(1, 2) / np.float32(np.sqrt(sizes.key_width))
        scores += np.triu(np.full(scores.shape[1:], -np.inf, np.float32), 1)
        shares = np.exp(scores - scores.max(-1, keepdims=True))
        shares /= shares.sum(-1, keepdims=True)
        mixed = shares @ split("v").repeat(shared, 0)
        return self._linear(f"{name}.attn_output", mixed.swapaxes(0, 1).reshape(len(values), -1))

    def _linear(self, name: str, values: Array) -> Array:
        """Multiply by a matrix and what its LoRA adds, and add its bias."""
        tensor = self._tensors[f"{name}.weight"]
        product = np.empty((len(values), tensor.shape[0]), np.float32)
        for rows, block in self._tensors.blocks(tensor.name):
            product[:, rows] = multiply(values, block)
        if (halves := self._lora.halves(tensor)) is not None:
            scale, down, up = halves
            product += np.float32(scale) * multiply(multiply(values, down), up)
        if f"{name}.bias" in self._tensors:
            product += self._tensors.values(f"{name}.bias")
        return product

    def _norm(self, name: str, values: Array) -> Array:
        scale = np.sqrt((values**2).mean(-1, keepdims=True) + self._sizes.eps)
        return np.asarray(values / scale * self._tensors.values(f"{name}.weight"), np.float32)

    def _rotation(self, count: int) -> Callable[[Array], Array]:
        """Return what turns the pairs of heads [heads, n, width] by their positions."""
        half = self._sizes.rotated // 2
        angles = np.arange(count)[:, None] * self._sizes.base ** (-np.arange(half) / half)
        if _FREQ_FACTORS in self._tensors:
            angles = angles / self._tensors.values(_FREQ_FACTORS)
        cos, sin = np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
        adjacent, halves = self._architecture.adjacent, (slice(half), slice(half, None))

        def rotate(heads: Array) -> Array:
            turned = np.empty_like(heads)
            ones, others = (slice(0, None, 2), slice(1, None, 2)) if adjacent else halves
            first, second = heads[..., ones], heads[..., others]
            turned[..., ones] = first * cos - second * sin
            turned[..., others] = second * cos + first * sin
            return turned

        return rotate
