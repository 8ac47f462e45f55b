"""PyTorch as a baseline: the same model, the same prompts, the same counts."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from edge_et.benchmarks import torch_kv_cache as torch_context
from edge_et.benchmarks.torch_kv_cache import TorchKVCache, TorchModel
from edge_et.bundle import Bundle, load_bundle
from edge_et.errors import BenchError, DecodeError, PromptTooLongError
from edge_et.image import ImageTokens
from edge_et.llm import (
    ImageSegment,
    KVCacheSettings,
    LanguageModel,
    LlamaKVCache,
    Segment,
    Tokenizer,
    TokenSegment,
)

ROWS = np.random.default_rng(3).normal(0, 1, (16, 32)).astype(np.float32)
PROMPT: list[Segment] = [
    TokenSegment((5, 80, 91, 12)),
    ImageSegment(ImageTokens(ROWS, "picture")),
    TokenSegment((40, 41, 42, 200, 7)),
]
WRITTEN = TokenSegment((60, 61), generated=True)

# Float32 weights and caches; sums of another order.
TOLERANCE = 2e-4


@pytest.fixture(scope="module")
def bundle(tiny_bundle: Path) -> Bundle:
    return load_bundle(tiny_bundle)


@pytest.fixture(scope="module")
def torch_one(bundle: Bundle) -> Iterator[TorchKVCache]:
    spec = bundle.manifest.perceiver
    tokens = Tokenizer(bundle.path(spec.tokenizer)).size
    with closing(TorchModel.of(bundle, spec, tokens, "float32")) as model:
        yield model.new_kv_cache(
            KVCacheSettings(context_length=spec.context_length, threads=1, kv_type="f32")
        )


@pytest.fixture(scope="module")
def native(bundle: Bundle) -> Iterator[LlamaKVCache]:
    spec = bundle.manifest.perceiver
    assert spec.adapter is not None
    tokens = Tokenizer(bundle.path(spec.tokenizer)).size
    model = LanguageModel(
        bundle.path(spec.weights), spec, adapter=bundle.path(spec.adapter), token_count=tokens
    )
    with closing(model):
        yield model.new_kv_cache(
            KVCacheSettings(context_length=spec.context_length, threads=1, kv_type="f32")
        )


def test_logits_are_those_of_llama_cpp(torch_one: TorchKVCache, native: LlamaKVCache):
    torch_one.clear()
    for context in (torch_one, native):
        context.prefill(PROMPT)
    np.testing.assert_allclose(torch_one.logits, native.logits, atol=TOLERANCE)
    for token in WRITTEN.ids:
        for context in (torch_one, native):
            context.decode(token)
        np.testing.assert_allclose(torch_one.logits, native.logits, atol=TOLERANCE)


def test_a_prefix_is_kept_and_changes_nothing(torch_one: TorchKVCache):
    longer = [*PROMPT, WRITTEN, TokenSegment((8, 9))]
    torch_one.clear()
    assert torch_one.prefill(longer).reused == 0
    expected = torch_one.logits
    torch_one.clear()
    torch_one.prefill(PROMPT)
    for token in WRITTEN.ids:
        torch_one.decode(token)
    found = torch_one.prefill(longer)
    assert (found.reused, found.evaluated) == (27, 2)
    np.testing.assert_allclose(torch_one.logits, expected, atol=TOLERANCE)
    assert torch_one.prefill(PROMPT[:2]).reused == 19


def test_nothing_is_kept_where_nothing_is_shared(torch_one: TorchKVCache):
    other = [TokenSegment((9, 8, 9))]
    torch_one.clear()
    torch_one.prefill(other)
    expected = torch_one.logits
    torch_one.clear()
    torch_one.prefill(PROMPT)
    assert torch_one.prefill(other).reused == 0
    np.testing.assert_allclose(torch_one.logits, expected, atol=TOLERANCE)


def test_bfloat16_is_about_the_same_model(
    torch_one: TorchKVCache, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(torch_context, "has_bfloat16", lambda: True)
    spec = bundle.manifest.perceiver
    tokens = Tokenizer(bundle.path(spec.tokenizer)).size
    torch_one.clear()
    torch_one.prefill(PROMPT)
    with closing(TorchModel.of(bundle, spec, tokens, "bfloat16")) as model:
        context = model.new_kv_cache(
            KVCacheSettings(context_length=spec.context_length, threads=1, kv_type="f32")
        )
        context.prefill(PROMPT)
    found, expected = context.logits, torch_one.logits
    assert found.dtype == np.float32
    assert 1e-6 < float(np.abs(found - expected).max()) < 0.1 * float(expected.std())


def test_bfloat16_is_absent_where_the_processor_lacks_it(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(torch_context, "has_bfloat16", lambda: False)
    with pytest.raises(BenchError, match="no instructions for bfloat16"):
        TorchModel.of(bundle, bundle.manifest.perceiver, 10, "bfloat16")


def test_its_limits_are_those_of_a_context(torch_one: TorchKVCache, bundle: Bundle):
    torch_one.clear()
    with pytest.raises(DecodeError, match="no logits"):
        _ = torch_one.logits
    length = bundle.manifest.perceiver.context_length
    with pytest.raises(PromptTooLongError):
        torch_one.prefill([TokenSegment((1,) * (length + 1))])
    torch_one.prefill([TokenSegment((1,) * length)])
    with pytest.raises(PromptTooLongError):
        torch_one.decode(1)


def test_a_file_that_transformers_cannot_load_is_told(bundle: Bundle, tmp_path: Path):
    weights = tmp_path / "model.gguf"
    content = bundle.path(bundle.manifest.perceiver.weights).read_bytes()
    weights.write_bytes(content.replace(b"llama", b"plamo"))
    with pytest.raises(BenchError, match="transformers cannot load") as caught:
        TorchModel(weights, None, 10)
    assert "\n" not in str(caught.value)
