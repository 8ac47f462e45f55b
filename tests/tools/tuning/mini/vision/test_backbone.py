"""The mini model's parts: tower and tokenizer."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from edge_et.errors import AssetError, TuningError
from edge_et.export.vision.torch_tower import Dinov2Patches
from edge_et.tuning.mini.assets.icons import IconLibrary
from edge_et.tuning.mini.language_model import build_tokenizer, find_llm
from edge_et.tuning.mini.vision.backbone import TOWER_PIXELS, find_tower_graph, load_tower


def test_the_tower_is_the_backbone_of_the_graph(tmp_path: Path):
    import onnxruntime

    model = onnx.load(find_tower_graph())
    normalised = next(
        node.output[0] for node in reversed(model.graph.node) if "/backbone/layernorm" in node.name
    )
    model.graph.output.append(onnx.helper.make_empty_tensor_value_info(normalised))
    onnx.save(model, tmp_path / "graph.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "graph.onnx")
    pixels = np.random.default_rng(0).standard_normal((1, 3, 224, 224), dtype=np.float32)
    (expected,) = session.run([normalised], {"input_image": pixels})
    with torch.no_grad():
        tower = Dinov2Patches(load_tower(find_tower_graph()), TOWER_PIXELS)
        found = tower(torch.from_numpy(pixels)).numpy()
    assert found.shape == (1, 256, 384)
    np.testing.assert_allclose(found, expected[:, 1:], atol=2e-3)


def test_another_graph_is_refused(tmp_path: Path):
    model = onnx.load(find_tower_graph())
    del model.graph.initializer[5]
    onnx.save(model, tmp_path / "graph.onnx")
    with pytest.raises(TuningError, match="DINOv2-small"):
        load_tower(tmp_path / "graph.onnx")


def test_the_tokenizer_splits_as_llama_cpp_does():
    from llama_cpp import Llama

    tokenizer = build_tokenizer(find_llm())
    reference = Llama(str(find_llm()), vocab_only=True, verbose=False)
    for text in (
        " dog",
        "What is at 123 the top-left?\n\n  Hi there\u2019s",
        "naïve 日本 12.5%",
        "<|im_start|>user\nHello<|im_end|>\n",
    ):
        expected = reference.tokenize(text.encode(), add_bos=False, special=True)
        assert tokenizer.encode(text).ids == expected


def test_an_unknown_style_is_told_apart_from_the_known(tmp_path: Path):
    with pytest.raises(AssetError, match=r"'oil'.*noto"):
        IconLibrary("oil", tmp_path)
