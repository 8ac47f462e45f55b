"""Synthetic bundles of LFM2-VL: grids and tiles of many sizes, and short convolutions."""

from math import prod
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from tiny.float_graph import float_graph, run
from tiny.shapes import LFM2_VL
from transformers import Siglip2VisionConfig, Siglip2VisionModel

import edge_et
from edge_et.benchmarks.picture import draw_picture
from edge_et.benchmarks.synthetic.random_gguf import tensors_of
from edge_et.benchmarks.synthetic.random_tower import tower_bytes
from edge_et.benchmarks.synthetic.shapes import SHAPES, TowerShape
from edge_et.benchmarks.synthetic.siglip2_tower import new_siglip2_tower
from edge_et.benchmarks.synthetic.synthetic_bundle import synthetic_bundle
from edge_et.bundle import Bundle
from edge_et.export.numeric_comparison import row_cosines
from edge_et.export.vision.projector import PixelShuffleProjector
from edge_et.export.vision.siglip2 import Siglip2Blocks
from edge_et.export.vision.torch_tower import TowerWithProjector
from edge_et.image import plan_image
from edge_et.llm import Tokenizer, read_shape

TOWER, WIDTH = LFM2_VL.tower, LFM2_VL.perceiver.width
NAMES = {
    "v.patch_embd": "backbone.patch_projection",
    "v.position_embd.weight": "backbone.positions",
    "v.post_ln": "backbone.norm",
    "v.blk": "backbone.layers",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_out": "self_attn.out_proj",
    "ln1": "layer_norm1",
    "ln2": "layer_norm2",
    "ffn_up": "mlp.fc1",
    "ffn_down": "mlp.fc2",
    "mm.1": "projector.expand",
    "mm.2": "projector.project",
}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return synthetic_bundle(LFM2_VL, tmp_path_factory.mktemp("synthetic"))


def new_reference(shape: TowerShape) -> TowerWithProjector:
    config = Siglip2VisionConfig(
        hidden_size=shape.width,
        intermediate_size=shape.feed_forward,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_patches=shape.positions_side**2,
        patch_size=shape.patch,
        vision_use_head=False,
    )
    backbone = Siglip2Blocks(Siglip2VisionModel(config).eval(), shape.image, shape.shuffle)
    inner = shape.shuffle**2 * shape.width
    projector = PixelShuffleProjector(
        inner, 1, hidden=shape.projector_width, llm_width=WIDTH, norm=False
    )
    tower = TowerWithProjector(backbone, projector).eval()
    drawn = {each.name: each.values() for each in new_siglip2_tower(shape, WIDTH, seed=1).constants}
    state = tower.state_dict()
    left = set(state)
    for name, values in drawn.items():
        if not name.endswith((".weight", ".bias")):
            continue
        stored = name
        for old, new in NAMES.items():
            stored = stored.replace(old, new)
        if values.dtype == np.int8:
            values = (values * drawn[name.replace(".weight", ".scale")]).T
        target = state[stored]
        target.copy_(torch.from_numpy(np.ascontiguousarray(values)).reshape(target.shape))
        left.remove(stored)
    assert left == set()
    return tower


def test_the_graph_computes_what_the_exported_tower_does(bundle: Bundle):
    reference, random = new_reference(TOWER), np.random.default_rng(3)
    floats = float_graph(bundle).SerializeToString()
    for count, height, width in ((2, 64, 64), (1, 8, 8), (1, 24, 40), (1, 16, 128)):
        pixels = random.standard_normal((count, 3, height, width), np.float32)
        with torch.inference_mode():
            expected = reference(torch.from_numpy(pixels)).numpy()
        np.testing.assert_allclose(run(floats, pixels), expected, atol=1e-4)
        stored = run(str(bundle.path(bundle.manifest.vision.graph)), pixels)
        assert row_cosines(stored[0], expected[0]).min() > 0.99


