"""Synthetic bundles of Qwen3.5: tiles of many sizes, and a language model with a state."""

from math import prod
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny.float_graph import float_graph, run
from tiny.shapes import QWEN3_5

import edge_et
from edge_et.benchmarks.picture import draw_picture
from edge_et.benchmarks.synthetic.qwen_tower import new_qwen_tower
from edge_et.benchmarks.synthetic.random_gguf import tensors_of
from edge_et.benchmarks.synthetic.random_tower import tower_bytes
from edge_et.benchmarks.synthetic.shapes import SHAPES, TowerShape
from edge_et.benchmarks.synthetic.synthetic_bundle import synthetic_bundle
from edge_et.bundle import Bundle
from edge_et.export.numeric_comparison import row_cosines
from edge_et.export.vision.projector import PixelShuffleProjector
from edge_et.export.vision.qwen_vit import QwenBlocks
from edge_et.export.vision.torch_tower import TowerWithProjector
from edge_et.llm import read_shape

TOWER, WIDTH = QWEN3_5.tower, QWEN3_5.perceiver.width
NAMES = {
    "v.patch_embd": "backbone.patch_embed.proj",
    "v.position_embd": "backbone.pos_embed",
    "v.post_ln": "backbone.norm",
    "v.blk": "backbone.blocks",
    "attn_qkv": "attn.qkv",
    "attn_out": "attn.proj",
    "ln1": "norm1",
    "ln2": "norm2",
    "ffn_up": "mlp.linear_fc1",
    "ffn_down": "mlp.linear_fc2",
    "mm.0": "projector.expand",
    "mm.2": "projector.project",
}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return synthetic_bundle(QWEN3_5, tmp_path_factory.mktemp("synthetic"))


def new_reference(shape: TowerShape) -> TowerWithProjector:
    settings = {
        "hidden_size": shape.width,
        "num_heads": shape.heads,
        "depth": shape.layers,
        "intermediate_size": shape.feed_forward,
        "hidden_act": "gelu_pytorch_tanh",
        "patch_size": shape.patch,
        "temporal_patch_size": 1,
        "spatial_merge_size": shape.shuffle,
        "num_position_embeddings": shape.positions_side**2,
        "rope_theta": 10_000.0,
    }
    backbone = QwenBlocks(settings, shape.image)
    backbone.patch_embed.fold()
    inner = shape.shuffle**2 * shape.width
    projector = PixelShuffleProjector(inner, 1, hidden=inner, llm_width=WIDTH, norm=False)
    tower = TowerWithProjector(backbone, projector).eval()
    drawn = {each.name: each.values() for each in new_qwen_tower(shape, WIDTH, seed=1).constants}
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
    for height, width in ((64, 64), (8, 8), (24, 40), (16, 128)):
        pixels = random.standard_normal((1, 3, height, width), np.float32)
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
    assert tokens.grid == (12, 20)  # nearest to 12.5 and 20.5 are the even numbers
    assert 0.1 < float(tokens.rows.std()) < 10
    assert answer.usage["extract"].evaluated_tokens > len(tokens.rows)
    assert again.usage["extract"].reused_tokens >= len(tokens.rows)
    shape = read_shape(bundle.path(bundle.manifest.perceiver.weights))
    assert (shape.layers, shape.width, shape.key_width) == (4, WIDTH, 32)
    assert shape.state_bytes == 3 * 4 * (3 * (2 * 64 + 128) + 128 * 32)


@pytest.mark.parametrize(
    ("name", "eyes", "llm"),
    [
        ("qwen3.5-0.8b", 100_003_072, 752_393_024),
        ("qwen3.5-2b", 330_630_144, 1_881_825_088),
    ],
)
def test_dimensions_are_the_true_ones(name: str, eyes: int, llm: int):
    """With a second frame's convolution and draft layers, the 0.87 and 2.27 billion published."""
    shape = SHAPES[name]
    graph = new_qwen_tower(shape.tower, shape.perceiver.width, seed=1)
    vision = [
        constant for constant in graph.constants if constant.name.endswith((".weight", ".bias"))
    ]
    assert sum(prod(constant.shape) for constant in vision) == eyes
    assert sum(prod(tensor.shape) for tensor in tensors_of(shape.perceiver)) == llm
    stored = sum(constant.size_bytes for constant in graph.constants)
    assert stored == pytest.approx(tower_bytes(shape.tower, shape.perceiver.width), rel=0.1)


@pytest.mark.slow
def test_a_bundle_of_true_dimensions_answers(tmp_path: Path):
    bundle = synthetic_bundle(SHAPES["qwen3.5-0.8b"], tmp_path)
    picture = draw_picture(tmp_path / "picture.png")
    with edge_et.load(bundle.folder) as pipe:
        answer = pipe.answer(picture, "What is in the middle?", max_extraction_tokens=8)
        again = pipe.answer(picture, "Which colours are there?", max_extraction_tokens=8)
    assert answer.usage["vision"].evaluated_tokens == 20 * 15
    assert again.usage["extract"].reused_tokens >= 20 * 15
