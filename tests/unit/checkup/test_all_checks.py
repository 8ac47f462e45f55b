"""All checks together: one that fails stops no other, and models are judged by what they say."""

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper
from tiny.bundle import build_bundle
from tiny.llama import write_llama
from tiny.profiles import write_profile

from edge_et.bundle import file_ref, load_bundle, read_manifest, save_manifest
from edge_et.checkup import Finding, check_up
from edge_et.checkup.all_checks import OpenApart
from edge_et.checkup.builds import EngineBuild
from edge_et.llm import Engine, installed_engines
from edge_et.pipeline import known_answers, make_known_answers, model_distance


def no_progress(what: str, done: int, total: int) -> None:
    pass


def opened(engine: Engine) -> EngineBuild:
    """Open it here, where the tests have opened it before."""
    return EngineBuild(described=engine.open().describe_build())


def findings(folder: Path, open_apart: OpenApart = opened) -> dict[str, Finding]:
    found = check_up(str(folder), progress=no_progress, open_apart=open_apart)
    return {finding.check: finding for finding in found}


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of two models that holds what they compute."""
    folder = tmp_path_factory.mktemp("known")
    build_bundle(folder, two_models=True)
    answers = make_known_answers(load_bundle(folder))
    manifest = load_bundle(folder).manifest
    save_manifest(msgspec.structs.replace(manifest, known_answers=answers), folder)
    return folder


@pytest.fixture
def folder(known: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    for file in known.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path


def believe(folder: Path) -> None:
    """Write into the manifest that the files are those that they are now."""
    manifest = read_manifest(folder / "bundle.json")
    assert manifest.reasoner is not None
    vision = msgspec.structs.replace(manifest.vision, graph=file_ref(folder / "vision.onnx"))
    weights = file_ref(folder / "reasoner.gguf")
    reasoner = msgspec.structs.replace(manifest.reasoner, weights=weights)
    save_manifest(msgspec.structs.replace(manifest, vision=vision, reasoner=reasoner), folder)


def test_a_sound_bundle_is_found_to_be_sound(folder: Path) -> None:
    found = findings(folder)
    wrong = {name: finding for name, finding in found.items() if finding.status == "error"}
    assert wrong == {}
    for name in ("answers.tower", "answers.perceiver", "answers.reasoner", "answer", "files"):
        assert found[name].status == "ok"
    assert found["answers.tower"].figures["cosine"] == pytest.approx(1, abs=1e-6)


def test_another_tower_is_found_by_its_answer(folder: Path) -> None:
    model = onnx.load(folder / "vision.onnx")
    (weight,) = (tensor for tensor in model.graph.initializer if tensor.name == "weight")
    values = -numpy_helper.to_array(weight)
    weight.CopyFrom(numpy_helper.from_array(values, "weight"))
    onnx.save(model, folder / "vision.onnx")
    believe(folder)
    found = findings(folder)
    assert found["files"].status == "ok"
    assert found["answers.tower"].status == "error"
    assert "the vision tower" in found["answers.tower"].summary
    assert found["answers.tower"].advice
    assert found["answers.perceiver"].status == found["answers.reasoner"].status == "ok"


def test_other_weights_are_found_by_their_answer(folder: Path) -> None:
    write_llama(folder / "reasoner.gguf", folder / "tokenizer.json", seed=99)
    believe(folder)
    found = findings(folder)
    assert found["files"].status == found["answers.perceiver"].status == "ok"
    assert found["answers.reasoner"].status == "error"
    assert "no other way to open it is right" in found["answers.reasoner"].summary
    assert found["answer"].status == "ok"  # which is why answers are compared


def test_a_check_that_fails_stops_no_other(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = findings(folder)

    def broken(*arguments: object) -> Finding:
        raise ZeroDivisionError("of the check itself")

    monkeypatch.setattr("edge_et.checkup.all_checks.check_memory", broken)
    monkeypatch.setattr("edge_et.checkup.all_checks.check_tower", broken)
    found = findings(folder)
    assert list(found) == list(whole)
    failed = [name for name, finding in found.items() if finding.status == "error"]
    assert failed == ["memory", "answers.tower"]
    assert "of the check itself" in found["memory"].summary


def test_an_engine_that_ends_the_process_is_never_opened_here(folder: Path) -> None:
    found = findings(folder, open_apart=lambda _: EngineBuild(described=None, fault="SIGILL"))
    engines = [finding for name, finding in found.items() if name.startswith("engine.")]
    assert all(finding.status == "error" for finding in engines)
    assert found["files"].status == "ok"
    assert not {"answer", "answers.tower", "answers.perceiver"} & set(found)


def test_without_a_bundle_the_machine_is_told(tmp_path: Path) -> None:
    found = findings(tmp_path / "none")
    assert found["bundle"].status == "error"
    assert {"versions", "heat", "threads"} <= set(found)
    assert "files" not in found


def test_every_damaged_file_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Larger files than these are looked at by their head alone when a bundle is loaded.
    monkeypatch.setattr("edge_et.bundle.loading.HASH_AT_LOAD_BYTES", 0)
    for name in ("perceiver.gguf", "reasoner.gguf"):
        content = bytearray((folder / name).read_bytes())
        content[-1] ^= 1
        (folder / name).write_bytes(content)
    found = findings(folder)
    assert found["files"].status == "error"
    assert "perceiver.gguf" in found["files"].summary
    assert "reasoner.gguf" in found["files"].summary


def test_a_kv_cache_that_does_not_suit_is_told_from_weights(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("caches")))
    bundle = load_bundle(folder)
    known = bundle.manifest.known_answers
    assert known is not None
    assert known.reasoner is not None
    as_stored = model_distance(bundle, "reasoner", known.reasoner).kl
    write_profile(bundle, kv_type="f32")
    other = model_distance(bundle, "reasoner", known.reasoner).kl
    between = msgspec.structs.replace(known.reasoner, max_kl=(as_stored + other) / 2)
    answers = msgspec.structs.replace(known, reasoner=between)
    save_manifest(msgspec.structs.replace(bundle.manifest, known_answers=answers), folder)
    write_profile(load_bundle(folder), kv_type="f32")
    told = findings(folder)["answers.reasoner"]
    assert told.status == "error"
    assert "its KV cache is not fit for this model" in told.summary
    assert "load(kv_type='f16')" in told.advice[0]


def test_an_engine_that_computes_wrongly_is_told_from_weights(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engines = installed_engines()
    if len(engines) < 2:
        pytest.skip("only one engine is installed")
    computed = known_answers._logits
    found = findings(folder)["answers.reasoner"]

    def off(engine: Engine, *arguments: Any) -> list[NDArray[np.float32]]:
        logits = computed(engine, *arguments)
        return [-part for part in logits] if engine.name == found.figures["engine"] else logits

    monkeypatch.setattr(known_answers, "_logits", off)
    told = findings(folder)["answers.reasoner"]
    assert told.status == "error"
    off_name = found.figures["engine"]
    (right,) = (engine.name for engine in engines if engine.name != off_name)
    assert f"the engine {off_name} is wrong here" in told.summary
    assert f"load(engine={right!r})" in told.advice[0]