def test_it_is_a_bundle_that_can_be_asked(bundle: Bundle):
    bundle.verify()
    picture = np.random.default_rng(0).integers(0, 256, (100, 164, 3), np.uint8)
    with edge_et.load(bundle.folder, threads=1) as pipe:
        tokens = pipe.encode_image(picture)
        answer = pipe.answer(tokens, "What is it?", max_extraction_tokens=4)
        again = pipe.answer(tokens, "Is it red?", max_extraction_tokens=4)
    # Nearest to 12.5 and 20.5 are the even numbers; a mark stands before them and one behind.
    assert len(tokens.rows) == 12 * 20 + 2
    assert 0.1 < float(tokens.rows.std()) < 10
    assert answer.usage["extract"].evaluated_tokens > len(tokens.rows)
    assert again.usage["extract"].reused_tokens >= len(tokens.rows)
    shape = read_shape(bundle.path(bundle.manifest.perceiver.weights))
    assert (shape.layers, shape.width, shape.heads, shape.kv_heads) == (4, WIDTH, 2, 1)
    assert (shape.key_width, shape.feed_forward) == (32, 96)
    assert shape.state_bytes == 2 * 4 * 2 * WIDTH  # two convolutions remember two positions each


def test_a_large_picture_has_a_grid_between_marks(bundle: Bundle):
    picture = np.random.default_rng(0).integers(0, 256, (600, 1200, 3), np.uint8)
    with edge_et.load(bundle.folder, threads=1) as pipe:
        tokens = pipe.encode_image(picture)
    # A grid of 4 x 2, the largest of its shape, and all of the picture in 11 x 22 blocks; a mark
    # stands before each tile, and two around all.
    assert len(tokens.rows) == 8 * 64 + 11 * 22 + 9 + 2


def test_its_marks_are_tokens(bundle: Bundle):
    tokenizer = Tokenizer(bundle.path(bundle.manifest.perceiver.tokenizer))
    markup = bundle.manifest.vision.markup
    assert markup is not None
    marks = (*markup.tokens, bundle.manifest.perceiver.chat.start)
    assert None not in [tokenizer.special_id(mark) for mark in marks]
    assert tokenizer.size <= LFM2_VL.perceiver.rows


@pytest.mark.parametrize("name", ["lfm2-vl-450m", "lfm2.5-vl-450m"])
def test_dimensions_are_the_true_ones(name: str, bundle: Bundle):
    """The tower with its projector, and LFM2-350M, have as many parameters as the published."""
    shape = SHAPES[name]
    graph = new_siglip2_tower(shape.tower, shape.perceiver.width, seed=1)
    vision = [
        constant for constant in graph.constants if constant.name.endswith((".weight", ".bias"))
    ]
    assert sum(prod(constant.shape) for constant in vision) == 94_234_880
    assert sum(prod(tensor.shape) for tensor in tensors_of(shape.perceiver)) == 354_483_968
    stored = sum(constant.size_bytes for constant in graph.constants)
    assert stored == pytest.approx(tower_bytes(shape.tower, shape.perceiver.width), rel=0.1)
    tiny = bundle.manifest.vision
    assert tiny.processing.whole_size is not None
    processing = msgspec.structs.replace(
        tiny.processing,
        height=512,
        width=512,
        whole_size=msgspec.structs.replace(tiny.processing.whole_size, block=32),
    )
    spec = msgspec.structs.replace(
        tiny, image_tokens_per_tile=shape.tower.image_tokens, processing=processing
    )
    assert plan_image(spec, shape.picture).image_tokens == 18 * 13 + 2
    assert plan_image(spec, (1024, 1024)).image_tokens == 4 * 256 + 256 + 5 + 2


@pytest.mark.slow
def test_a_bundle_of_true_dimensions_answers(tmp_path: Path):
    bundle = synthetic_bundle(SHAPES["lfm2-vl-450m"], tmp_path)
    picture = draw_picture(tmp_path / "picture.png")
    with edge_et.load(bundle.folder) as pipe:
        answer = pipe.answer(picture, "What is in the middle?", max_extraction_tokens=8)
        again = pipe.answer(picture, "Which colours are there?", max_extraction_tokens=8)
    assert answer.usage["vision"].evaluated_tokens == 18 * 13 + 2
    assert again.usage["extract"].reused_tokens >= 18 * 13 + 2
