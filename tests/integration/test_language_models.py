"""What real engines say about files, caches and their sizes."""

import logging
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tiny.bundle import build_bundle
from tiny.engine import ALLOCATED, ON_PREBUILT, has_f32_caches
from tiny.thoughts import HINT, HINTED, change_bundle

from edge_et.bundle import LanguageModelSpec, load_bundle, read_manifest
from edge_et.errors import DecodeError, ModelFileError
from edge_et.llm import KVCacheSettings, LanguageModel, default_engine, read_shape
from edge_et.llm.llama import LlamaModel
from edge_et.options import KvType
from edge_et.pipeline import Settings, open_pipeline
from edge_et.pipeline.factory import kv_cache_bytes


@pytest.fixture(scope="module")
def spec(tiny_bundle: Path) -> LanguageModelSpec:
    return read_manifest(tiny_bundle / "bundle.json").perceiver


@pytest.mark.parametrize("kv_type", ["f16", pytest.param("f32", marks=has_f32_caches)])
@pytest.mark.parametrize(
    ("two_models", "changes", "caches"),
    [
        (False, {"think": {"sees": "extraction"}}, 2),
        (True, {"extract": {"prompt": HINTED, "hint": HINT}}, 3),
    ],
)
def test_the_bytes_of_a_bundle_are_those_of_all_its_caches(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    kv_type: KvType,
    two_models: bool,
    changes: dict[str, Any],
    caches: int,
) -> None:
    # More positions than a hint's cache has, and no multiple of what an engine rounds to.
    build_bundle(tmp_path, two_models=two_models, context_length=1500)
    change_bundle(tmp_path, **changes)
    bundle = load_bundle(tmp_path)
    with caplog.at_level(logging.DEBUG, "edge_et.llm.native_log"):
        open_pipeline(bundle, Settings(threads=1, kv_type=kv_type)).close()
    sizes = re.findall(ALLOCATED, caplog.text)
    assert ON_PREBUILT or len(sizes) == caches
    sizes = sizes[-caches:]  # those before are of an engine that was asked what it computes
    needed = kv_cache_bytes(bundle, kv_type) / 2**20
    rounding = 0.006 * caches  # to 0.01
    least = needed * 1504 / 1536 if ON_PREBUILT else needed
    assert least - rounding <= sum(map(float, sizes)) <= needed + rounding


def test_the_reason_of_an_engine_is_told(tmp_path: Path, spec: LanguageModelSpec) -> None:
    path = tmp_path / "none.gguf"
    path.write_bytes(b"no model at all")
    with pytest.raises(ModelFileError, match=r"llama\.cpp cannot open it: \S") as caught:
        LanguageModel(path, spec, adapter=None, token_count=100)
    first = str(caught.value)
    assert "\n" not in first
    (tmp_path / "missing.gguf").unlink(missing_ok=True)
    with pytest.raises(ModelFileError) as caught:
        LanguageModel(tmp_path / "missing.gguf", spec, adapter=None, token_count=100)
    assert "none.gguf" not in str(caught.value)  # what was told once is forgotten


def test_a_cache_that_the_model_cannot_have_is_refused_and_harms_nothing(
    tiny_bundle: Path, spec: LanguageModelSpec
) -> None:
    model = LanguageModel(tiny_bundle / "perceiver.gguf", spec, adapter=None, token_count=100)
    with pytest.raises(DecodeError, match=r"keys of 8 .*choose kv_type='f16'"):
        model.new_kv_cache(KVCacheSettings(context_length=64, threads=1, kv_type="q8_0"))
    kv_cache = model.new_kv_cache(KVCacheSettings(context_length=64, threads=1))
    assert (kv_cache.context_length, kv_cache.kv_type) == (64, "f16")
    assert kv_cache.shape == model.shape == read_shape(tiny_bundle / "perceiver.gguf")
    model.close()


def test_metadata_that_is_not_there_is_empty(tiny_bundle: Path, spec: LanguageModelSpec) -> None:
    model = LlamaModel(
        tiny_bundle / "perceiver.gguf",
        default_engine(),
        architecture=spec.architecture,
        vocabulary_size=spec.vocabulary_size,
    )
    assert model.metadata("general.architecture") == "llama"
    assert model.metadata("llama.block_count") == "2"
    assert model.metadata("llama.no_such_key") == ""
    assert model.is_open
    model.close()
    assert not model.is_open


def test_a_file_that_is_not_as_described_is_told_with_both_values(
    tiny_bundle: Path, spec: LanguageModelSpec
) -> None:
    rows = spec.vocabulary_size
    other = msgspec.structs.replace(spec, vocabulary_size=rows + 1)
    with pytest.raises(ModelFileError, match=f"{rows}, the manifest says {rows + 1}") as caught:
        LanguageModel(tiny_bundle / "perceiver.gguf", other, adapter=None, token_count=100)
    assert caught.value.path == tiny_bundle / "perceiver.gguf"
    other = msgspec.structs.replace(spec, architecture="qwen3")
    with pytest.raises(ModelFileError, match="architecture is llama, the manifest says qwen3"):
        LanguageModel(tiny_bundle / "perceiver.gguf", other, adapter=None, token_count=100)


def test_a_model_in_several_files_is_refused(
    tiny_bundle: Path, spec: LanguageModelSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The manifest names one of them, and llama.cpp opens the others by their names."""
    metadata = LlamaModel.metadata

    def of_two_parts(self: LlamaModel, key: str) -> str:
        return "2" if key == "split.count" else metadata(self, key)

    monkeypatch.setattr(LlamaModel, "metadata", of_two_parts)
    with pytest.raises(ModelFileError, match="several files"):
        LanguageModel(tiny_bundle / "perceiver.gguf", spec, adapter=None, token_count=100)
