"""What a language model's shape says about its cost: bytes of a KV cache, work of a prefill.

In: the metadata of a GGUF. Out: numbers that are known before any weights are touched, and without
an engine.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from edge_et.bundle import read_gguf
from edge_et.errors import DecodeError, ModelFileError
from edge_et.options import KvType

MOST_STATES: Final = 8
"""Of a recurrent model, that are kept beside a KV cache: few are ever gone back to."""

MOST_STATE_BYTES: Final = 96 * 2**20
"""Of all of them, unless two have more. One of Qwen3.5-0.8B has 19 MB, of LFM2-350M 80 kB."""

_LEAST_STATES = 2  # of a picture, and of the present end
_KV_BLOCK_VALUES = 32
_KV_BLOCK_BYTES: dict[KvType, int] = {"f16": 64, "f32": 128, "q8_0": 34}
_STATE_VALUE_BYTES = 4
_ATTENTION_INTERVAL = 4  # of Qwen3.5, where a file does not tell
_MOST_LAYERS = 1024
_KV_IN_BLOCKS: tuple[KvType, ...] = ("q8_0",)

# llama.cpp makes a context's number of positions a multiple of it, ik_llama.cpp of 32 without flash
# attention.
_CACHE_POSITIONS = 256
_SEQUENCES = 2  # of a context


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelShape:
    """Sizes of a decoder with grouped queries and a gated feed-forward: Llama, Qwen2, Qwen3.

    Or of one that has attention in some blocks alone, and in the others a recurrent state: LFM2,
    Qwen3.5.

    Attributes:
        layers: blocks.
        recurrent_layers: those that have a state, and no keys and values.
        state_values: float32 numbers of one of these states.
        width: of an embedding, D.
        heads: of the queries.
        kv_heads: of keys and values.
        key_width: of one key or query.
        value_width: of one value.
        feed_forward: width inside a feed-forward block.
    """

    layers: int
    recurrent_layers: int = 0
    state_values: int = 0
    width: int
    heads: int
    kv_heads: int
    key_width: int
    value_width: int
    feed_forward: int

    @classmethod
    def of(cls, lookup: Callable[[str], str], path: Path) -> Self:
        """Read the shape from the metadata of a GGUF.

        Args:
            lookup: returns the value of a key as text; empty where there is none.
            path: the file, for the message.

        Raises:
            ModelFileError: a key is missing, or its value no positive whole number; tells which.
        """
        sizes = _Sizes(lookup, path)
        width, heads = sizes.number("embedding_length"), sizes.number("attention.head_count")
        kv_heads = sizes.kv_heads(heads)
        return cls(
            layers=len(kv_heads),
            recurrent_layers=kv_heads.count(0),
            state_values=sizes.state_values(width),
            width=width,
            heads=heads,
            kv_heads=max(kv_heads),
            key_width=sizes.number("attention.key_length", width // heads),
            value_width=sizes.number("attention.value_length", width // heads),
            feed_forward=sizes.number("feed_forward_length"),
        )

    @property
    def state_bytes(self) -> int:
        """What the recurrent states take together, bytes, whatever number type the KV cache has."""
        return self.recurrent_layers * self.state_values * _STATE_VALUE_BYTES

    @property
    def states(self) -> int:
        """How many copies of the recurrent states are kept at most; 0: there are no states."""
        if not self.state_bytes:
            return 0
        return min(MOST_STATES, max(MOST_STATE_BYTES // self.state_bytes, _LEAST_STATES))

    def check_blocks(self, kv_type: KvType) -> None:
        """Refuse a number type whose blocks keys and values do not fill.

        Args:
            kv_type: the type, of a KV cache.

        Raises:
            DecodeError: they do not.
        """
        widths = (self.key_width, self.value_width)
        if kv_type in _KV_IN_BLOCKS and any(width % _KV_BLOCK_VALUES for width in widths):
            raise DecodeError(
                f"keys of {self.key_width} and values of {self.value_width} numbers do not fill "
                f"the blocks of a KV cache in {kv_type}: choose kv_type='f16'"
            )

    def copy_bytes(self, positions: int, kv_type: KvType) -> int:
        """Return what a copy of a KV cache takes that holds some positions, bytes."""
        return self.kv_bytes(positions, kv_type) + self.state_bytes

    def kv_bytes(self, positions: int, kv_type: KvType) -> int:
        """Return what some positions take in a KV cache, bytes."""
        layers = self.layers - self.recurrent_layers
        values = layers * self.kv_heads * (self.key_width + self.value_width)
        return positions * values * _KV_BLOCK_BYTES[kv_type] // _KV_BLOCK_VALUES

    def cache_bytes(self, context_length: int, kv_type: KvType) -> int:
        """Return what is allocated at most for the KV cache of a context, bytes.

        Recurrent states included: those of two sequences, and the copies that are kept.

        Args:
            context_length: positions asked for, at least 1.
            kv_type: number type of the cache.
        """
        padded = -(-context_length // _CACHE_POSITIONS) * _CACHE_POSITIONS
        return self.kv_bytes(padded, kv_type) + (_SEQUENCES + self.states) * self.state_bytes

    def prefill_flops(self, positions: int) -> float:
        """Return the work of evaluating a prompt from its start, floating-point operations.

        Two for each weight of the blocks and each position; and for attention four for each number
        of a head and each pair of a position with one up to it. Norms and the output matrix, which
        works on the last position alone, are left out.
        """
        attention = self.width * (self.heads * self.key_width + self.heads * self.value_width)
        attention += self.width * self.kv_heads * (self.key_width + self.value_width)
        weights = self.layers * (attention + 3 * self.width * self.feed_forward)
        per_pair = 2 * self.layers * self.heads * (self.key_width + self.value_width)
        return 2.0 * weights * positions + per_pair * positions**2 / 2


class _Sizes:
    """Reads sizes of a GGUF by their keys."""

    def __init__(self, lookup: Callable[[str], str], path: Path) -> None:
        self._lookup, self._path = lookup, path
        self._architecture = lookup("general.architecture")

    def number(self, key: str, default: int | None = None) -> int:
        text = self._lookup(f"{self._architecture}.{key}")
        if not text and default is not None:
            return default
        if not text.isdecimal() or int(text) < 1:
            raise self._wrong(key, text)
        return int(text)

    def kv_heads(self, default: int) -> list[int]:
        """Return how many heads of keys and values each block has."""
        key = "attention.head_count_kv"
        layers = self.number("block_count")
        text = self._lookup(f"{self._architecture}.{key}")
        if re.fullmatch(r"\[\d+(, \d+)*\]", text):
            counts = list(map(int, text[1:-1].split(", ")))
            if len(counts) != layers or len({*counts} - {0}) != 1:
                raise self._wrong(key, text)
            return counts
        if layers > _MOST_LAYERS:
            raise self._wrong("block_count", str(layers))
        count = self.number(key, default)
        if self._architecture != "qwen35":
            return [count] * layers
        interval = self.number("full_attention_interval", _ATTENTION_INTERVAL)
        if layers < interval:
            raise self._wrong("full_attention_interval", str(interval))
        return [0 if layer % interval else count for layer in range(1, layers + 1)]

    def state_values(self, width: int) -> int:
        """Return the numbers of a recurrent state of one block; 0: there is none."""
        if self._architecture == "lfm2":
            return width * (self.number("shortconv.l_cache") - 1)
        if self._architecture != "qwen35":
            return 0
        inner, state = self.number("ssm.inner_size"), self.number("ssm.state_size")
        mixed = inner + 2 * self.number("ssm.group_count") * state
        return (self.number("ssm.conv_kernel") - 1) * mixed + inner * state

    def _wrong(self, key: str, text: str) -> ModelFileError:
        found = text or "missing"
        return ModelFileError(self._path, f"its {self._architecture}.{key} is {found}")


def read_shape(weights: Path) -> ModelShape:
    """Read a model's sizes from the head of its file.

    Args:
        weights: GGUF file.

    Raises:
        ModelFileError: it is no GGUF, or does not tell them.
        UnreadableFileError: it cannot be read.
    """
    values = read_gguf(weights).values

    def lookup(key: str) -> str:
        value = values.get(key, "")
        return "a list" if value is None else str(value)

    return ModelShape.of(lookup, weights)
