"""The prebuilt engine where it cannot evaluate a token alone, which is so on ARM."""

import platform
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edge_et.bundle import read_manifest
from edge_et.errors import PromptTooLongError
from edge_et.llm import (
    KVCacheSettings,
    LanguageModel,
    LlamaKVCache,
    Tokenizer,
    TokenSegment,
    default_engine,
    positions_of,
)

pytest.importorskip("ik_llama_cpp")

PROMPT = TokenSegment(tuple(range(20, 57)))
SETTINGS = KVCacheSettings(context_length=64, threads=1)


@pytest.fixture(scope="module")
def model(tiny_bundle: Path) -> Iterator[LanguageModel]:
    spec = read_manifest(tiny_bundle / "bundle.json").perceiver
    size = Tokenizer(tiny_bundle / "tokenizer.json").size
    weights = tiny_bundle / "perceiver.gguf"
    engine = default_engine("prebuilt")
    model = LanguageModel(weights, spec, adapter=None, token_count=size, engine=engine)
    yield model
    model.close()


def new_cache(model: LanguageModel, machine: str, monkeypatch: pytest.MonkeyPatch) -> LlamaKVCache:
    monkeypatch.setattr(platform, "machine", lambda: machine)
    cache = model.new_kv_cache(SETTINGS)
    cache.prefill([PROMPT])
    return cache


def test_pairs_change_no_bit_and_leave_nothing(
    model: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone, paired = (new_cache(model, name, monkeypatch) for name in ("x86_64", "aarch64"))
    for _ in range(64 - 37):  # up to the last position
        token = int(alone.logits.argmax())
        assert alone.decode(token) == paired.decode(token) == 1
        np.testing.assert_array_equal(alone.logits, paired.logits)
        assert paired._context.last_place() == alone._context.last_place()
    with pytest.raises(PromptTooLongError):
        paired.decode(20)
    saved = [cache.save(positions_of([PROMPT])) for cache in (alone, paired)]
    np.testing.assert_array_equal(*saved)


def test_what_is_paired(model: LanguageModel) -> None:
    library = default_engine("prebuilt").open()
    is_arm = platform.machine() == "aarch64"
    assert library.pairs_rows(model.shape) == is_arm
    assert not default_engine("llama").open().pairs_rows(model.shape)
