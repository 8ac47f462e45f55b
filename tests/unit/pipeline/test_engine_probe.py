from pathlib import Path

import numpy as np
import pytest

from edge_et.bundle import load_bundle
from edge_et.llm import Tokenizer, installed_engines
from edge_et.pipeline import engine_probe
from edge_et.pipeline.engine_probe import probe_ids


@pytest.mark.parametrize("text", [engine_probe._EXTRACTION, ""])
def test_a_probe_is_as_large_a_batch_as_images_come_in(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setattr(engine_probe, "_EXTRACTION", text)
    monkeypatch.setattr(engine_probe, "_QUESTION", text)
    bundle = load_bundle(tiny_bundle)
    spec = bundle.manifest.perceiver
    ids = probe_ids(bundle.manifest, spec, Tokenizer(bundle.path(spec.tokenizer)))
    assert ids.dtype == np.int32
    for engine in installed_engines():
        assert len(ids) >= max(engine.rules.image_group, engine.flash_rules.image_group)
