"""`edge-et autotune` and what `load` makes of its profile, on tiny bundles; never times."""

import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import gguf
import msgspec
import numpy as np
import pytest
from PIL import Image
from tiny.profiles import write_profile

import edge_et
from edge_et.benchmarks.autotune import search
from edge_et.benchmarks.autotune.dialogue import draw_pictures, record
from edge_et.benchmarks.autotune.search import autotune
from edge_et.benchmarks.autotune.weights import convert, merge
from edge_et.bundle import Bundle, file_ref, load_bundle
from edge_et.errors import BenchError
from edge_et.export.llm.llama_logits import llama_logits
from edge_et.options import LoadOptions
from edge_et.pipeline import (
    PROFILE_NAME,
    DeviceProfile,
    Settings,
    apply_profile,
    open_pipeline,
    profile_folder,
)
from edge_et.threads import available_cpus

TOKENS = [[3, 9, 27, 81, 5, 15, 45]]
PICTURE = Image.new("RGB", (40, 30), "teal")


@pytest.fixture(autouse=True)
def caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    return tmp_path / "caches"


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "Settings", lambda **said: Settings(threads=1, **said))


@pytest.fixture
def bundle(tiny_bundle: Path) -> Bundle:
    return load_bundle(tiny_bundle)


def tune_quietly(bundle: Bundle) -> list[search.Trial]:
    return autotune(bundle, draw_pictures()[:1], lambda what, done, total: None)


def profile_of(bundle: Bundle) -> DeviceProfile:
    path = profile_folder(bundle) / PROFILE_NAME
    return msgspec.json.decode(path.read_bytes(), type=DeviceProfile)


def test_a_merged_adapter_computes_what_it_computes_beside_the_weights(
    bundle: Bundle, tmp_path: Path
):
    spec = bundle.manifest.perceiver
    assert spec.adapter is not None
    weights, adapter = bundle.path(spec.weights), bundle.path(spec.adapter)
    merge(weights, adapter, tmp_path / "merged.gguf")
    apart = np.concatenate(list(llama_logits(weights, TOKENS, adapter=adapter)))
    merged = np.concatenate(list(llama_logits(tmp_path / "merged.gguf", TOKENS)))
    alone = np.concatenate(list(llama_logits(weights, TOKENS)))
    assert np.abs(merged - apart).max() < 0.02 * np.abs(alone - apart).max()
    assert gguf.GGUFReader(tmp_path / "merged.gguf").fields["tokenizer.ggml.tokens"].contents()


def test_an_adapter_for_something_else_is_refused(bundle: Bundle, tiny_pair: Path, tmp_path: Path):
    spec = bundle.manifest.perceiver
    assert spec.adapter is not None
    out = tmp_path / "merged.gguf"
    with pytest.raises(BenchError, match="is no adapter for"):
        convert(bundle.path(spec.adapter), bundle.path(spec.adapter), out, "Q8_0")
    assert list(tmp_path.iterdir()) == []


def test_the_profile_is_what_load_uses(bundle: Bundle):
    write_profile(bundle, threads=1, flash_attention=False)
    found, profile = apply_profile(bundle)
    assert found == bundle
    assert Settings.of(LoadOptions(), profile) == Settings(threads=1, kv_type="f32")
    cpus = available_cpus()
    assert Settings.of(LoadOptions(threads=cpus, kv_type="q8_0"), profile) == Settings(
        threads=cpus, kv_type="q8_0"
    )
    with edge_et.load(bundle.folder) as pipeline:
        assert pipeline._models.perceiver.kv_cache.kv_type == "f32"
    with edge_et.load(bundle.folder, use_profile=False) as pipeline:
        assert pipeline._models.perceiver.kv_cache.kv_type == "f16"
    with edge_et.load(bundle.folder, kv_type="f16") as pipeline:
        assert pipeline._models.perceiver.kv_cache.kv_type == "f16"


def test_weights_made_by_tune_take_the_place_of_weights_and_adapter(bundle: Bundle):
    spec = bundle.manifest.perceiver
    made = profile_folder(bundle) / "perceiver-q8_0.gguf"
    convert(bundle.path(spec.weights), bundle.path(spec.adapter), made, "Q8_0")  # type: ignore[arg-type]
    write_profile(bundle, threads=1, flash_attention=False, perceiver=file_ref(made))
    found, _ = apply_profile(bundle)
    assert found.path(found.manifest.perceiver.weights) == made
    assert found.manifest.perceiver.adapter is None
    assert "perceiver.adapter" not in {file.role for file in found.files}
    with edge_et.load(bundle.folder) as pipeline:
        assert pipeline.answer(PICTURE, "What?", max_answer_tokens=2).text


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"device": "abacus"}, "made on another processor"),
        ({"versions": {"llama-cpp-python": "0.0.1"}}, "made with"),
        ({"bundle_sha256": "0" * 64}, "made for another bundle"),
        ({"perceiver": msgspec.UNSET}, "is not used"),
    ],
)
def test_a_profile_that_does_not_fit_is_passed_over(
    bundle: Bundle, caplog: pytest.LogCaptureFixture, fields: dict[str, object], told: str
):
    write_profile(bundle, threads=1, flash_attention=False, **fields)
    with caplog.at_level(logging.WARNING):
        assert apply_profile(bundle) == (bundle, None)
    assert told in caplog.text


