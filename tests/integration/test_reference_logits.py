"""What numpy says of a model, against llama.cpp."""

from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace
from numpy.typing import NDArray
from tiny.engine import ON_PREBUILT, about_llama_cpp, applies_adapters
from tiny.llama import Tensors, write_adapter, write_llama
from tiny.tokenizer import write_tokenizer

from edge_et.bundle import find_bundle, load_bundle, read_manifest
from edge_et.llm import KVCacheSettings, LanguageModel, Tokenizer
from edge_et.pipeline.engine_judgement import MAX_KL
from edge_et.pipeline.engine_probe import probe_ids
from edge_et.weights import Unsupported, compare, merge, reference_logits

IDS = np.arange(20, 60, dtype=np.int32)
FACTORS: Tensors = {"rope_freqs.weight": np.array([1.0, 2.0, 4.0, 8.0], np.float32)}
BIASES: Tensors = {"blk.0.ffn_up.bias": np.full(64, 0.3, np.float32)}


def of_engine(
    bundle: Path, weights: Path, architecture: str, ids: NDArray[np.int32], adapter: Path | None
) -> NDArray[np.float32]:
    spec = replace(read_manifest(bundle / "bundle.json").perceiver, architecture=architecture)
    model = LanguageModel(weights, spec, adapter=adapter, token_count=spec.vocabulary_size)
    settings = KVCacheSettings(
        context_length=256, threads=1, kv_type="f16" if ON_PREBUILT else "f32"
    )
    try:
        single = model.all_logits(ids, settings, batch_positions=1)
        batch = model.all_logits(ids, settings, batch_positions=len(ids))
    finally:
        model.close()
    assert compare(single, batch).kl < 0.01
    return single


@pytest.mark.parametrize(
    ("architecture", "more", "has_adapter"),
    [
        ("llama", {}, False),
        # ik-llama-cpp-python 0.1.5 is off by a multiple with them, and refused for it.
        pytest.param("llama", FACTORS | BIASES, True, marks=about_llama_cpp),
        ("qwen2", {}, not ON_PREBUILT),
        ("qwen3", {}, not ON_PREBUILT),
    ],
)
def test_numpy_computes_what_an_engine_does(
    tiny_bundle: Path, tmp_path: Path, architecture: str, more: Tensors, has_adapter: bool
) -> None:
    write_tokenizer(tmp_path / "tokenizer.json")
    weights, adapter = tmp_path / "a.gguf", tmp_path / "lora.gguf" if has_adapter else None
    write_llama(weights, tmp_path / "tokenizer.json", seed=3, architecture=architecture, more=more)
    if adapter is not None:
        norm = {"blk.0.attn_norm.weight": ((4, 32), (1, 4))}  # to which llama.cpp adds nothing
        write_adapter(adapter, seed=4, architecture=architecture, more=norm)
    found = reference_logits(weights, adapter, IDS)
    assert not isinstance(found, Unsupported)
    expected = of_engine(tiny_bundle, weights, architecture, IDS, adapter)
    # Padding rows are fifty times as large, and a cache in F16 rounds.
    bound = 0.1 if ON_PREBUILT else 1e-2
    assert np.abs(found - expected)[:, :-8].max() < bound
    assert np.abs(found - expected).max() < 50 * bound
    if adapter is not None:
        without = reference_logits(weights, None, IDS)
        assert not isinstance(without, Unsupported)
        assert compare(found, without).kl > 0.1


@applies_adapters
def test_merged_weights_compute_what_the_lora_does(tiny_bundle: Path, tmp_path: Path) -> None:
    weights, adapter = tiny_bundle / "perceiver.gguf", tiny_bundle / "perceiver-lora.gguf"
    merge(weights, adapter, tmp_path / "merged.gguf")
    with_lora = of_engine(tiny_bundle, weights, "llama", IDS, adapter)
    merged = of_engine(tiny_bundle, tmp_path / "merged.gguf", "llama", IDS, None)
    without = of_engine(tiny_bundle, weights, "llama", IDS, None)
    assert compare(with_lora, merged).kl < compare(with_lora, without).kl / 20


@applies_adapters
@pytest.mark.slow
def test_the_mini_is_near_the_reference_with_its_lora(tmp_path: Path) -> None:
    bundle = load_bundle(find_bundle("mini"))
    spec = bundle.manifest.perceiver
    assert spec.adapter is not None
    weights, adapter = bundle.path(spec.weights), bundle.path(spec.adapter)
    ids = probe_ids(bundle.manifest, spec, Tokenizer(bundle.path(spec.tokenizer)))
    expected = reference_logits(weights, adapter, ids)
    assert not isinstance(expected, Unsupported)
    merge(weights, adapter, tmp_path / "merged.gguf")
    for path, lora in ((weights, adapter), (tmp_path / "merged.gguf", None)):
        assert compare(expected, of_engine(bundle.folder, path, "llama", ids, lora)).kl < 0.02
    assert compare(expected, of_engine(bundle.folder, weights, "llama", ids, None)).kl > 10 * MAX_KL
