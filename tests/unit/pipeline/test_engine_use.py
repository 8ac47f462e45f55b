from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tiny.profiles import write_profile

from edge_et.bundle import load_bundle
from edge_et.errors import DecodeError, EngineError
from edge_et.llm import Engine, KVCacheSettings, default_engine
from edge_et.options import LoadOptions
from edge_et.pipeline import engine_choice, engine_use
from edge_et.pipeline.engine_use import engine_uses, prepare

LLAMA = replace(default_engine(), name="llama", package="a-package", version="1", missing=())
PREBUILT = replace(LLAMA, name="prebuilt")


def install(monkeypatch: pytest.MonkeyPatch, *engines: Engine) -> None:
    monkeypatch.setattr(engine_use, "installed_engines", lambda: engines)


def test_each_model_of_a_pair_is_told(tiny_pair: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, LLAMA)
    told = engine_uses(load_bundle(tiny_pair))
    assert [use.role for use in told] == ["perceiver", "reasoner"]
    assert {str(use) for use in told} == {
        "llama (a-package 1), weights as stored; prebuilt is not installed"
    }


def test_what_is_only_known_behind_a_load_is_not_made(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    install(monkeypatch, PREBUILT)
    (use,) = engine_uses(load_bundle(tiny_bundle))
    assert (use.engine, use.weights) == ("prebuilt", "decided by the first load")
    assert use.why == "llama is not installed"
    assert list(tmp_path.iterdir()) == []


def test_a_cpu_that_an_engine_is_not_for_is_the_reason(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unfit = replace(PREBUILT, missing=("avx2",))
    install(monkeypatch, LLAMA, unfit)
    (use,) = engine_uses(load_bundle(tiny_bundle))
    assert (use.engine, use.weights) == ("llama", "as stored, adapter beside them")
    assert use.why == "not prebuilt: prebuilt needs avx2, which this CPU lacks"
    install(monkeypatch, unfit)
    (use,) = engine_uses(load_bundle(tiny_bundle))
    assert use.engine is use.package is use.weights is None
    assert "avx2" in str(use)
    with pytest.raises(EngineError, match="avx2"):
        prepare(load_bundle(tiny_bundle))


def test_without_engines_it_is_told_what_to_install(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch)
    (use,) = engine_uses(load_bundle(tiny_bundle))
    assert use.engine is None
    assert "'edge-et[llama]'" in str(use)


def test_where_nothing_can_be_kept_it_is_told(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "edge-et").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    install(monkeypatch, LLAMA, PREBUILT)
    (use,) = prepare(load_bundle(tiny_bundle))
    assert use.engine == "llama"
    assert "caches cannot be written" in use.why


def test_what_the_profile_says_of_caches_counts(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    install(monkeypatch, LLAMA, replace(PREBUILT, kv_types=("f16",)))
    bundle = load_bundle(tiny_bundle)
    asked: list[KVCacheSettings] = []

    def refuse(*args: Any) -> Any:
        asked.append(args[-1])
        raise DecodeError("told to fail")

    monkeypatch.setattr(engine_choice, "probe_logits", refuse)
    write_profile(bundle, kv_type="f16", flash_attention=True)
    prepare(bundle)
    assert {(settings.kv_type, settings.flash_attention) for settings in asked} == {("f16", True)}
    write_profile(bundle, kv_type="f32", flash_attention=False)
    (use,) = engine_uses(bundle)
    assert use.engine == "llama"
    assert use.why == "not prebuilt: prebuilt has no KV caches in f32"
    write_profile(bundle, kv_type="q8_0", flash_attention=False)
    (use,) = engine_uses(bundle)
    assert use.engine is None
    assert "choose kv_type='f16'" in use.why


def test_what_is_prepared_is_that_of_the_load_that_comes(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    install(monkeypatch, LLAMA, replace(PREBUILT, kv_types=("f16",)))
    bundle = load_bundle(tiny_bundle)
    (use,) = prepare(bundle, LoadOptions(kv_type="f32"))
    assert use.why == "not prebuilt: prebuilt has no KV caches in f32"
    write_profile(bundle, kv_type="q8_0", flash_attention=False)
    (use,) = prepare(bundle, LoadOptions(kv_type="f32", use_profile=False))
    assert use.engine == "llama"
