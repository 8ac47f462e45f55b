"""Each key of a config class changes what is exported, or is refused, or decides nothing."""

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import gguf
import pytest
from tiny.vlm import edit_config, write_onevision
from transformers import (
    InternVLConfig,
    InternVLVisionConfig,
    Lfm2Config,
    LlamaConfig,
    LlavaOnevisionConfig,
    Qwen2Config,
    Qwen3_5TextConfig,
    Qwen3Config,
)
from transformers import SiglipVisionConfig as VisionConfig

from edge_et.export.building.vlm_checkpoint import read_vlm
from edge_et.export.errors import CheckpointError, UnsupportedModelError
from edge_et.export.families.vlm_registry import read_llm
from edge_et.export.llm.export_llm import export_llm

CLASSES: dict[str, Any] = {"llama": LlamaConfig, "qwen2": Qwen2Config, "qwen3": Qwen3Config}

IN_METADATA = {
    "max_position_embeddings": (128, "context_length", 128),
    "rms_norm_eps": (0.5, "attention.layer_norm_rms_epsilon", 0.5),
    "rope_parameters": ({"rope_theta": 7e3, "rope_type": "default"}, "rope.freq_base", 7e3),
}
"""Another value, the key of the GGUF, and what it holds then."""

IN_SHAPES = {
    "head_dim": 8,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_attention_heads": 8,
    "num_hidden_layers": 1,
    "num_key_value_heads": 1,
    "tie_word_embeddings": False,
    "vocab_size": 400,
}
"""Another value, which the tensors contradict."""

REFUSED = {
    "attention_bias": True,
    "hidden_act": "gelu",
    "layer_types": ["full_attention", "sliding_attention"],
    "mlp_bias": True,
    "use_sliding_window": True,
    # Of no class, but read where they are set.
    "is_causal": False,
    "partial_rotary_factor": 0.5,
    "quantization_config": {"quant_method": "fp8"},
}

IDLE = {
    "attention_dropout": 0.5,
    "chunk_size_feed_forward": 4,
    "dtype": "bfloat16",
    "id2label": {"0": "cat"},
    "initializer_range": 0.5,
    "is_encoder_decoder": True,
    "label2id": {"cat": 0},
    "max_window_layers": 1,
    "output_hidden_states": True,
    "pretraining_tp": 2,
    "problem_type": "regression",
    "return_dict": False,
    "transformers_version": "5.0.0",
    "use_cache": False,
}
"""They decide nothing about a logit: training, generation or Python objects read them."""

ELSEWHERE = {"architectures", "bos_token_id", "eos_token_id", "pad_token_id", "sliding_window"}
"""The registry's key; ids, of which only `eos_token_id` is used: where an answer ends
(test_llm_chat_format.py); and a window, which counts unless `use_sliding_window` says no."""


@pytest.mark.parametrize("family", list(CLASSES))
def test_every_key_of_a_class_is_known(family: str) -> None:
    known = IN_METADATA.keys() | IN_SHAPES.keys() | REFUSED.keys() | IDLE.keys() | ELSEWHERE
    assert {field.name for field in fields(CLASSES[family])} <= known


HYBRID_KEYS: dict[Any, set[str]] = {
    Lfm2Config: {
        "block_auto_adjust_ff_dim",
        "block_ffn_dim_multiplier",
        "block_multiple_of",
        "conv_L_cache",
        "conv_bias",
        "full_attn_idxs",
        "norm_eps",
    },
    Qwen3_5TextConfig: {
        "linear_conv_kernel_dim",
        "linear_key_head_dim",
        "linear_num_key_heads",
        "linear_num_value_heads",
        "linear_value_head_dim",
    },
}
"""They make up shapes and keys of the GGUF, or are refused (test_hybrid_export.py)."""


@pytest.mark.parametrize("config", list(HYBRID_KEYS))
def test_every_key_of_a_hybrid_is_known(config: Any) -> None:
    known = IN_METADATA.keys() | IN_SHAPES.keys() | REFUSED.keys() | IDLE.keys() | ELSEWHERE
    assert {field.name for field in fields(config)} <= known | HYBRID_KEYS[config]


@pytest.mark.parametrize("family", list(CLASSES))
def test_what_is_in_the_metadata(make_llm: Callable[..., Path], family: str) -> None:
    folder = make_llm(family)
    edit_config(folder, **{key: changed for key, (changed, _, _) in IN_METADATA.items()})
    out = folder.parent / "out.gguf"
    export_llm(folder, out, check_logits=False)
    found = gguf.GGUFReader(out).fields
    for _, name, expected in IN_METADATA.values():
        assert found[f"{family}.{name}"].contents() == expected