@pytest.mark.parametrize("damage", ["gone", "short", "changed", "outside"])
def test_damaged_weights_are_passed_over(
    bundle: Bundle, caplog: pytest.LogCaptureFixture, damage: str
):
    write_profile(bundle, threads=1, flash_attention=False)
    made = profile_folder(bundle) / "made.gguf"
    shutil.copy(bundle.path(bundle.manifest.perceiver.weights), made)
    ref = file_ref(made)
    if damage == "outside":
        ref = msgspec.structs.replace(ref, path="../made.gguf")
    write_profile(bundle, threads=1, flash_attention=False, perceiver=ref)
    if damage == "gone":
        made.unlink()
    elif damage == "short":
        os.truncate(made, 100)
    elif damage == "changed":
        content = bytearray(made.read_bytes())
        content[-1] ^= 1
        made.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        assert apply_profile(bundle) == (bundle, None)
    assert "edge-et autotune makes a new one" in caplog.text


def test_what_changes_the_outputs_loses_however_fast_it_is(
    bundle: Bundle, tiny_pair: Path, monkeypatch: pytest.MonkeyPatch
):
    other = load_bundle(tiny_pair).manifest.reasoner
    assert other is not None
    nonsense = tiny_pair / other.weights.path

    def swap(weights: Path, adapter: Path | None, out: Path, quantization: str) -> None:
        shutil.copy(nonsense, out)

    monkeypatch.setattr(search, "convert", swap)
    trials = tune_quietly(bundle)
    tried = [trial for trial in trials if trial.setting.startswith("weights in")]
    assert len(tried) == len(search.FORMATS)
    assert all(trial.verdict.startswith("changes the outputs") for trial in tried)
    assert profile_of(bundle).perceiver is None
    assert {path.name for path in profile_folder(bundle).iterdir()} == {PROFILE_NAME}


def test_dialogues_hold_the_logits_behind_every_token(bundle: Bundle):
    dialogues = record(bundle, Settings(threads=1), draw_pictures()[:1])
    for dialogue in dialogues["perceiver"]:
        assert len(dialogue.logits) == len(dialogue.written) + 1
    with open_pipeline(bundle, Settings(threads=1)) as pipeline:
        context = pipeline._models.perceiver.kv_cache
        assert search.compare(context, dialogues["perceiver"]).max_abs == 0


def test_a_bundle_of_two_models_has_both_of_them_tuned(tiny_pair: Path):
    trials = tune_quietly(load_bundle(tiny_pair))
    assert {trial.role for trial in trials} == {"perceiver", "reasoner"}
    profile = profile_of(load_bundle(tiny_pair))
    for role, speed in (
        ("perceiver", profile.perceiver_speed),
        ("reasoner", profile.reasoner_speed),
    ):
        *_, taken = [t.speed for t in trials if t.role == role and t.verdict == "taken"]
        assert taken is not None
        assert speed is not None
        assert 1 / speed.token_seconds == pytest.approx(taken.decode_per_s)
        pace = speed.prompt_tokens / speed.prompt_seconds
        assert pace == pytest.approx(taken.prefill_per_s)


def test_the_command_tells_what_it_tried_and_forgets(tiny_bundle: Path, caches: Path):
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        cpu = min(os.sched_getaffinity(0))
        return subprocess.run(
            [sys.executable, "-m", "edge_et", "autotune", str(tiny_bundle), *arguments],
            capture_output=True,
            text=True,
            env={**os.environ, "COLUMNS": "160"},
            preexec_fn=lambda: os.sched_setaffinity(0, {cpu}),
        )

    done = run()
    assert done.returncode == 0, done.stderr
    assert "weights as they are" in done.stdout
    assert "flash attention" in done.stdout
    assert len(list(caches.rglob(PROFILE_NAME))) == 1
    assert run("--forget").returncode == 0
    assert list(caches.rglob(PROFILE_NAME)) == []
    assert run("--forget").returncode == 0
