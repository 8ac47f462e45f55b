"""Synthetic bundles of the families that people have: towers, tiles and turns."""

from math import prod
from pathlib import Path
from typing import Any

import gguf
import msgspec
import numpy as np
import pytest
import torch
from tiny.float_graph import float_graph, run
from tiny.shapes import IDEFICS3, INTERNVL
from transformers import Idefics3Config, Idefics3Model, InternVLConfig, InternVLModel

import edge_et
from edge_et.benchmarks.picture import draw_picture
from edge_et.benchmarks.synthetic.random_gguf import tensors_of
from edge_et.benchmarks.synthetic.random_tower import CLASS_TOKEN, new_tower
from edge_et.benchmarks.synthetic.shapes import SHAPES, BundleShape, TowerShape
from edge_et.benchmarks.synthetic.synthetic_bundle import synthetic_bundle
from edge_et.bundle import Bundle
from edge_et.export.numeric_comparison import row_cosines
from edge_et.image import plan_image
from edge_et.llm import Tokenizer

TINY = {shape.name: shape for shape in (IDEFICS3, INTERNVL)}

_TEXT = {"hidden_size": 64, "num_hidden_layers": 1, "intermediate_size": 8, "vocab_size": 8}
_TEXT |= {"num_attention_heads": 2, "num_key_value_heads": 1}
_NAMES = {
    "idefics3": {
        "v.patch_embd": "vision_model.embeddings.patch_embedding",
        "v.position_embd": "vision_model.embeddings.position_embedding",
        "v.blk": "vision_model.encoder.layers",
        "v.post_ln": "vision_model.post_layernorm",
        "mm.model.fc": "connector.modality_projection.proj",
        "attn_q": "self_attn.q_proj",
        "attn_k": "self_attn.k_proj",
        "attn_v": "self_attn.v_proj",
        "attn_out": "self_attn.out_proj",
        "ln1": "layer_norm1",
        "ln2": "layer_norm2",
    },
    "internvl": {
        "v.patch_embd": "vision_tower.embeddings.patch_embeddings.projection",
        "v.position_embd.weight": "vision_tower.embeddings.position_embeddings",
        CLASS_TOKEN: "vision_tower.embeddings.cls_token",
        "v.blk": "vision_tower.encoder.layer",
        "mm.model.mlp.0": "multi_modal_projector.layer_norm",
        "mm.model.mlp.1": "multi_modal_projector.linear_1",
        "mm.model.mlp.3": "multi_modal_projector.linear_2",
        "attn_q": "attention.q_proj",
        "attn_k": "attention.k_proj",
        "attn_v": "attention.v_proj",
        "attn_out": "attention.projection_layer",
        "ln1": "layernorm_before",
        "ln2": "layernorm_after",
        "ls1.weight": "lambda_1",
        "ls2.weight": "lambda_2",
    },
}
_FEED_FORWARD = {"ffn_up": "mlp.fc1", "ffn_down": "mlp.fc2"}