@pytest.mark.parametrize("family", list(CLASSES))
@pytest.mark.parametrize("key", list(IN_SHAPES))
def test_what_the_tensors_contradict(make_llm: Callable[..., Path], family: str, key: str) -> None:
    folder = make_llm(family)
    read_llm(folder).open_tensors()
    edit_config(folder, **{key: IN_SHAPES[key]})
    with pytest.raises(CheckpointError):
        read_llm(folder).open_tensors()


@pytest.mark.parametrize("family", list(CLASSES))
def test_what_is_refused_by_name(make_llm: Callable[..., Path], family: str) -> None:
    folder = make_llm(family)
    before = (folder / "config.json").read_text()
    for key, value in REFUSED.items():
        edit_config(folder, **{key: value})
        named = {"hidden_act": "activation 'gelu'", "layer_types": "layers of sliding"}
        with pytest.raises(UnsupportedModelError, match=named.get(key, key)):
            read_llm(folder)
        (folder / "config.json").write_text(before)


def test_a_share_of_a_head_and_a_window_are_refused(make_llm: Callable[..., Path]) -> None:
    folder = make_llm("llama")
    edit_config(folder, rope_parameters={"rope_theta": 1e4, "partial_rotary_factor": 0.5})
    with pytest.raises(UnsupportedModelError, match="partial_rotary_factor"):
        read_llm(folder)
    edit_config(folder, rope_parameters={"rope_theta": 1e4, "partial_rotary_factor": 1.0})
    read_llm(folder)
    edit_config(folder, sliding_window=64)
    with pytest.raises(UnsupportedModelError, match="sliding_window"):
        read_llm(folder)
    edit_config(folder, sliding_window=64, use_sliding_window=False)
    read_llm(folder)


@pytest.mark.parametrize("family", list(CLASSES))
def test_what_decides_nothing(make_llm: Callable[..., Path], family: str) -> None:
    folder = make_llm(family)
    out = [folder.parent / "before.gguf", folder.parent / "after.gguf"]
    export_llm(folder, out[0], check_logits=False)
    edit_config(folder, **IDLE)
    export_llm(folder, out[1], check_logits=False)
    assert out[0].read_bytes() == out[1].read_bytes()


TOWER_KEYS = {
    "attention_dropout", "hidden_act", "hidden_size", "image_size", "intermediate_size",
    "layer_norm_eps", "num_attention_heads", "num_channels", "num_hidden_layers", "patch_size",
    "vision_use_head",
}  # fmt: skip
"""transformers builds the tower from these; but for the channels, all of them are free."""

ONEVISION_KEYS = {
    "image_grid_pinpoints", "multimodal_projector_bias", "projector_hidden_act", "text_config",
    "tie_word_embeddings", "vision_aspect_ratio", "vision_config", "vision_feature_layer",
    "vision_feature_select_strategy",
    # The template's <image> is found by its text, and there are no videos.
    "image_token_index", "video_token_index",
}  # fmt: skip

INTERN_VIT_KEYS = {
    "attention_bias", "hidden_act", "hidden_size", "image_size", "intermediate_size",
    "layer_norm_eps", "norm_type", "num_attention_heads", "num_channels", "num_hidden_layers",
    "patch_size", "use_absolute_position_embeddings", "use_mask_token", "use_mean_pooling",
    "use_qk_norm",
    # They decide nothing about a feature: training and initial values.
    "hidden_dropout_prob", "layer_scale_init_value", "projection_dropout",
}  # fmt: skip

INTERNVL_KEYS = {
    "downsample_ratio", "projector_hidden_act", "text_config", "tie_word_embeddings",
    "vision_config", "vision_feature_layer", "vision_feature_select_strategy",
    # The template's <IMG_CONTEXT> is found by its text; the processor's own number counts.
    "image_seq_length", "image_token_id",
}  # fmt: skip


@pytest.mark.parametrize(
    ("config", "keys"),
    [
        (VisionConfig, TOWER_KEYS),
        (LlavaOnevisionConfig, ONEVISION_KEYS),
        (InternVLVisionConfig, INTERN_VIT_KEYS),
        (InternVLConfig, INTERNVL_KEYS),
    ],
)
def test_every_key_of_the_vision_side_is_known(config: Any, keys: set[str]) -> None:
    assert {field.name for field in fields(config)} - IDLE.keys() - ELSEWHERE <= keys


def test_a_tower_for_other_pictures_and_quantized_weights_are_refused(tmp_path: Path) -> None:
    folder = write_onevision(tmp_path / "onevision")
    vision = read_vlm(folder).vision.tower
    edit_config(folder, vision_config=vision | {"num_channels": 1})
    with pytest.raises(UnsupportedModelError, match="tower for 1 channels"):
        read_vlm(folder)
    edit_config(folder, quantization_config={"quant_method": "bitsandbytes"})
    with pytest.raises(UnsupportedModelError, match="quantization_config"):
        read_vlm(folder)
