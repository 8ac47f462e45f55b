"""Synthetic bundles: the code of the large ones, with a miniature's dimensions."""

import json
import shutil
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper
from tiny.shapes import TOWER

import edge_et
from edge_et.benchmarks import latency
from edge_et.benchmarks.document import Bounds
from edge_et.benchmarks.latency import run_latency
from edge_et.benchmarks.rivals.conversation import find_mmproj
from edge_et.benchmarks.synthetic.mmproj import write_mmproj
from edge_et.benchmarks.synthetic.random_gguf import Tensor, tensors_of
from edge_et.benchmarks.synthetic.random_tower import tower_bytes
from edge_et.benchmarks.synthetic.shapes import SHAPES, BundleShape, LlmShape
from edge_et.benchmarks.synthetic.synthetic_bundle import (
    default_folder,
    size_bytes,
    synthetic_bundle,
)
from edge_et.benchmarks.synthetic.synthetic_tokenizer import SPECIAL, new_tokenizer, write_tokenizer
from edge_et.bundle import Bundle
from edge_et.errors import BenchError
from edge_et.export.steps import no_progress
from edge_et.llm import Tokenizer, read_shape

LLM = LlmShape(
    name="miniature",
    architecture="qwen3",
    layers=2,
    width=256,
    heads=4,
    kv_heads=2,
    head_width=32,
    feed_forward=512,
    vocabulary=1200,
    rows=1280,
)
PAIR = BundleShape(
    name="perceiver+tower+reasoner",
    tower=TOWER,
    perceiver=LLM,
    reasoner=replace(LLM, name="larger", width=512, layers=3),
    context_length=512,
)
COUNTS = {"extraction_tokens": 4, "thinking_tokens": 4, "answer_tokens": 2}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("synthetic")


@pytest.fixture(scope="module")
def bundle(folder: Path) -> Bundle:
    return synthetic_bundle(PAIR, folder)


def test_it_is_a_bundle_that_can_be_asked(bundle: Bundle, tmp_path: Path):
    bundle.verify()
    picture = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    with edge_et.load(bundle.folder, threads=1) as pipe:
        tokens = pipe.encode_image(picture)
        assert tokens.rows.shape == (16, 256)
        # Random weights must leave numbers in range, or kernels might take other paths.
        assert 0.1 < float(tokens.rows.std()) < 10
        assert (
            pipe.answer(tokens, "What is it?", max_extraction_tokens=4)
            .usage["extract"]
            .evaluated_tokens
            > 16
        )


def test_its_models_have_the_dimensions_asked_for(bundle: Bundle):
    perceiver, reasoner = bundle.manifest.perceiver, bundle.manifest.reasoner
    assert reasoner is not None
    shape = read_shape(bundle.path(perceiver.weights))
    assert (shape.layers, shape.width, shape.heads, shape.kv_heads) == (2, 256, 4, 2)
    assert (shape.key_width, shape.value_width, shape.feed_forward) == (32, 32, 512)
    assert read_shape(bundle.path(reasoner.weights)).layers == 3
    stored = {
        t.name: t.tensor_type for t in gguf.GGUFReader(bundle.path(perceiver.weights)).tensors
    }
    assert stored["token_embd.weight"] == gguf.GGMLQuantizationType.Q6_K
    assert stored["blk.1.ffn_down.weight"] == gguf.GGMLQuantizationType.Q4_0
    assert "output.weight" not in stored


def test_random_blocks_mean_numbers_of_the_right_size(bundle: Bundle):
    weights = bundle.path(bundle.manifest.perceiver.weights)
    for tensor in gguf.GGUFReader(weights).tensors:
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        if "norm" in tensor.name:
            assert (values == 1).all()
        else:
            expected = 1 / np.sqrt(values.shape[-1])
            assert float(values.std()) == pytest.approx(expected, rel=0.1)
            assert abs(float(values.mean())) < 0.2 * expected


def test_its_graph_is_valid_onnx(bundle: Bundle):
    model = onnx.load(bundle.folder / "vision.onnx")
    onnx.checker.check_model(model, full_check=True)
    weights = [numpy_helper.to_array(tensor) for tensor in model.graph.initializer]
    stored = sum(values.nbytes for values in weights)
    assert stored == pytest.approx(tower_bytes(TOWER, 256), rel=0.1)


