"""What a language model's shape says about its cost: bytes of a KV cache, work of a prefill.

In: the metadata of a GGUF. Out: numbers that are known before any weights are touched, and without
an engine.
"""

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
_KV_IN_BLOCKS: tuple[KvType, ...] = ("q8_0",)

# llama.cpp makes a context's number of positions a multiple of it, ik_llama.cpp of 32 without flash
# attention.
_CACHE_POSITIONS = 256
_SEQUENCES = 2  # of a context


_STATE_BYTES = 4  # of a number of a recurrent state, which is F32 whatever the KV cache is
_INTERVAL = 4  # of layers of attention in Qwen3.5, where the file does not tell it


@dataclass(frozen=True, slots=True, kw_only=True)
class RecurrentShape:
    """Sizes of the layers that keep a state in place of keys and values: LFM2, Qwen3.5.

    Attributes:
        layers: how many of the blocks are such.
        weights: numbers in the matrices that one has in place of attention.
        state_bytes: of the state of all of them in one sequence, however long that is.
    """

    layers: int
    weights: int
    state_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelShape:
    """Sizes of a decoder with grouped queries and a gated feed-forward: Llama, Qwen2, Qwen3.

    LFM2 and Qwen3.5 have attention in some layers only.

    Attributes:
        layers: transformer blocks, those with a recurrent state among them.
        width: of an embedding, D.
        heads: of the queries.
        kv_heads: of keys and values.
        key_width: of one key or query.
        value_width: of one value.
        feed_forward: width inside a feed-forward block.
        recurrent: the layers without attention; None: all have it.
    """

    layers: int
    width: int
    heads: int
    kv_heads: int
    key_width: int
    value_width: int
    feed_forward: int
    recurrent: RecurrentShape | None = None

    @property
    def attention_layers(self) -> int:
        """Layers that hold keys and values."""
        return self.layers - (self.recurrent.layers if self.recurrent else 0)

    @property
    def state_bytes(self) -> int:
        """Bytes of what one sequence holds beside keys and values, at any length."""
        return self.recurrent.state_bytes if self.recurrent else 0

    @property
    def states(self) -> int:
        """How many copies of the recurrent states are kept at most; 0: there are no states."""
        if not self.state_bytes:
            return 0
        return min(MOST_STATES, max(MOST_STATE_BYTES // self.state_bytes, _LEAST_STATES))

    @classmethod
    def of(cls, lookup: Callable[[str], str], path: Path) -> Self:
        """Read the shape from the metadata of a GGUF.

        Args:
            lookup: returns the value of a key as text; empty where there is none.
            path: the file, for the message, and for lists, of which engines do not tell.

        Raises:
            ModelFileError: a key is missing, or its value no positive whole number; tells which.
        """
        architecture = lookup("general.architecture")

        def number(key: str, default: int | None = None) -> int:
            text = lookup(f"{architecture}.{key}")
            if not text and default is not None:
                return default
            if not text.isdecimal() or int(text) < 1:
                found = text or "missing"
                raise ModelFileError(path, f"its {architecture}.{key} is {found}")
            return int(text)

        layers = number("block_count")
        width, heads = number("embedding_length"), number("attention.head_count")
        recurrent = None
        if architecture == "lfm2":
            by_layer = read_gguf(path).values["lfm2.attention.head_count_kv"]
            kv_heads = max(by_layer)
            recurrent = _short_convolutions(number, by_layer.count(0), width)
        else:
            kv_heads = number("attention.head_count_kv", heads)
        if architecture == "qwen35":
            every = number("full_attention_interval", _INTERVAL)
            recurrent = _delta_nets(number, layers - layers // every, width)
        return cls(
            layers=layers,
            width=width,
            heads=heads,
            kv_heads=kv_heads,
            key_width=number("attention.key_length", width // heads),
            value_width=number("attention.value_length", width // heads),
            feed_forward=number("feed_forward_length"),
            recurrent=recurrent,
        )

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
        values = self.attention_layers * self.kv_heads * (self.key_width + self.value_width)
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
        works on the last position alone, are left out, and so are gates of attention and what is
        done with a recurrent state.
        """
        attention = self.width * (self.heads * self.key_width + self.heads * self.value_width)
        attention += self.width * self.kv_heads * (self.key_width + self.value_width)
        weights = self.layers * 3 * self.width * self.feed_forward
        weights += self.attention_layers * attention
        if self.recurrent:
            weights += self.recurrent.layers * self.recurrent.weights
        per_pair = 2 * self.attention_layers * self.heads * (self.key_width + self.value_width)
        return 2.0 * weights * positions + per_pair * positions**2 / 2


def _short_convolutions(number: Callable[[str], int], layers: int, width: int) -> RecurrentShape:
    """Return the sizes of LFM2's convolutions, which keep the positions before the next one."""
    kept = (number("shortconv.l_cache") - 1) * width
    return RecurrentShape(
        layers=layers, weights=4 * width * width, state_bytes=layers * kept * _STATE_BYTES
    )


def _delta_nets(number: Callable[[str], int], layers: int, width: int) -> RecurrentShape:
    """Return the sizes of Qwen3.5's delta nets: a convolution each, and a matrix each head."""
    values, state = number("ssm.inner_size"), number("ssm.state_size")
    mixed = values + 2 * number("ssm.group_count") * state
    kept = (number("ssm.conv_kernel") - 1) * mixed + values * state
    gates = 2 * number("ssm.time_step_rank")
    return RecurrentShape(
        layers=layers,
        weights=width * (mixed + 2 * values + gates),
        state_bytes=layers * kept * _STATE_BYTES,
    )


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
        return "a list" if value is None or isinstance(value, tuple) else str(value)

    return ModelShape.of(lookup, weights)