@pytest.fixture(scope="module", params=TINY)
def made(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[BundleShape, Bundle]:
    shape = TINY[request.param]
    return shape, synthetic_bundle(shape, tmp_path_factory.mktemp("synthetic"))


def reference(shape: TowerShape, llm_width: int) -> Any:
    """Return transformers' model with the numbers of a shape's graph."""
    side, patch = shape.image, shape.patch
    vision: dict[str, Any] = {
        "hidden_size": shape.width,
        "intermediate_size": shape.feed_forward,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
    }
    if shape.projector == "idefics3":
        vision |= {"image_size": side, "patch_size": patch}
        text = {"model_type": "llama", **_TEXT}
        factor = {"scale_factor": shape.shuffle}
        model: Any = Idefics3Model(Idefics3Config(vision_config=vision, text_config=text, **factor))
    else:
        vision |= {"image_size": [side] * 2, "patch_size": [patch] * 2, "attention_bias": True}
        text = {"model_type": "qwen2", **_TEXT}
        factor = {"downsample_ratio": 1 / shape.shuffle}
        model = InternVLModel(InternVLConfig(vision_config=vision, text_config=text, **factor))
    state = model.state_dict()
    left = {name for name in state if not name.startswith(("language_model", "text_model"))}
    drawn = {
        constant.name: constant.values()
        for constant in new_tower(shape, llm_width, seed=1).constants
    }
    for name, values in drawn.items():
        if not name.endswith((".weight", ".bias", CLASS_TOKEN)):
            continue
        stored = name
        for old, new in (_NAMES[shape.projector] | _FEED_FORWARD).items():
            stored = stored.replace(old, new)
        if values.dtype == np.int8:
            values = (values * drawn[name.replace(".weight", ".scale")]).T
        if stored.endswith("position_embeddings"):
            values = np.roll(values, 1, axis=0)  # the class token is the first one there
        target = state[stored]
        target.copy_(torch.from_numpy(np.ascontiguousarray(values)).reshape(target.shape))
        left.remove(stored)
    assert left == set()
    return model.eval()


def test_the_graph_computes_what_transformers_does(made: tuple[BundleShape, Bundle]):
    shape, bundle = made
    tower = shape.tower
    pixels = np.random.default_rng(3).standard_normal((2, 3, tower.image, tower.image), np.float32)
    model = reference(tower, shape.perceiver.width)
    batch = torch.from_numpy(pixels)
    with torch.no_grad():
        found = model.get_image_features(batch[None] if tower.projector == "idefics3" else batch)
    shapes = 2, tower.image_tokens, shape.perceiver.width
    expected = torch.cat(list(found.pooler_output)).reshape(shapes).numpy()
    computed = run(float_graph(bundle).SerializeToString(), pixels)
    np.testing.assert_allclose(computed, expected, atol=1e-4)
    stored = run(str(bundle.path(bundle.manifest.vision.graph)), pixels)
    width = shape.perceiver.width
    assert row_cosines(stored.reshape(-1, width), expected.reshape(-1, width)).min() > 0.998


def test_it_is_a_bundle_that_can_be_asked(made: tuple[BundleShape, Bundle]):
    shape, bundle = made
    bundle.verify()
    picture = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    with edge_et.load(bundle.folder, threads=1) as pipe:
        tokens = pipe.encode_image(picture)
        answer = pipe.answer(tokens, "What is it?", max_extraction_tokens=4)
    # A grid of 4 x 3 and the whole picture; SmolVLM's marks are two before and one behind each
    # tile but for the last line feeds, which are one token.
    marks = {"idefics3": 12 * 2 + 3 + 3, "internvl": 0}[shape.name]
    assert len(tokens.rows) == 13 * 4 + marks
    assert 0.1 < float(tokens.rows.std()) < 10
    assert answer.usage["extract"].evaluated_tokens > len(tokens.rows)


def test_its_marks_are_tokens(made: tuple[BundleShape, Bundle]):
    shape, bundle = made
    manifest = bundle.manifest
    tokenizer = Tokenizer(bundle.path(manifest.perceiver.tokenizer))
    markup = manifest.vision.markup
    for mark in ("<img>", "</img>") if markup is None else markup.tokens:
        text = "\n" not in mark
        found = [tokenizer.special_id(mark)] if text else tokenizer.encode(mark)
        assert len(found) == 1
        assert found[0] is not None
    assert tokenizer.size <= shape.perceiver.rows


def test_an_output_matrix_of_its_own_is_stored(made: tuple[BundleShape, Bundle]):
    reader = gguf.GGUFReader(made[1].path(made[1].manifest.perceiver.weights))
    stored = {tensor.name: tensor for tensor in reader.tensors}
    output = stored["output.weight"]
    assert output.tensor_type == gguf.GGMLQuantizationType.Q8_0
    assert output.data.reshape(-1, 34)[:, 2:].view(np.int8).min() == -127
    assert stored["token_embd.weight"].tensor_type == gguf.GGMLQuantizationType.Q4_0


@pytest.mark.parametrize(
    ("name", "parameters", "tile", "picture"),
    [
        ("smolvlm2-256m", 256_484_928, 64, 862),
        ("smolvlm2-500m", 507_482_304, 64, 862),
        ("smolvlm2-2.2b", 2_246_784_880, 81, 1083),
        ("internvl3.5-1b", 1_060_897_792, 256, 768),
    ],
)
def test_dimensions_are_the_true_ones(
    name: str, parameters: int, tile: int, picture: int, tmp_path: Path
):
    """The checkpoints have exactly as many parameters; the hub tells them on each model's page."""
    shape = SHAPES[name]
    graph = new_tower(shape.tower, shape.perceiver.width, seed=1)
    vision = [
        constant.shape
        for constant in graph.constants
        if constant.name.endswith((".weight", ".bias", CLASS_TOKEN))
    ]
    text = [tensor.shape for tensor in tensors_of(shape.perceiver)]
    assert sum(prod(sizes) for sizes in (*vision, *text)) == parameters
    assert shape.tower.image_tokens == tile
    tiny = synthetic_bundle(TINY[shape.tower.projector], tmp_path).manifest.vision
    size = {"height": shape.tower.image, "width": shape.tower.image}
    processing = msgspec.structs.replace(tiny.processing, **size)
    spec = msgspec.structs.replace(tiny, image_tokens_per_tile=tile, processing=processing)
    assert plan_image(spec, shape.picture).image_tokens == picture


@pytest.mark.slow
def test_a_bundle_of_true_dimensions_answers(tmp_path: Path):
    bundle = synthetic_bundle(SHAPES["smolvlm2-256m"], tmp_path)
    picture = draw_picture(tmp_path / "picture.png")
    with edge_et.load(bundle.folder) as pipe:
        answer = pipe.answer(picture, "What is in the middle?", max_extraction_tokens=8)
        again = pipe.answer(picture, "Which colours are there?", max_extraction_tokens=8)
    assert answer.usage["vision"].evaluated_tokens == 862
    assert again.usage["extract"].reused_tokens >= 862