def test_it_has_the_tower_for_llama_cpp_too(bundle: Bundle):
    graph = onnx.load(bundle.folder / "vision.onnx").graph
    expected = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    tensors = gguf.GGUFReader(find_mmproj(bundle)).tensors
    assert {tensor.name for tensor in tensors} == {
        name for name in expected if name.endswith((".weight", ".bias"))
    }
    for tensor in tensors:
        found = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        values = expected[tensor.name]
        if values.dtype != np.int8:
            np.testing.assert_array_equal(found, values)
            continue
        matrix = values * expected[tensor.name.replace(".weight", ".scale")]
        step = np.abs(matrix).max() / 127  # of Q8_0
        np.testing.assert_allclose(found.T, matrix, atol=step)
        assert float(matrix.std()) == pytest.approx(1 / np.sqrt(len(matrix)), rel=0.05)


def test_the_tower_is_as_the_quantizer_makes_it(bundle: Bundle, tmp_path: Path):
    """What ONNX Runtime makes of the graph shows which kernels run."""
    options = onnxruntime.SessionOptions()
    optimized = tmp_path / "optimized.onnx"
    options.optimized_model_filepath = str(optimized)
    onnxruntime.InferenceSession(
        bundle.path(bundle.manifest.vision.graph), options, providers=["CPUExecutionProvider"]
    )
    nodes = [node.op_type for node in onnx.load(optimized, load_external_data=False).graph.node]
    linears = 6 * TOWER.layers + 2
    fused = nodes.count("DynamicQuantizeMatMul") + nodes.count("MatMulIntegerToFloat")
    assert fused == linears
    assert "MatMulInteger" not in nodes


def test_rows_of_no_whole_blocks_are_kept_in_half_precision(tmp_path: Path):
    tower = replace(TOWER, feed_forward=40)
    write_mmproj(tmp_path / "mmproj.gguf", tower, 64, 3, no_progress)
    tensors = gguf.GGUFReader(tmp_path / "mmproj.gguf").tensors
    stored = {tensor.name: tensor.tensor_type for tensor in tensors}
    assert stored["v.blk.0.ffn_down.weight"] == gguf.GGMLQuantizationType.F16
    assert stored["v.blk.0.ffn_up.weight"] == gguf.GGMLQuantizationType.Q8_0


def test_a_llama_has_no_norms_of_heads_and_other_embeddings(tmp_path: Path):
    llama = replace(LLM, name="llama", architecture="llama", width=96, heads=3, kv_heads=1)
    made = synthetic_bundle(
        BundleShape(name="llama+tower", tower=TOWER, perceiver=llama, context_length=512), tmp_path
    )
    assert made.manifest.perceiver.architecture == "llama"
    stored = {
        found.name: found
        for found in gguf.GGUFReader(made.path(made.manifest.perceiver.weights)).tensors
    }
    assert "blk.0.attn_q_norm.weight" not in stored
    embeddings = stored["token_embd.weight"]
    assert embeddings.tensor_type == gguf.GGMLQuantizationType.Q8_0
    values = gguf.quants.dequantize(embeddings.data, embeddings.tensor_type)
    assert float(values.std()) == pytest.approx(1 / np.sqrt(96), rel=0.1)
    picture = np.zeros((40, 50, 3), np.uint8)
    with edge_et.load(made.folder, threads=1) as pipe:
        assert pipe.extract(picture, "What?", max_extraction_tokens=2).tokens


def test_it_is_made_once(bundle: Bundle, folder: Path):
    graph = bundle.folder / "vision.onnx"
    made = graph.stat().st_mtime_ns
    assert synthetic_bundle(PAIR, folder) == bundle
    assert graph.stat().st_mtime_ns == made


def test_a_damaged_or_old_one_is_made_anew_from_the_same_numbers(bundle: Bundle, tmp_path: Path):
    copy = tmp_path / PAIR.name
    shutil.copytree(bundle.folder, copy)
    (copy / "vision.onnx").write_bytes(b"damaged")
    assert synthetic_bundle(PAIR, tmp_path).manifest == bundle.manifest
    manifest = json.loads((copy / "bundle.json").read_text())
    (copy / "bundle.json").write_text(json.dumps(manifest | {"version": "0"}))
    assert synthetic_bundle(PAIR, tmp_path).manifest == bundle.manifest
    assert [path.name for path in tmp_path.iterdir()] == [PAIR.name]


