"""Qwen3.5 (dense): gated delta nets in most layers, attention with a gate in the others.

Source: `configuration_qwen3_5.py` and `modeling_qwen3_5.py` of transformers 5.24 for what is
computed; llama.cpp's src/models/qwen35.cpp and conversion/qwen.py for how a GGUF holds it.
"""

from pathlib import Path
from typing import Annotated, Any

import gguf
import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_et.export.errors import UnreadableCheckpointError, UnsupportedModelError
from edge_et.export.families.llm_family import (
    ATTENTION,
    MAX_LAYERS,
    Count,
    DeltaNet,
    Family,
    LlmConfig,
    gated_layer_shapes,
)

_DELTA_NET = "linear_attention"
_ROTARY_FACTOR = 0.25
"""Share of a head that is turned where a config tells none, by its class in transformers."""

_NORM_EPS = 1e-6
"""Of queries and keys in a delta net; llama.cpp takes that of the other norms, which is the same in
the models that there are."""

_Share = Annotated[float, msgspec.Meta(gt=0, le=1)]


class _Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The keys that Qwen3.5 alone has; defaults are those of transformers."""

    num_hidden_layers: Annotated[int, msgspec.Meta(ge=1, le=MAX_LAYERS)] = 32
    layer_types: list[str] | None = None
    full_attention_interval: Annotated[int, msgspec.Meta(ge=1)] = 4
    head_dim: Count = 256
    rms_norm_eps: float = _NORM_EPS
    linear_conv_kernel_dim: int = 4
    linear_key_head_dim: Count = 128
    linear_value_head_dim: Count = 128
    linear_num_key_heads: Count = 16
    linear_num_value_heads: Count = 32
    partial_rotary_factor: _Share | None = None

    @property
    def kinds(self) -> list[str]:
        """What each layer is."""
        if self.layer_types is not None:
            return self.layer_types
        return _kinds(self.num_hidden_layers, self.full_attention_interval)


class _Rope(msgspec.Struct, frozen=True, kw_only=True):
    """What `rope_parameters` tell beyond those of other families."""

    partial_rotary_factor: _Share | None = None
    mrope_section: tuple[Count, Count, Count] = (11, 11, 10)


class Qwen35(Family):
    """Hooks of `Qwen3_5ForCausalLM`."""

    architecture = gguf.MODEL_ARCH.QWEN35
    layer_kinds = frozenset({ATTENTION, _DELTA_NET})
    takes_adapters = False

    def shared_settings(self, settings: dict[str, Any], path: Path) -> dict[str, Any]:
        """Return the settings under the names of `LlmConfig`."""
        rope = dict(settings.get("rope_parameters") or {})
        try:
            own = msgspec.convert(settings, _Settings)
            own_rope = msgspec.convert(rope, _Rope)
        except (msgspec.ValidationError, UnicodeEncodeError) as err:
            raise UnreadableCheckpointError(f"{path}: {err}") from err
        stated = {own.partial_rotary_factor, own_rope.partial_rotary_factor} - {None}
        if len(stated) > 1:
            raise UnreadableCheckpointError(
                f"{path}: partial_rotary_factor is {own.partial_rotary_factor} and, in "
                f"rope_parameters, {own_rope.partial_rotary_factor}: keep the one that the model "
                "was trained with"
            )
        factor = own.partial_rotary_factor or own_rope.partial_rotary_factor or _ROTARY_FACTOR
        rotary_width = int(own.head_dim * factor)
        sections = own_rope.mrope_section
        keys, values = own.linear_num_key_heads, own.linear_num_value_heads
        key_width, value_width = own.linear_key_head_dim, own.linear_value_head_dim
        lost = {
            f"{values} heads of values for {keys} of keys": values % keys != 0,
            f"values of {value_width} for keys of {key_width}": value_width != key_width,
            f"rms_norm_eps {own.rms_norm_eps}": own.rms_norm_eps != _NORM_EPS,
            f"a rotary width of {rotary_width}": rotary_width < 2 or rotary_width % 2 != 0,
            f"mrope_section {list(sections)}": sum(sections) > own.head_dim
            or not _turn_all(sections, rotary_width // 2),
        }
        if unsupported := [setting for setting, present in lost.items() if present]:
            raise UnsupportedModelError(f"{path} asks for {', '.join(unsupported)}: not supported")
        every = (own.kinds.index(ATTENTION) if ATTENTION in own.kinds else 0) + 1
        if every == 1 or own.kinds != _kinds(own.num_hidden_layers, every):
            raise UnsupportedModelError(
                f"{path}: of {own.num_hidden_layers} layers each one in so many has to be "
                f"{ATTENTION}, and the others {_DELTA_NET}; they are {', '.join(own.kinds)}"
            )
        rope.pop("partial_rotary_factor", None)
        return settings | {
            "head_dim": own.head_dim,
            "rope_parameters": rope,
            "partial_rotary_factor": None,
            "rotary_width": rotary_width,
            "layer_types": own.kinds,
            "conv_kernel": own.linear_conv_kernel_dim,
            "delta_net": {
                "key_heads": own.linear_num_key_heads,
                "value_heads": own.linear_num_value_heads,
                "head_width": own.linear_key_head_dim,
                "rope_sections": sections,
            },
        }

    def layer_shapes(self, config: LlmConfig, layer: int) -> dict[str, tuple[int, ...]]:
        """Return the tensors of one layer, of one kind or the other."""
        assert config.layer_types is not None
        shapes = gated_layer_shapes(config)
        if config.layer_types[layer] == ATTENTION:
            queries, width = shapes["self_attn.q_proj.weight"]
            return shapes | {
                "self_attn.q_proj.weight": (2 * queries, width),  # each head's gate behind it
                "self_attn.q_norm.weight": (config.head_width,),
                "self_attn.k_norm.weight": (config.head_width,),
            }
        net, width = _delta_net(config), config.hidden_size
        assert config.conv_kernel is not None
        mixed = 2 * net.keys_width + net.values_width
        others = {name: shape for name, shape in shapes.items() if "self_attn" not in name}
        return others | {
            "linear_attn.in_proj_qkv.weight": (mixed, width),
            "linear_attn.in_proj_z.weight": (net.values_width, width),
            "linear_attn.in_proj_b.weight": (net.value_heads, width),
            "linear_attn.in_proj_a.weight": (net.value_heads, width),
            "linear_attn.conv1d.weight": (mixed, 1, config.conv_kernel),
            "linear_attn.dt_bias": (net.value_heads,),
            "linear_attn.A_log": (net.value_heads,),
            "linear_attn.norm.weight": (net.head_width,),
            "linear_attn.out_proj.weight": (width, net.values_width),
        }

    def gguf_values(
        self, name: str, values: NDArray[np.float32], config: LlmConfig
    ) -> NDArray[np.float32]:
        """Put heads of values in llama.cpp's order, and fold into weights what it leaves out.

        transformers multiplies what it normalises by 1 + the weight, llama.cpp by the weight; and
        the first keeps the logarithm of what the state decays by.
        """
        kind = name.partition("linear_attn.")[2]
        if not kind:
            return values + np.float32(1) if name.endswith("norm.weight") else values
        net = _delta_net(config)
        if kind == "A_log":
            return -np.exp(_tiled(values, net, 1))
        if kind in ("dt_bias", "in_proj_a.weight", "in_proj_b.weight"):
            return _tiled(values, net, 1)
        if kind == "in_proj_z.weight":
            return _tiled(values, net, net.head_width)
        if kind in ("in_proj_qkv.weight", "conv1d.weight"):
            keys, own = np.split(values, [2 * net.keys_width])
            return np.concatenate([keys, _tiled(own, net, net.head_width)])
        if kind == "out_proj.weight":
            return np.ascontiguousarray(_tiled(values.T, net, net.head_width).T)
        return values

    def add_keys(self, writer: gguf.GGUFWriter, config: LlmConfig) -> None:
        """Add which layers are attention, and the sizes of delta nets."""
        super().add_keys(writer, config)
        net = _delta_net(config)
        assert config.conv_kernel is not None
        assert config.layer_types is not None
        writer.add_full_attention_interval(config.layer_types.index(ATTENTION) + 1)
        writer.add_rope_dimension_sections([*net.rope_sections, 0])
        writer.add_ssm_conv_kernel(config.conv_kernel)
        writer.add_ssm_state_size(net.head_width)
        writer.add_ssm_group_count(net.key_heads)
        writer.add_ssm_time_step_rank(net.value_heads)
        writer.add_ssm_inner_size(net.values_width)


def _kinds(layers: int, every: int) -> list[str]:
    return [_DELTA_NET if number % every else ATTENTION for number in range(1, layers + 1)]


def _delta_net(config: LlmConfig) -> DeltaNet:
    assert config.delta_net is not None
    return config.delta_net


def _tiled(values: NDArray[np.float32], net: DeltaNet, rows: int) -> NDArray[np.float32]:
    """Reorder heads of values from those of one key in a row to one of each key in turn.

    Args:
        values: `[heads of values * rows, ...]`.
        net: how many heads there are.
        rows: of one head.

    Returns:
        The same rows, C-contiguous: llama.cpp repeats the keys as a whole.
    """
    heads = values.reshape(net.key_heads, -1, rows, *values.shape[1:])
    return np.ascontiguousarray(heads.swapaxes(0, 1)).reshape(values.shape)


def _turn_all(sections: tuple[int, int, int], frequencies: int) -> bool:
    """Return whether llama.cpp turns each frequency of a text by its position.

    One that belongs to none of the three sections follows a fourth position, which is 0.

    Source: `ggml_mrope_cache_init` of ggml/src/ggml-cpu/ops.cpp, interleaved.
    """
    places = (frequency % sum(sections) for frequency in range(frequencies))
    return all(place < 3 * sections[place % 3] for place in places)
