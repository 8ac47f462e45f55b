"""What a family of language models defines: its config, its tensors, its row order.

In: the content of config.json. Out: the expected tensors by their Hugging Face names, in the order
of the GGUF. One module a family implements `Family`; `llm_registry.py` lists them.
"""

from pathlib import Path
from typing import Annotated, Any, Protocol

import gguf
import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_et.export.errors import UnreadableCheckpointError, UnsupportedModelError

Count = Annotated[int, msgspec.Meta(ge=1, le=2**24)]
"""A size of a model; twice the longest context of 2026. A GGUF holds 32 bits, memory less."""

ROPE_THETA = 10_000.0
"""Base of the rotary frequencies where a config names none: that of the config classes of all our
families in transformers, 4 and 5."""

MAX_LAYERS = 1024
"""Layers of a model. No model has that many; a damaged number would fill the memory."""

_Positive = Annotated[float, msgspec.Meta(ge=1e-30, le=1e30)]  # float32 holds these


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
    """The keys of config.json that decoder families share; defaults are those of transformers."""

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

    @property
    def key_value_heads(self) -> int:
        """Heads of keys and values; as many as query heads unless told otherwise."""
        return self.num_key_value_heads or self.num_attention_heads

    @property
    def head_width(self) -> int:
        """Width of one head; independent of the hidden size where the config tells it."""
        return self.head_dim or self.hidden_size // self.num_attention_heads


class Family(Protocol):
    """Hooks of one architecture."""

    @property
    def architecture(self) -> gguf.MODEL_ARCH:
        """Architecture of the GGUF."""

    def layer_shapes(self, config: LlmConfig) -> dict[str, tuple[int, ...]]:
        """Return the tensors of one layer: name after `model.layers.N.` -> shape."""

    def gguf_rows(
        self, name: str, values: NDArray[np.float32], config: LlmConfig
    ) -> NDArray[np.float32]:
        """Return the rows of a tensor, or of its LoRA B matrix, in the order of the GGUF.

        Args:
            name: the Hugging Face name of the tensor.
            values: its values, output rows first.
            config: the model's config.
        """


def parse_config(settings: dict[str, Any], path: Path) -> LlmConfig:
    """Parse a model's settings and refuse what a GGUF of our families cannot express.

    Args:
        settings: as config.json of the language model alone has them, from `read_config`.
        path: where they come from, for messages.

    Returns:
        The config.

    Raises:
        UnreadableCheckpointError: a key is missing or of a wrong type.
        UnsupportedModelError: a setting that would be lost.
    """
    rope = {"rope_theta": ROPE_THETA, **(settings.get("rope_parameters") or {})}
    if per_layer := [kind for kind, value in rope.items() if isinstance(value, dict)]:
        raise UnsupportedModelError(
            f"{path} asks for other rope_parameters in layers of {', '.join(per_layer)}: "
            "not supported"
        )
    try:
        config = msgspec.convert({**settings, "rope_parameters": rope}, LlmConfig)
    except (msgspec.ValidationError, UnicodeEncodeError) as err:  # lone surrogates make the latter
        raise UnreadableCheckpointError(f"{path}: {err}") from err
    rope_type = config.rope_parameters.rope_type
    kinds = sorted(set(config.layer_types or []) - {"full_attention"})
    partial = {config.partial_rotary_factor, config.rope_parameters.partial_rotary_factor}
    # Qwen's configs name a window that they do not use; Llama's cache of transformers uses it.
    window = config.sliding_window is not None and config.use_sliding_window is None
    lost = {
        f"rope type {rope_type!r}": rope_type != "default",
        f"activation {config.hidden_act!r}": config.hidden_act != "silu",
        "attention_bias": config.attention_bias,
        "mlp_bias": config.mlp_bias,
        "is_causal false": not config.is_causal,
        "partial_rotary_factor": not partial <= {None, 1.0},
        "sliding_window": window,
        "use_sliding_window": bool(config.use_sliding_window),
        f"layers of {', '.join(kinds)}": bool(kinds),
    }
    if unsupported := [setting for setting, present in lost.items() if present]:
        raise UnsupportedModelError(f"{path} asks for {', '.join(unsupported)}: not supported")
    return config


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
        for name, shape in family.layer_shapes(config).items():
            shapes[f"model.layers.{layer}.{name}"] = shape
    shapes["model.norm.weight"] = (config.hidden_size,)
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
    mapped = names.get_name(name, try_suffixes=(".weight", ".bias"))
    assert mapped is not None, f"gguf has no name for {name}"
    return mapped
