"""What a family of language models defines: its settings, its tensors, their values in a GGUF.

In: a config. Out: the expected tensors by their Hugging Face names, in the order of the GGUF. One
module a family derives from `Family`; `llm_registry.py` lists them.
"""

from pathlib import Path
from typing import Annotated, Any, ClassVar

import gguf
import msgspec
import numpy as np
from numpy.typing import NDArray

Count = Annotated[int, msgspec.Meta(ge=1, le=2**24)]
"""A size of a model; twice the longest context of 2026. A GGUF holds 32 bits, memory less."""

ROPE_THETA = 10_000.0
"""Base of the rotary frequencies where a config names none: that of the config classes of all our
families in transformers, 4 and 5."""

MAX_LAYERS = 1024
"""Layers of a model. No model has that many; a damaged number would fill the memory."""

ATTENTION = "full_attention"
"""What `layer_types` call a layer whose attention sees every position before it."""

_Positive = Annotated[float, msgspec.Meta(ge=1e-30, le=1e30)]  # float32 holds these


class DeltaNet(msgspec.Struct, frozen=True, kw_only=True):
    """The gated delta nets of a model.

    Attributes:
        key_heads: heads of queries and keys.
        value_heads: heads of values, a multiple of `key_heads`.
        head_width: of a query, a key and a value.
        rope_sections: frequencies of the rotary positions that follow time, height and width.
    """

    key_heads: Count
    value_heads: Count
    head_width: Count
    rope_sections: tuple[int, int, int]

    @property
    def keys_width(self) -> int:
        """Width of all keys, and of all queries."""
        return self.key_heads * self.head_width

    @property
    def values_width(self) -> int:
        """Width of all values."""
        return self.value_heads * self.head_width


class Rope(msgspec.Struct, frozen=True, kw_only=True):
    """The rotary positions of all layers.

    Attributes:
        rope_theta: base of the frequencies.
        rope_type: how they are scaled.
        partial_rotary_factor: share of a head that is turned.
    """

    rope_theta: _Positive
    rope_type: str = "default"
    partial_rotary_factor: float | None = None


class LlmConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The keys of config.json that decoder families share; defaults are those of transformers.

    What some of them have besides, as `Family.shared_settings` gives it: `conv_kernel`, positions
    that a short convolution sees; `rotary_width`, how much of a head is turned; `delta_net`.
    """

    architectures: list[str]
    hidden_size: Count
    intermediate_size: Count
    num_hidden_layers: Annotated[int, msgspec.Meta(ge=1, le=MAX_LAYERS)]
    num_attention_heads: Count
    max_position_embeddings: Count
    rms_norm_eps: _Positive
    vocab_size: Count
    num_key_value_heads: Count | None = None
    head_dim: Count | None = None
    rope_parameters: Rope
    tie_word_embeddings: bool = False
    attention_bias: bool = False
    mlp_bias: bool = False
    is_causal: bool = True
    partial_rotary_factor: float | None = None
    sliding_window: int | None = None
    use_sliding_window: bool | None = None
    layer_types: list[str] | None = None
    hidden_act: str = "silu"
    conv_kernel: Annotated[int, msgspec.Meta(ge=2, le=2**10)] | None = None
    rotary_width: Annotated[int, msgspec.Meta(ge=2, le=2**24)] | None = None
    delta_net: DeltaNet | None = None

    @property
    def key_value_heads(self) -> int:
        """Heads of keys and values; as many as query heads unless told otherwise."""
        return self.num_key_value_heads or self.num_attention_heads

    @property
    def head_width(self) -> int:
        """Width of one head; independent of the hidden size where the config tells it."""
        return self.head_dim or self.hidden_size // self.num_attention_heads


class Family:
    """Hooks of one architecture; those that are here are of a decoder with attention alone.

    Attributes:
        architecture: of the GGUF.
        layer_kinds: what `layer_types` may name.
        last_norm: name of the tensor that normalises what the last layer gives.
        takes_adapters: whether a LoRA for its matrices can be expressed.
    """

    architecture: ClassVar[gguf.MODEL_ARCH]
    layer_kinds: ClassVar[frozenset[str]] = frozenset({ATTENTION})
    last_norm: ClassVar[str] = "model.norm.weight"
    takes_adapters: ClassVar[bool] = True

    def shared_settings(self, settings: dict[str, Any], path: Path) -> dict[str, Any]:
        """Return the settings under the names of `LlmConfig`, with the family's own defaults.

        Args:
            settings: as the model's config.json has them.
            path: where they come from, for messages.

        Raises:
            UnreadableCheckpointError: a setting is of a wrong type, or contradicts another.
            UnsupportedModelError: a setting that no GGUF of the family has.
        """
        return settings

    def layer_shapes(self, config: LlmConfig, layer: int) -> dict[str, tuple[int, ...]]:
        """Return the tensors of one layer: name after `model.layers.N.` -> shape."""
        return gated_layer_shapes(config)

    def gguf_values(
        self, name: str, values: NDArray[np.float32], config: LlmConfig
    ) -> NDArray[np.float32]:
        """Return a tensor as the GGUF holds it, or the rows of its LoRA B matrix in that order.

        Args:
            name: the Hugging Face name of the tensor.
            values: its values, output rows first.
            config: the model's config.
        """
        return values

    def add_keys(self, writer: gguf.GGUFWriter, config: LlmConfig) -> None:
        """Add what the GGUF tells of layers and positions beyond the sizes that all have."""
        writer.add_head_count_kv(config.key_value_heads)


def gated_layer_shapes(config: LlmConfig) -> dict[str, tuple[int, ...]]:
    """Return the tensors of a pre-norm layer with grouped-query attention, gated MLP."""
    width, hidden = config.hidden_size, config.intermediate_size
    queries = config.num_attention_heads * config.head_width
    keys = config.key_value_heads * config.head_width
    return {
        "input_layernorm.weight": (width,),
        "self_attn.q_proj.weight": (queries, width),
        "self_attn.k_proj.weight": (keys, width),
        "self_attn.v_proj.weight": (keys, width),
        "self_attn.o_proj.weight": (width, queries),
        "post_attention_layernorm.weight": (width,),
        "mlp.gate_proj.weight": (hidden, width),
        "mlp.up_proj.weight": (hidden, width),
        "mlp.down_proj.weight": (width, hidden),
    }


def tensor_shapes(family: Family, config: LlmConfig) -> dict[str, tuple[int, ...]]:
    """Return all tensors of a model with their shapes, in the order of the GGUF.

    Args:
        family: hooks of its architecture.
        config: its config.

    Returns:
        Hugging Face name -> shape; without `lm_head.weight` where embeddings are tied.
    """
    table = (config.vocab_size, config.hidden_size)
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": table}
    for layer in range(config.num_hidden_layers):
        for name, shape in family.layer_shapes(config, layer).items():
            shapes[f"model.layers.{layer}.{name}"] = shape
    shapes[family.last_norm] = (config.hidden_size,)
    if not config.tie_word_embeddings:
        shapes["lm_head.weight"] = table
    return shapes


def gguf_name(family: Family, config: LlmConfig, name: str) -> str:
    """Return the name of a tensor in the GGUF.

    Args:
        family: hooks of its architecture.
        config: the model's config.
        name: its Hugging Face name.

    Returns:
        For instance `blk.0.attn_q.weight`.
    """
    names = gguf.get_tensor_name_map(family.architecture, config.num_hidden_layers)
    name = name.replace(".dt_bias", ".dt_proj.bias")  # under which gguf knows it, as Mamba's
    mapped = names.get_name(name, try_suffixes=(".weight", ".bias"))
    assert mapped is not None, f"gguf has no name for {name}"
    return mapped
