"""InternVL, in both layouts, held to what transformers computes of the same random checkpoint."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tiny.internvl import (
    MOST,
    SYSTEM,
    TILE,
    TOKENS,
    Kind,
    Reference,
    write_internvl,
    write_original,
)
from tiny.vlm import Tensors, edit_config, edit_tensors

from edge_et.export.building.vlm_checkpoint import check_prompt_tokens, load_tower, read_vlm
from edge_et.export.errors import (
    LeftoverTensorError,
    MissingTensorError,
    TensorShapeError,
    UnreadableCheckpointError,
    UnsupportedModelError,
    VocabularyError,
)
from edge_et.export.vision.export_tower import MAX_TOKEN_ERROR

EMBEDDINGS = "language_model.model.embed_tokens.weight"
HEAD = "language_model.lm_head.weight"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_internvl(tmp_path / "checkpoint")


@pytest.fixture
def original(folder: Path) -> Path:
    return write_original(folder.parent / "original", folder)


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("qwen2", {}),
        ("qwen3", {"use_qk_norm": True, "norm_type": "rms_norm", "attention_bias": False}),
        ("qwen2", {"ratio": 0.25, "hidden_act": "gelu_pytorch_tanh", "layer_norm_eps": 1e-3}),
    ],
)
def test_image_tokens_and_marks(tmp_path: Path, kind: Kind, settings: dict[str, Any]) -> None:
    folder = write_internvl(tmp_path / "checkpoint", kind, **settings)
    reference = Reference(folder)
    pixels = torch.randn(3, 3, TILE, TILE, generator=torch.Generator().manual_seed(5))
    expected = reference.image_tokens(pixels)
    table = load_file(folder / "model.safetensors")[EMBEDDINGS]
    for each in (folder, write_original(tmp_path / "original", folder)):
        model = read_vlm(each)
        with torch.inference_mode():
            tokens, markup = load_tower(model)(pixels)
        assert tokens.shape == expected.shape == (3, model.vision.image_tokens_per_tile, 64)
        assert np.abs(tokens.numpy() - expected).max() < MAX_TOKEN_ERROR
        assert model.vision.markup is not None
        ids = reference.processor.tokenizer.convert_tokens_to_ids(["<img>", "</img>"])
        assert list(model.vision.markup.ids) == ids
        assert torch.equal(markup, table[ids])


def test_facts_for_the_manifest(folder: Path, original: Path) -> None:
    models = read_vlm(folder), read_vlm(original)
    for model in models:
        tiling = model.vision.processing.tiling
        assert tiling is not None
        assert (tiling.rule, tiling.whole) == ("ratio", "last")
        assert {columns * rows for columns, rows in tiling.grids} == set(range(1, MOST + 1))
        assert (model.vision.processing.resample, model.vision.processing.fit) == (
            "bicubic",
            "squash",
        )
        assert (model.vision.processing.height, model.vision.image_tokens_per_tile) == (
            TILE,
            TOKENS,
        )
        assert (model.chat_format.image_prefix, model.chat_format.text_prefix) == ("{image}\n", "")
        assert model.chat_format.chat.stop_tokens == ("<|im_end|>",)
        assert check_prompt_tokens(model, "{image}\nLook at {hint}.").error == 0
    assert models[0].vision.processing == models[1].vision.processing
    assert models[0].language_model == models[1].language_model
    assert [model.chat_format.chat.system for model in models] == [None, SYSTEM]


def test_names_of_the_modules(folder: Path) -> None:
    """As transformers 4.52 saved them, and as the modules of transformers are called."""
    expected = read_vlm(folder)

    def rename(tensors: Tensors) -> None:
        for name in list(tensors):
            module = name.removeprefix("language_model.lm_head.")
            newer = f"lm_head.{module}" if module != name else f"model.{name}"
            tensors[newer.replace("language_model.model.", "language_model.")] = tensors.pop(name)

    edit_tensors(folder, rename)
    assert "model.language_model.norm.weight" in load_file(folder / "model.safetensors")
    found = read_vlm(folder)
    assert (found.vision, found.language_model) == (expected.vision, expected.language_model)


def test_tied_as_the_config_says(tmp_path: Path) -> None:
    folder = write_internvl(tmp_path / "c", tied=True)
    assert HEAD not in load_file(folder / "model.safetensors")
    assert read_vlm(folder).language_model.tie_word_embeddings


@pytest.mark.parametrize("differs", [True, False])
def test_a_table_of_its_own_counts_where_no_config_tells_it(folder: Path, *, differs: bool) -> None:
    """As configs of transformers 4, where false is no key; 5 then ties only what is equal."""
    edit_config(folder, tie_word_embeddings=None)
    if not differs:
        edit_tensors(folder, lambda t: t.update({HEAD: t[EMBEDDINGS].clone()}))
    expected = Reference(folder).model
    assert read_vlm(folder).language_model.tie_word_embeddings is not differs
    same = torch.equal(expected.lm_head.weight, expected.get_input_embeddings().weight)
    assert same is not differs


@pytest.mark.parametrize(
    ("file", "changes", "match"),
    [
        ("config.json", {"downsample_ratio": 0.3}, "downsample_ratio 0.3.*4 x 4 patches"),
        ("config.json", {"downsample_ratio": 0.125}, "downsample_ratio 0.125"),
        ("config.json", {"downsample_ratio": 0}, "downsample_ratio 0"),
        ("config.json", {"vision_feature_layer": -2}, "vision_feature_layer -2"),
        ("config.json", {"vision_feature_layer": [-1, -2]}, "vision_feature_layer"),
        ("config.json", {"vision_feature_select_strategy": "full"}, "select_strategy 'full'"),
        ("config.json", {"projector_hidden_act": "relu"}, "projector_hidden_act 'relu'"),
        ("preprocessor_config.json", {"do_normalize": False}, "normalizing"),
        ("preprocessor_config.json", {"resample": 1}, "resample 1"),
        ("preprocessor_config.json", {"size": {"height": 32, "width": 64}}, "tower takes 32"),
        ("preprocessor_config.json", {"min_patches": 9}, "9 tiles or more and 6 or less"),
        ("preprocessor_config.json", {"image_processor_type": "X"}, "known: GotOcr2ImageProc"),
        ("processor_config.json", {"image_seq_length": 256}, "image_seq_length 256.*4 image to"),
    ],
)
def test_settings_that_would_be_lost(
    folder: Path, file: str, changes: dict[str, Any], match: str
) -> None:
    edit_config(folder, file, **changes)
    with pytest.raises(UnsupportedModelError, match=match):
        read_vlm(folder)


@pytest.mark.parametrize(
    ("part", "changes", "error", "match"),
    [
        ("text_config", {"model_type": "llama"}, UnsupportedModelError, "'llama'.*known: qwen2, q"),
        ("vision_config", {"num_channels": 1}, UnsupportedModelError, "tower for 1 channels"),
        ("vision_config", {"use_mask_token": True}, UnsupportedModelError, "use_mask_token"),
        ("vision_config", {"use_mean_pooling": False}, UnsupportedModelError, "use_mean_pooling"),
        (
            "vision_config",
            {"use_absolute_position_embeddings": False},
            UnsupportedModelError,
            "use_absolute_position_embeddings",
        ),
        ("vision_config", {"image_size": [32, 64]}, UnsupportedModelError, r"\[32, 64\] pixels"),
        ("vision_config", {"image_size": "x"}, UnreadableCheckpointError, "image_size"),
        ("vision_config", {"norm_type": "x"}, UnreadableCheckpointError, "no InternViT"),
        ("vision_config", {"use_qk_norm": True}, MissingTensorError, "q_norm"),
        ("vision_config", {"intermediate_size": 65}, TensorShapeError, "fc1"),
    ],
)
def test_settings_of_a_part(
    folder: Path, part: str, changes: dict[str, Any], error: type[Exception], match: str
) -> None:
    content = json.loads((folder / "config.json").read_text())
    edit_config(folder, **{part: content[part] | changes})
    with pytest.raises(error, match=match):
        read_vlm(folder)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"select_layer": -4}, "select_layer -4; known: -1"),
        ({"ps_version": "v1"}, "ps_version 'v1'; known: v2"),
        ({"ps_version": None}, "ps_version 'v1'; known: v2"),
        ({"downsample_ratio": 0.3}, "downsample_ratio 0.3"),
        ({"force_image_size": 64}, "force_image_size 64.*takes 32"),
        ({"dynamic_image_size": False}, "dynamic_image_size"),
        ({"use_thumbnail": None}, "use_thumbnail"),
        ({"pad2square": True}, "pad2square"),
        ({"use_llm_lora": 16}, "use_llm_lora"),
        ({"use_backbone_lora": 16}, "use_backbone_lora"),
        ({"system_message": "Be brief."}, "another system_message"),
        ({"template": "Hermes-2"}, "'Hermes-2'.*known: internvl2_5"),
        ({"llm_config": {"model_type": "internlm2"}}, "'internlm2'.*known: qwen2, qwen3"),
    ],
)
def test_settings_of_the_original_that_would_be_lost(
    original: Path, changes: dict[str, Any], match: str
) -> None:
    edit_config(original, **changes)
    with pytest.raises(UnsupportedModelError, match=match):
        read_vlm(original)


def test_norms_of_queries_that_transformers_computes_otherwise(tmp_path: Path) -> None:
    folder = write_internvl(tmp_path / "c", use_qk_norm=True, layer_norm_eps=1e-5)
    read_vlm(folder)
    with pytest.raises(UnsupportedModelError, match="qk_normalization with layer_norm_eps 1e-05"):
        read_vlm(write_original(tmp_path / "original", folder))


def test_what_published_configs_hold_besides(folder: Path, original: Path) -> None:
    """Keys that no model reads, and one that InternVL's processor overrules."""
    edit_config(folder, "preprocessor_config.json", crop_to_patches=False)
    besides = {"use_bfloat16": True, "moe_config": None, "attn_implementation": "eager"}
    for each, part in ((folder, "text_config"), (original, "llm_config")):
        expected = read_vlm(each)
        content = json.loads((each / "config.json").read_text())
        vision = content["vision_config"] | {"moe_coeff_ratio": 0.5, "initializer_factor": 0.1}
        edit_config(each, **{part: content[part] | besides}, vision_config=vision, hidden_size=1)
        found = read_vlm(each)
        assert (found.vision, found.llm.config) == (expected.vision, expected.llm.config)