def test_what_does_not_fit_the_disk_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(2, 1, 1))
    with pytest.raises(BenchError, match=r"has 0\.0 GB left"):
        synthetic_bundle(PAIR, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(BenchError, match="cannot be written"):
        synthetic_bundle(PAIR, tmp_path / "file")


def test_sizes_are_known_before(bundle: Bundle):
    written = sum(path.stat().st_size for path in bundle.folder.glob("*.gguf"))
    written += (bundle.folder / "vision.onnx").stat().st_size
    assert size_bytes(PAIR) == pytest.approx(written, rel=0.2)


def test_it_can_be_measured(bundle: Bundle, monkeypatch: pytest.MonkeyPatch):
    bounds = Bounds(memory_bytes_per_s=1e10, gemm_flops_per_s=1e11)
    monkeypatch.setattr(latency, "measure_bounds", lambda threads: bounds)
    found = run_latency(bundle, threads=1, samples=1, **COUNTS, baselines=())
    sample = found.configurations[0].first[0]
    assert (sample.tokens.image, sample.tokens.extraction, sample.tokens.thinking) == (16, 4, 4)
    assert [model.role for model in found.bundle.models] == ["perceiver", "reasoner"]


@pytest.mark.parametrize("size", [256, 300, 1200, 25_000])
def test_tokenizers_have_the_size_asked_for(tmp_path: Path, size: int):
    path = tmp_path / "tokenizer.json"
    write_tokenizer(path, new_tokenizer(size))
    tokenizer = Tokenizer(path)
    assert tokenizer.size == size + len(SPECIAL)
    assert [tokenizer.special_id(text) for text in SPECIAL] == [size, size + 1, size + 2]
    text = "What is the shape in the middle? Ünïcödé\n 12 <|im_end|>"
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert all(tokenizer.token_bytes(token) for token in range(size))


def test_words_become_few_tokens(tmp_path: Path):
    path = tmp_path / "tokenizer.json"
    write_tokenizer(path, new_tokenizer(25_000))
    assert len(Tokenizer(path).encode(" what is the red car")) == 6  # "what" is not among them


def test_models_have_their_true_dimensions():
    assert {
        name: (shape.perceiver.width, shape.reasoner and shape.reasoner.width)
        for name, shape in SHAPES.items()
    } == {
        "smollm2-135m+siglip-base": (576, None),
        "qwen3-0.6b+siglip-so400m": (1024, None),
        "qwen3-1.7b+siglip-so400m": (2048, None),
        "qwen3-0.6b+siglip-so400m+qwen3-1.7b": (1024, 2048),
        "smolvlm2-256m": (576, None),
        "smolvlm2-500m": (960, None),
        "smolvlm2-2.2b": (2048, None),
        "smolvlm2-500m+qwen3-0.6b": (960, 1024),
        "internvl3.5-1b": (1024, None),
        "internvl3.5-1b+qwen3-1.7b": (1024, 2048),
        "qwen3.5-0.8b": (1024, None),
        "qwen3.5-2b": (2048, None),
        "lfm2-vl-450m": (1024, None),
        "lfm2.5-vl-450m": (1024, None),
    }
    for name, weights, end in (
        ("smollm2-135m+siglip-base", 134_515_008, 49_151),
        ("qwen3-0.6b+siglip-so400m", 596_049_920, 151_645),
        ("qwen3-1.7b+siglip-so400m", 1_720_574_976, 151_645),
    ):
        llm = SHAPES[name].perceiver
        # As the model cards count them; embeddings are tied.
        assert sum(int(np.prod(tensor.shape)) for tensor in tensors_of(llm)) == weights
        assert new_tokenizer(llm.vocabulary)["added_tokens"][2]["id"] == end  # <|im_end|>
    assert SHAPES["qwen3-0.6b+siglip-so400m"].tower.patches == 729
    assert SHAPES["smollm2-135m+siglip-base"].tower.patches == 196


def test_stored_sizes_are_those_of_whole_blocks():
    tensor = Tensor(name="a", shape=(3, 512), storage="Q6_K")
    assert tensor.stored_shape == (3, 420)
    assert tensor.size_bytes == 1260


def test_the_folder_is_the_user_s_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_folder() == tmp_path / "edge-et" / "synthetic"
