"""Merged weights with llama.cpp, from the first answer of one program to the next load."""

import logging
import threading
from pathlib import Path

import numpy as np
import pytest
from tiny.engine import about_llama_cpp

import edge_et
from edge_et.native_threads import THREAD_PREFIX

pytestmark = about_llama_cpp

PICTURE = np.full((32, 32, 3), 90, np.uint8)


def ask(bundle: Path, **options: bool) -> str:
    """Answer once, and wait for what is done behind the answer."""
    with edge_et.load(bundle, engine="llama", **options) as pipe:
        text = pipe.answer(PICTURE, "Which?").extraction
        for thread in threading.enumerate():
            if thread.name == f"{THREAD_PREFIX}preparation":
                thread.join()
    return text


@pytest.fixture
def caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("edge_et.pipeline.engine_judgement.MAX_KL", 0.5)  # of random weights
    monkeypatch.setattr("edge_et.pipeline.engine_judgement.MAX_FLIPPED", 5.0)
    return tmp_path / "edge-et" / "weights"


def test_the_next_load_finds_merged_weights(
    tiny_bundle: Path, caches: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    model = edge_et.pipeline.factory.LanguageModel
    monkeypatch.setattr(
        "edge_et.pipeline.factory.LanguageModel",
        lambda weights, *rest, **more: opened.append(weights.name) or model(weights, *rest, **more),
    )
    first = ask(tiny_bundle)
    (merged,) = caches.glob("*.gguf")
    assert first
    assert ask(tiny_bundle)
    assert opened == ["perceiver.gguf", merged.name]
    assert ask(tiny_bundle, convert_weights=False) == first
    assert opened[2:] == ["perceiver.gguf"]
    merged.write_bytes(merged.read_bytes()[:-1] + b"x")
    assert ask(tiny_bundle) == first
    assert opened[3:] == ["perceiver.gguf"]
    assert len(list(caches.glob("*.gguf"))) == 1
    ask(tiny_bundle)
    assert opened[4:] == [merged.name]


def test_nothing_is_made_unasked(
    tiny_bundle: Path, caches: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        assert ask(tiny_bundle, convert_weights=False)
    assert not caches.exists()
    assert "convert" not in caplog.text