def test_a_checkpoint_that_transformers_5_saved_whole(folder: Path) -> None:
    expected = read_vlm(folder)
    alone = folder / "preprocessor_config.json"
    inner = json.loads(alone.read_text())
    alone.unlink()
    edit_config(folder, "processor_config.json", image_processor=inner)
    assert read_vlm(folder).vision.processing == expected.vision.processing


def test_tensors_of_nobody_and_none(folder: Path, original: Path) -> None:
    for each, name in (
        (folder, "vision_tower.encoder.layer.1.attention.k_proj.bias"),
        (original, "vision_model.encoder.layers.1.attn.qkv.bias"),
    ):
        edit_tensors(each, lambda t: t.update({"mlp2.x": torch.zeros(2)}))
        with pytest.raises(LeftoverTensorError, match=r"mlp2\.x"):
            read_vlm(each)
        edit_tensors(each, lambda t, name=name: [t.pop("mlp2.x"), t.pop(name)])
        with pytest.raises(MissingTensorError, match=r"attention\..+bias"):
            read_vlm(each)


@pytest.mark.parametrize("size", [[], [TILE], [TILE, TILE, TILE], [TILE, 2 * TILE]])
def test_a_size_that_is_no_square(folder: Path, size: list[int]) -> None:
    tower = json.loads((folder / "config.json").read_text())["vision_config"]
    edit_config(folder, vision_config=tower | {"image_size": size})
    with pytest.raises(UnsupportedModelError, match=r"tiles or patches of \["):
        read_vlm(folder)


