"""What llama.cpp takes for granted in the metadata of our architectures, and ends the process over.

In: the metadata of a GGUF. Out: nothing, or the error that says which value is wrong.
"""

import math
from collections.abc import Mapping
from typing import Final

from edge_et.bundle.gguf_values import (
    BOOL,
    FLOAT32,
    INT32,
    STRING,
    UINT32,
    DamagedError,
    Value,
    shown,
)

_LFM2, _QWEN35 = b"lfm2", b"qwen35"
ARCHITECTURES: Final = (b"llama", b"qwen2", b"qwen3", b"gemma3", _LFM2, _QWEN35)
_DELTA_NET_COUNTS = (
    "ssm.conv_kernel",
    "ssm.state_size",
    "ssm.group_count",
    "ssm.time_step_rank",
    "ssm.inner_size",
)
_COUNTS = (
    "block_count",
    "context_length",
    "embedding_length",
    "feed_forward_length",
    "attention.head_count",
)
_OPTIONAL_COUNTS = (
    "attention.head_count_kv",
    "attention.key_length",
    "attention.value_length",
    "rope.dimension_count",
    "attention.sliding_window",
    "vocab_size",
)


class _Keys:
    """The metadata of one architecture."""

    def __init__(self, values: Mapping[bytes, Value], architecture: bytes) -> None:
        self._values = values
        self.architecture = architecture

    def value(self, key: str) -> Value | None:
        """Return what a key of the architecture holds."""
        return self._values.get(self._name(key))

    def count(self, key: str, default: int | None = None) -> int:
        """Return a whole number of at least 1."""
        value = self.value(key)
        if value is None and default is not None:
            return default
        if value is None or value.kind != UINT32 or value.content < 1:
            found = "missing" if value is None else value.content
            raise DamagedError(f"its {shown(self._name(key))} is {found}")
        return int(value.content)

    def numbers(self, key: str, length: int) -> tuple[int, ...]:
        """Return a list of whole numbers of at least 0."""
        value = self.value(key)
        if (
            value is None
            or value.item_kind not in (UINT32, INT32)
            or value.count != length
            or min(value.content or (-1,)) < 0
        ):
            found = "missing" if value is None else value.content
            raise DamagedError(
                f"its {shown(self._name(key))} is {found}, expected a list of {length}"
            )
        return tuple(value.content)

    def _name(self, key: str) -> bytes:
        return self.architecture + b"." + key.encode()


def check_sizes(values: Mapping[bytes, Value], architecture: bytes) -> None:
    """Check the numbers that llama.cpp divides by and allocates for.

    Args:
        values: the metadata.
        architecture: one of `ARCHITECTURES`.

    Raises:
        DamagedError: one is missing or wrong.
    """
    keys = _Keys(values, architecture)
    differs_by_layer = {"attention.head_count_kv"} if keys.architecture == _LFM2 else set()
    for key in _COUNTS:
        keys.count(key)
    for key in _OPTIONAL_COUNTS:
        if key not in differs_by_layer:
            keys.count(key, 1)
    width, heads = keys.count("embedding_length"), keys.count("attention.head_count")
    head_width = keys.count("attention.key_length", width // heads)
    rotated = keys.count("rope.dimension_count", head_width)
    if keys.architecture == _LFM2:
        shared = _check_short_convolutions(keys)
    else:
        shared = keys.count("attention.head_count_kv", heads)
    if keys.architecture == _QWEN35:
        _check_delta_nets(keys, head_width)
    if keys.architecture in (_LFM2, _QWEN35):
        value_width = keys.count("attention.value_length", width // heads)
        if value_width != head_width:
            raise DamagedError(f"its keys of {head_width} have values of {value_width}")
    if heads % shared or not 2 <= rotated <= head_width:
        raise DamagedError(f"its {heads} heads of {head_width} values do not fit together")
    for key in ("attention.layer_norm_rms_epsilon", "rope.freq_base"):
        value = keys.value(key) or Value(FLOAT32, 1.0)
        if value.kind != FLOAT32 or not 0 < value.content < math.inf:
            raise DamagedError(f"its {key} is {value.content}")


def _check_short_convolutions(keys: _Keys) -> int:
    """Return the heads of keys in LFM2's layers of attention; the others are convolutions."""
    heads = keys.numbers("attention.head_count_kv", keys.count("block_count"))
    others = set(heads) - {0}
    if 0 not in heads or len(others) != 1:
        raise DamagedError(f"its layers have {heads} heads of keys, expected 0 and another number")
    if (kernel := keys.count("shortconv.l_cache")) < 2:
        raise DamagedError(f"its shortconv.l_cache is {kernel}, expected 2 or more")
    return others.pop()


def _check_delta_nets(keys: _Keys, head_width: int) -> None:
    """Check Qwen3.5's layers, of which one in so many is attention."""
    kernel, state, groups, rank, inner = map(keys.count, _DELTA_NET_COUNTS)
    if kernel < 2 or rank % groups or inner != rank * state:
        raise DamagedError(f"its ssm sizes {kernel, state, groups, rank, inner} do not go together")
    layers, every = keys.count("block_count"), keys.count("full_attention_interval", 4)
    if not 2 <= every <= layers:
        raise DamagedError(f"its full_attention_interval is {every}, of {layers} layers")
    recurrent = keys.value("attention.recurrent_layers")
    expected = tuple(int(number % every != 0) for number in range(1, layers + 1))
    if recurrent is not None and (recurrent.item_kind, recurrent.content) != (BOOL, expected):
        raise DamagedError(f"its attention.recurrent_layers are not all but each {every}th")
    if keys.value("nextn_predict_layers") is not None:
        raise DamagedError("it holds layers that predict a second token, which are not supported")
    sections = keys.numbers("rope.dimension_sections", 4)
    if not 1 <= sum(sections) <= head_width:
        raise DamagedError(f"its rope.dimension_sections are {sections}")


def check_vocabulary(values: Mapping[bytes, Value]) -> None:
    """Check the lists that llama.cpp walks side by side.

    Args:
        values: the metadata.

    Raises:
        DamagedError: they do not go together.
    """
    lists = {
        name: values.get(f"tokenizer.ggml.{name}".encode())
        for name in ("tokens", "token_type", "scores", "merges")
    }
    tokens = lists["tokens"]
    if tokens is None or tokens.item_kind != STRING or not tokens.count:
        raise DamagedError("it has no list of tokens")
    if len(set(tokens.content)) < tokens.count:
        raise DamagedError("a token is there twice")
    for name, kind in (("token_type", INT32), ("scores", FLOAT32)):
        found = lists[name]
        if found is not None and (found.item_kind, found.count) != (kind, tokens.count):
            raise DamagedError(f"its {name} does not go with its {tokens.count} tokens")
    merges = lists["merges"]
    if merges is not None and (
        merges.item_kind != STRING or any(b" " not in merge[1:-1] for merge in merges.content)
    ):
        raise DamagedError("a merge has no two parts")
