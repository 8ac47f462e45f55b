"""LFM2 and LFM2.5 (dense): short convolutions in most layers, attention in the others.

Source: `configuration_lfm2.py` and `modeling_lfm2.py` of transformers 4.57 and 5.24.
"""

from pathlib import Path
from typing import Annotated, Any

import gguf
import msgspec

from edge_et.export.errors import UnreadableCheckpointError, UnsupportedModelError
from edge_et.export.families.llm_family import ATTENTION, Count, Family, LlmConfig

_CONVOLUTION = "conv"
_THETA = 1_000_000.0


class _Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The keys that LFM2 alone has; defaults are those of transformers.

    `block_ff_dim` and `tie_embedding` are older names, which count before the new ones;
    `full_attn_idxs` counts where there are no `layer_types`.
    """

    intermediate_size: Count = 12288
    block_ff_dim: Count | None = None
    block_auto_adjust_ff_dim: bool = True
    block_ffn_dim_multiplier: Annotated[float, msgspec.Meta(gt=0, le=1e3)] | None = 1.0
    block_multiple_of: Count = 256
    norm_eps: float = 1e-5
    num_hidden_layers: Annotated[int, msgspec.Meta(ge=1, le=1024)] = 32
    num_key_value_heads: Count = 8
    layer_types: list[str] | None = None
    full_attn_idxs: list[int] | None = None
    conv_L_cache: int = 3  # noqa: N815  (transformers calls it so)
    conv_bias: bool = False
    theta: float | None = None
    tie_word_embeddings: bool = True
    tie_embedding: bool | None = None

    @property
    def feed_forward(self) -> int:
        """Width of the matrices, which `intermediate_size` alone does not tell."""
        width = self.block_ff_dim or self.intermediate_size
        if not self.block_auto_adjust_ff_dim:
            return width
        width = int(2 * width / 3)
        if self.block_ffn_dim_multiplier is None:
            return width
        width = int(self.block_ffn_dim_multiplier * width)
        return -(-width // self.block_multiple_of) * self.block_multiple_of

    @property
    def kinds(self) -> list[str]:
        """What each layer is."""
        if self.layer_types is not None:
            return self.layer_types
        layers = range(self.num_hidden_layers)
        attention = layers if self.full_attn_idxs is None else self.full_attn_idxs
        return [ATTENTION if layer in attention else _CONVOLUTION for layer in layers]


class Lfm2(Family):
    """Hooks of `Lfm2ForCausalLM`."""

    architecture = gguf.MODEL_ARCH.LFM2
    layer_kinds = frozenset({ATTENTION, _CONVOLUTION})
    last_norm = "model.embedding_norm.weight"
    takes_adapters = False

    def shared_settings(self, settings: dict[str, Any], path: Path) -> dict[str, Any]:
        """Return the settings under the names of `LlmConfig`."""
        try:
            own = msgspec.convert(settings, _Settings)
        except (msgspec.ValidationError, UnicodeEncodeError) as err:
            raise UnreadableCheckpointError(f"{path}: {err}") from err
        if own.conv_bias:
            raise UnsupportedModelError(f"{path} asks for conv_bias: not supported")
        if len(own.kinds) != own.num_hidden_layers or set(own.kinds) != self.layer_kinds:
            convolutions, attention = map(own.kinds.count, (_CONVOLUTION, ATTENTION))
            raise UnsupportedModelError(
                f"{path}: of {own.num_hidden_layers} layers {convolutions} are convolutions and "
                f"{attention} attention; expected some of both, and no others"
            )
        rope = {"rope_theta": _THETA, **(settings.get("rope_parameters") or {})}
        if own.theta not in (None, rope["rope_theta"]):  # transformers 4 takes it, and 5 does not
            raise UnreadableCheckpointError(
                f"{path}: the base of the rotary frequencies is {rope['rope_theta']!r} by "
                f"rope_theta and {own.theta!r} by theta: keep the one that the model was trained "
                "with"
            )
        tied = own.tie_word_embeddings if own.tie_embedding is None else own.tie_embedding
        return settings | {
            "intermediate_size": own.feed_forward,
            "rms_norm_eps": own.norm_eps,
            "num_key_value_heads": own.num_key_value_heads,
            "rope_parameters": rope,
            "layer_types": own.kinds,
            "conv_kernel": own.conv_L_cache,
            "tie_word_embeddings": tied,
        }

    def layer_shapes(self, config: LlmConfig, layer: int) -> dict[str, tuple[int, ...]]:
        """Return the tensors of one layer, of one kind or the other."""
        width, hidden = config.hidden_size, config.intermediate_size
        if config.head_width * config.num_attention_heads != width:
            raise UnsupportedModelError(
                f"{config.num_attention_heads} heads of {config.head_width} are not {width} wide, "
                "which an LFM2 GGUF asks for"
            )
        assert config.conv_kernel is not None
        assert config.layer_types is not None
        keys = config.key_value_heads * config.head_width
        shapes: dict[str, tuple[int, ...]] = {
            "operator_norm.weight": (width,),
            "ffn_norm.weight": (width,),
            "feed_forward.w1.weight": (hidden, width),
            "feed_forward.w2.weight": (width, hidden),
            "feed_forward.w3.weight": (hidden, width),
        }
        if config.layer_types[layer] == _CONVOLUTION:
            return shapes | {
                "conv.conv.weight": (width, 1, config.conv_kernel),
                "conv.in_proj.weight": (3 * width, width),
                "conv.out_proj.weight": (width, width),
            }
        return shapes | {
            "self_attn.q_proj.weight": (width, width),
            "self_attn.k_proj.weight": (keys, width),
            "self_attn.v_proj.weight": (keys, width),
            "self_attn.out_proj.weight": (width, width),
            "self_attn.q_layernorm.weight": (config.head_width,),
            "self_attn.k_layernorm.weight": (config.head_width,),
        }

    def add_keys(self, writer: gguf.GGUFWriter, config: LlmConfig) -> None:
        """Add heads of each layer, 0 in convolutions, and how many positions these see."""
        assert config.conv_kernel is not None
        assert config.layer_types is not None
        kinds = config.layer_types
        writer.add_head_count_kv([config.key_value_heads * (kind == ATTENTION) for kind in kinds])
        writer.add_shortconv_l_cache(config.conv_kernel)