@pytest.mark.parametrize("name", ["start_image_token", "end_image_token", "context_image_token"])
@pytest.mark.parametrize("inside", [True, False])
def test_marks_that_the_tokenizer_names_otherwise(folder: Path, name: str, inside: bool) -> None:
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text())
    settings.pop(name, None)
    named = dict(settings.get("extra_special_tokens") or {})
    named.pop(name, None)
    other = {"extra_special_tokens": named | {name: "<pic>"}} if inside else {name: "<pic>"}
    path.write_text(json.dumps(settings | {"extra_special_tokens": named} | other))
    with pytest.raises(UnsupportedModelError, match=f"asks for {name} '<pic>'; known: <"):
        read_vlm(folder)


@pytest.mark.parametrize("mark", ["<img>", "</img>"])
def test_a_tokenizer_without_a_mark(folder: Path, mark: str) -> None:
    path = folder / "tokenizer.json"
    path.write_text(path.read_text().replace(f'"{mark}"', '"<other>"'))
    with pytest.raises(VocabularyError, match=f"no token {mark}"):
        read_vlm(folder)


@pytest.mark.parametrize(
    "change",
    [
        ("<IMG_CONTEXT>\\n", "<IMG_CONTEXT>"),
        ("assistant\\n", "assistant"),
        ("'<|im_start|>'", "'S'"),
    ],
)
def test_a_template_that_writes_other_turns(folder: Path, change: tuple[str, str]) -> None:
    path = folder / "chat_template.jinja"
    text = path.read_text()
    assert change[0] in text
    path.write_text(text.replace(*change))
    with pytest.raises(VocabularyError, match="is not understood"):
        read_vlm(folder)
