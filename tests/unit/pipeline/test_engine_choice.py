import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray
from tiny.bundle import build_bundle
from tiny.hybrid import write_lfm2

from edge_et.bundle import Bundle, LanguageModelSpec, file_ref, load_bundle, save_manifest
from edge_et.errors import DecodeError, EngineError
from edge_et.llm import Engine, KVCacheSettings, ModelShape, default_engine
from edge_et.options import EngineName, KvType
from edge_et.pipeline import engine_choice, engine_judgement
from edge_et.pipeline.engine_choice import EngineChoice, choose
from edge_et.pipeline.prepared_weights import PreparedWeights
from edge_et.store import PreparedFiles
from edge_et.weights import Unsupported, reference_logits

LLAMA = replace(default_engine(), name="llama", version="1", kv_types=get_args(KvType))
PREBUILT = replace(LLAMA, name="prebuilt", kv_types=("f16", "q8_0"))


@dataclass
class FakeProbe:
    """Computes as numpy does, but for the forms that it is told to be wrong with.

    Attributes:
        wrong: whether it is, given an engine and whether weights are merged.
        asked: what it was asked for.
        caches: with which number type, and whether with flash attention.
    """

    wrong: Callable[[str, bool], bool] = lambda engine, merged: False
    asked: list[tuple[str, bool]] = field(default_factory=list)
    caches: list[tuple[KvType, bool]] = field(default_factory=list)

    def __call__(
        self,
        engine: Any,
        weights: Path,
        adapter: Path | None,
        spec: LanguageModelSpec,
        ids: NDArray[np.int32],
        settings: KVCacheSettings,
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        merged = weights.name != "perceiver.gguf"
        self.asked.append((engine.name, merged))
        self.caches.append((settings.kv_type, settings.has_flash_attention))
        logits = reference_logits(weights, adapter, ids)
        assert not isinstance(logits, Unsupported)
        batch = logits[:, ::-1] if self.wrong(engine.name, merged) else logits
        return logits, batch


@dataclass
class World:
    """A bundle, and a machine."""

    bundle: Bundle
    prepared: PreparedWeights
    probe: FakeProbe = field(default_factory=FakeProbe)

    def choose(
        self,
        *engines: Engine,
        asked: EngineName | None = None,
        converts: bool = True,
        makes: bool = True,
        kv_type: KvType = "f16",
        flash_attention: bool = False,
    ) -> EngineChoice:
        choice = choose(
            self.bundle,
            self.bundle.manifest.perceiver,
            engines=engines,
            asked=asked,
            converts=converts,
            prepared=self.prepared,
            makes=makes,
            kv_type=kv_type,
            flash_attention=flash_attention,
            probe=self.probe,
        )
        if choice.file is not None:
            choice.file.close()
        return choice


@pytest.fixture(autouse=True)
def bearable_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let Q8_0 pass, which is coarse for weights that are random."""
    monkeypatch.setattr(engine_judgement, "MAX_KL", 0.5)
    monkeypatch.setattr(engine_judgement, "MAX_FLIPPED", 5.0)


def new_world(folder: Path, *, adapter: bool = True, prepared: Path | None = None) -> World:
    build_bundle(folder / "bundle", adapter=adapter)
    files = PreparedFiles(prepared or folder / "weights", 2**30)
    return World(load_bundle(folder / "bundle"), PreparedWeights(files))


def told(choice: EngineChoice) -> tuple[str, str, bool, bool]:
    """Return the engine, the form, and whether there is an adapter, and work for later."""
    form = "own" if choice.file is None else "merged"
    return choice.engine.name, form, choice.adapter is not None, choice.later is not None


def test_the_reference_serves_first_and_merged_weights_next_time(tmp_path: Path) -> None:
    world = new_world(tmp_path)
    first = world.choose(LLAMA, PREBUILT)
    assert told(first) == ("llama", "own", True, True)
    assert first.spec == world.bundle.manifest.perceiver
    assert world.probe.asked == []
    assert first.later is not None
    first.later(lambda: None)
    second = world.choose(LLAMA, PREBUILT)
    assert told(second) == ("prebuilt", "merged", False, False)
    assert world.probe.asked == [("prebuilt", True)]
    assert second.spec.adapter is None
    assert second.spec.weights.sha256 != first.spec.weights.sha256  # which name snapshots
    assert told(world.choose(LLAMA, asked="llama")) == ("llama", "merged", False, False)
    world.probe.asked.clear()
    assert told(world.choose(LLAMA, PREBUILT)) == ("prebuilt", "merged", False, False)
    assert told(world.choose(LLAMA)) == ("llama", "merged", False, False)
    assert world.probe.asked == []  # once a machine


def test_a_model_that_numpy_does_not_know_is_opened_by_llama_cpp(tmp_path: Path) -> None:
    manifest = build_bundle(tmp_path / "bundle")
    weights = tmp_path / "bundle" / "perceiver.gguf"
    write_lfm2(weights, tmp_path / "bundle" / "tokenizer.json", seed=3)
    hybrid = msgspec.structs.replace(
        manifest.perceiver, weights=file_ref(weights), architecture="lfm2"
    )
    save_manifest(msgspec.structs.replace(manifest, perceiver=hybrid), tmp_path / "bundle")
    files = PreparedFiles(tmp_path / "weights", 2**30)
    world = World(load_bundle(tmp_path / "bundle"), PreparedWeights(files))
    for _ in range(2):
        choice = world.choose(LLAMA, PREBUILT)
        assert told(choice)[:2] == ("llama", "own")
        if choice.later is not None:
            choice.later(lambda: None)
    assert world.probe.asked == []
    with pytest.raises(EngineError, match=r"nobody can tell here .* the architecture lfm2"):
        world.choose(PREBUILT)


def test_an_engine_alone_is_given_what_it_needs_at_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    world = new_world(tmp_path)
    with caplog.at_level(logging.INFO):
        assert told(world.choose(PREBUILT)) == ("prebuilt", "merged", False, False)
    assert "converting perceiver.gguf" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.INFO):
        assert told(world.choose(PREBUILT)) == ("prebuilt", "merged", False, False)
    assert caplog.text == ""


def test_weights_that_an_engine_is_right_with_stay(tmp_path: Path) -> None:
    world = new_world(tmp_path, adapter=False)
    assert told(world.choose(PREBUILT)) == ("prebuilt", "own", False, False)
    assert told(world.choose(LLAMA)) == ("llama", "own", False, False)


def test_weights_that_an_engine_is_wrong_with_are_converted(tmp_path: Path) -> None:
    world = new_world(tmp_path, adapter=False)
    world.probe = FakeProbe(lambda engine, merged: engine == "prebuilt" and not merged)
    assert told(world.choose(PREBUILT)) == ("prebuilt", "merged", False, False)
    assert world.probe.asked == [("prebuilt", False), ("prebuilt", True)]


def test_an_engine_that_is_wrong_leaves_the_model_to_the_reference(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    world = new_world(tmp_path)
    world.probe = FakeProbe(lambda engine, merged: engine == "prebuilt")
    first = world.choose(LLAMA, PREBUILT)
    assert first.later is not None
    first.later(lambda: None)
    with caplog.at_level(logging.INFO):
        assert told(world.choose(LLAMA, PREBUILT)) == ("llama", "merged", False, False)
    assert "prebuilt 1 with converted weights: it is off by" in caplog.text
    with pytest.raises(EngineError, match=r"prebuilt .* off by .*engine='llama'"):
        world.choose(LLAMA, PREBUILT, asked="prebuilt")
    with pytest.raises(EngineError, match=r"pip install 'edge-et\[llama\]'"):
        world.choose(PREBUILT)


def test_a_failure_is_a_refusal_for_this_time(tmp_path: Path) -> None:
    world = new_world(tmp_path, adapter=False)
    works = world.probe

    def fail(*_: Any) -> Any:
        raise DecodeError("no memory for a context")

    world.probe = fail  # type: ignore[assignment]
    with pytest.raises(EngineError, match=r"prebuilt 1 .*: no memory for a context: pip install"):
        world.choose(PREBUILT, converts=False)
    assert told(world.choose(LLAMA, PREBUILT)) == ("llama", "own", False, True)
    world.probe = works
    assert told(world.choose(LLAMA, PREBUILT)) == ("prebuilt", "own", False, False)


@pytest.mark.parametrize(
    ("place", "name", "value"),
    [
        (engine_judgement, "MAX_KL", -1.0),
        (engine_judgement, "MAX_FLIPPED", 4.0),
        (engine_judgement, "RECIPE", 2),
        (engine_judgement, "device_name", lambda: "another machine"),
        (engine_judgement, "JUDGEMENT", 3),
    ],
)
def test_a_verdict_lasts_as_long_as_what_decided(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: Any, name: str, value: Any
) -> None:
    world = new_world(tmp_path)
    world.choose(PREBUILT)
    world.probe.asked.clear()
    monkeypatch.setattr(place, name, value)
    try:
        world.choose(PREBUILT)
    except EngineError:
        assert value == -1.0
    assert world.probe.asked == [("prebuilt", True)]


def test_a_note_that_does_not_agree_with_its_name_is_none(tmp_path: Path) -> None:
    world = new_world(tmp_path, adapter=False)
    world.choose(PREBUILT)
    (note,) = (
        path for path in (tmp_path / "weights").iterdir() if b"kl_single" in path.read_bytes()
    )
    written = note.read_bytes()
    for text, other in ((b'"prebuilt 1"', b'"prebuilt 2"'), (b'"max_kl":0.5', b'"max_kl":9.0')):
        assert text in written
        note.write_bytes(written.replace(text, other))
        world.probe.asked.clear()
        world.choose(PREBUILT)
        assert world.probe.asked == [("prebuilt", False)]
        assert text in note.read_bytes()


def test_it_is_told_what_a_refusal_is_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = new_world(tmp_path, adapter=False)

    def refused(change: Callable[[NDArray[np.float32]], NDArray[np.float32]]) -> str:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        world.prepared = PreparedWeights(PreparedFiles(folder, 2**30))

        def compute(*args: Any) -> Any:
            single, batch = FakeProbe()(*args)
            return single, change(batch)

        world.probe = compute  # type: ignore[assignment]
        told = []
        for _ in range(2):  # the second time, what was kept is told
            with pytest.raises(EngineError) as caught:
                world.choose(PREBUILT, converts=False)
            told.append(str(caught.value))
        assert told[0] == told[1]
        return told[0]

    def swap(logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """Let another token be best, once, and change little else."""
        swapped = logits.copy()
        row = swapped[7, :-8]  # the rest is padding
        row[row.argmin()] = row.max() + 0.01
        return swapped

    monkeypatch.setattr(engine_judgement, "MAX_FLIPPED", 0.0)
    assert "it is off by" in refused(lambda logits: logits * 30)
    only = refused(swap)
    assert "another token is best where" in only
    assert "nats" not in only
    assert "not finite" in refused(lambda logits: logits * np.float32(np.nan))


def test_what_is_not_known_goes_to_the_reference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = new_world(tmp_path, adapter=False)
    computed = Unsupported("the key llama.expert_count")
    monkeypatch.setattr(
        "edge_et.pipeline.prepared_weights.reference_logits", lambda *_, **__: computed
    )
    first = world.choose(LLAMA, PREBUILT)
    assert told(first) == ("llama", "own", False, True)
    assert first.later is not None
    first.later(lambda: None)
    assert told(world.choose(LLAMA, PREBUILT)) == ("llama", "own", False, False)
    with pytest.raises(EngineError, match=r"llama\.expert_count"):
        world.choose(LLAMA, PREBUILT, asked="prebuilt")


def test_weights_are_not_converted_unasked(tmp_path: Path) -> None:
    world = new_world(tmp_path)
    assert told(world.choose(LLAMA, converts=False)) == ("llama", "own", True, False)
    assert told(world.choose(PREBUILT, converts=False)) == ("prebuilt", "own", True, False)
    assert not list((tmp_path / "weights").glob("*.gguf"))


def test_an_engine_without_adapters_is_not_asked_about_one(tmp_path: Path) -> None:
    world = new_world(tmp_path)
    unfit = replace(PREBUILT, applies_adapters=False)
    choice = world.choose(LLAMA, unfit, converts=False)
    assert told(choice) == ("llama", "own", True, False)
    assert choice.refused == (
        "prebuilt 1 with the files as they are: it computes wrongly with an adapter beside weights",
    )
    assert not (tmp_path / "weights").exists()
    with pytest.raises(
        EngineError, match=r"which compiles llama\.cpp for minutes, or load it with"
    ):
        world.choose(unfit, converts=False)
    assert told(world.choose(unfit)) == ("prebuilt", "merged", False, False)
    assert world.probe.asked == [("prebuilt", True)]


def test_large_weights_keep_their_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_choice, "MAX_MERGED_BYTES", 50_000)
    world = new_world(tmp_path)
    assert told(world.choose(LLAMA)) == ("llama", "own", True, False)
    assert told(world.choose(PREBUILT)) == ("prebuilt", "own", True, False)


def test_without_a_folder_weights_are_made_for_one_process(tmp_path: Path) -> None:
    (tmp_path / "a file").touch()
    world = new_world(tmp_path, prepared=tmp_path / "a file")
    assert told(world.choose(LLAMA, PREBUILT)) == ("llama", "own", True, False)
    assert told(world.choose(PREBUILT)) == ("prebuilt", "merged", False, False)


def test_an_engine_that_this_cpu_cannot_run_is_not_asked(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    world = new_world(tmp_path)
    unfit = replace(PREBUILT, missing=("avx2", "fma"))
    with caplog.at_level(logging.INFO):
        choice = world.choose(LLAMA, unfit)
    assert told(choice) == ("llama", "own", True, True)
    assert choice.refused == ("prebuilt needs avx2, fma, which this CPU lacks",)
    assert f"perceiver.gguf is opened by llama.cpp: {choice.refused[0]}" in caplog.text
    for engines in ((LLAMA, unfit), (unfit,)):
        with pytest.raises(EngineError, match=r"avx2, fma.*'edge-et\[llama\]'") as caught:
            world.choose(*engines, asked="prebuilt")
        assert caught.value.engine == "prebuilt"
    with pytest.raises(EngineError, match="avx2, fma"):
        world.choose(unfit)
    assert world.probe.asked == []


def test_nothing_is_made_for_who_only_asks(tmp_path: Path) -> None:
    world = new_world(tmp_path)
    assert told(world.choose(PREBUILT, makes=False)) == ("prebuilt", "own", True, True)
    assert not (tmp_path / "weights").exists()
    world.choose(PREBUILT)
    assert told(world.choose(PREBUILT, makes=False)) == ("prebuilt", "merged", False, False)


def test_an_engine_that_is_not_installed(tmp_path: Path) -> None:
    world = new_world(tmp_path)
    with pytest.raises(EngineError, match=r"not installed.*'edge-et\[prebuilt\]'"):
        world.choose(LLAMA, asked="prebuilt")


def test_what_was_found_with_one_kind_of_cache_says_nothing_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ModelShape, "check_blocks", lambda *_: None)  # as a wider model has it
    world = new_world(tmp_path, adapter=False)
    kinds: list[tuple[KvType, bool]] = [("f16", False), ("f16", True), ("q8_0", True)]
    for _ in range(2):
        for kv_type, flash_attention in kinds:
            world.choose(PREBUILT, kv_type=kv_type, flash_attention=flash_attention)
    assert world.probe.caches == kinds
    world.choose(PREBUILT, kv_type="q8_0")  # which is flash attention
    assert world.probe.caches == kinds


def test_an_engine_without_such_caches_is_not_asked(tmp_path: Path) -> None:
    world = new_world(tmp_path, adapter=False)
    choice = world.choose(LLAMA, PREBUILT, kv_type="f32")
    assert told(choice) == ("llama", "own", False, False)
    assert choice.refused == ("prebuilt has no KV caches in f32",)
    for engines, asked in (((PREBUILT,), None), ((LLAMA, PREBUILT), "prebuilt")):
        with pytest.raises(EngineError, match="no KV caches in f32: choose kv_type=f16 or q8_0"):
            world.choose(*engines, asked=asked, kv_type="f32")
    assert world.probe.asked == []


def test_a_model_that_cannot_have_such_caches_is_not_judged(tmp_path: Path) -> None:
    build_bundle(tmp_path / "bundle", adapter=False)
    world = World(load_bundle(tmp_path / "bundle"), PreparedWeights(None))
    for engines, asked in (((PREBUILT,), None), ((LLAMA, PREBUILT), "prebuilt")):
        with pytest.raises(DecodeError, match=r"keys of 8 .*choose kv_type='f16'"):
            world.choose(*engines, asked=asked, kv_type="q8_0")
    assert world.probe.asked == []
