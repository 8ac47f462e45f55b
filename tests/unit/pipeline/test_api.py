from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny.places import EXAMPLES
from tiny.profiles import write_profile

import edge_et
from edge_et.bundle import Bundle, file_ref, load_bundle
from edge_et.errors import OptionError
from edge_et.image import ImageLimits
from edge_et.options import DEFAULT_IMAGE_KV_BYTES, AnswerOptions
from edge_et.pipeline import Settings, api, device_profile, profile_folder
from edge_et.pipeline.factory import kv_cache_bytes
from edge_et.pipeline.memory_plan import MemoryPlan
from edge_et.threads import available_cpus

EVERY = {name: number for number, name in enumerate(AnswerOptions.__struct_fields__, start=1)}


class Recorder:
    """Stands for a pipeline, and notes what it is asked."""

    def __init__(self) -> None:
        self.calls: list[tuple[tuple[object, ...], dict[str, object]]] = []

    def answer(self, *args: object, **options: object) -> str:
        self.calls.append((args, options))
        return "an answer"


class Opened:
    """Stands for `open_pipeline`, and notes what it is given."""

    bundle: Bundle
    settings: Settings
    snapshots: Any
    open_model: Any
    preparation: Any

    def __call__(self, bundle: Bundle, settings: Settings, **rest: Any) -> "Opened":
        self.bundle, self.settings = bundle, settings
        self.snapshots, self.open_model = rest["snapshots"], rest["open_model"]
        self.preparation = rest["preparation"]
        return self


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Opened:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    stub = Opened()
    monkeypatch.setattr(api, "open_pipeline", stub)
    return stub


@pytest.mark.parametrize("model", [5, b"mini", ["mini"]])
def test_what_is_no_bundle_is_refused(model: Any) -> None:
    with pytest.raises(OptionError, match="model="):
        edge_et.answer("a.png", "Which?", model)
    with pytest.raises(OptionError, match="name_or_path="):
        edge_et.load(model)


@pytest.mark.parametrize("model", [None, "a name", Path("a/folder")])
def test_every_option_of_an_answer_is_passed_on(
    monkeypatch: pytest.MonkeyPatch, model: Any
) -> None:
    pipeline = Recorder()
    monkeypatch.setattr(api, "_kept", {None if model is None else str(model): pipeline})
    assert edge_et.answer("a.png", "Which?", model, **EVERY) == "an answer"  # type: ignore[arg-type]
    assert pipeline.calls == [(("a.png", "Which?"), EVERY)]


def test_a_bundle_is_opened_as_it_is_where_nobody_says_otherwise(
    tiny_bundle: Path, opened: Opened
) -> None:
    assert edge_et.load(tiny_bundle) is opened
    assert opened.bundle == load_bundle(tiny_bundle)
    assert opened.settings == Settings()
    assert opened.snapshots is None
    keywords = {
        "snapshots": None,
        "image_kv_bytes": DEFAULT_IMAGE_KV_BYTES,
        "engine": None,
        "kv_type": "f16",
        "flash_attention": False,
        "convert_weights": True,
        "makes": True,
        "mapped": False,
        "preparation": opened.preparation,
    }
    assert opened.open_model.keywords == keywords


def test_a_memory_limit_decides_how_a_bundle_is_opened(
    monkeypatch: pytest.MonkeyPatch, tiny_bundle: Path, opened: Opened
) -> None:
    plan = MemoryPlan(
        limit_bytes=10,
        parts={"process": 9},
        peak_bytes=9,
        keeps_tower=False,
        maps_weights=True,
        batch_positions=64,
        context_lengths=(256,),
        max_pixels=8,
        image_cache_bytes=7,
        image_kv_bytes=6,
        converts_weights=False,
    )
    monkeypatch.setattr(api, "plan_memory", lambda *_: plan)
    edge_et.load(tiny_bundle, max_memory_bytes=10)
    assert opened.bundle.manifest.perceiver.context_length == 256
    assert opened.settings == plan.settings(Settings())
    assert not opened.settings.keeps_tower
    assert opened.preparation is None
    given = opened.open_model.keywords
    assert (given["mapped"], given["makes"], given["convert_weights"]) == (True, False, False)
    assert given["image_kv_bytes"] == 6


def test_whether_weights_are_converted_is_passed_on(tiny_bundle: Path, opened: Opened) -> None:
    edge_et.load(tiny_bundle, convert_weights=False)
    assert opened.open_model.keywords["convert_weights"] is False


@pytest.mark.usefixtures("many_cpus")
@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("threads", 17),
        ("max_pixels", 5),
        ("image_cache_bytes", 0),
        ("kv_type", "q8_0"),
        ("prompt_lookup", True),
    ],
)
def test_every_option_of_a_bundle_is_passed_on(
    tiny_bundle: Path, opened: Opened, option: str, value: Any
) -> None:
    edge_et.load(tiny_bundle, **{option: value})
    assert opened.settings == Settings(**{option: value})


def test_limits_of_pictures_are_passed_on(tiny_bundle: Path, opened: Opened) -> None:
    edge_et.load(tiny_bundle, max_images=3, max_images_bytes=4)
    assert opened.settings.image_limits == ImageLimits(images=3, size_bytes=4)


def test_copies_of_kv_caches_get_what_these_leave(tiny_bundle: Path, opened: Opened) -> None:
    def copies(**options: int) -> int:
        edge_et.load(tiny_bundle, **options)  # type: ignore[arg-type]
        return int(opened.open_model.keywords["image_kv_bytes"])

    needed = kv_cache_bytes(load_bundle(tiny_bundle), "f16", 1)
    assert copies(image_kv_bytes=7) == 7
    assert copies(image_kv_bytes=7, max_kv_bytes=needed + 5) == 5
    assert copies(image_kv_bytes=7, max_kv_bytes=needed) == 0
    assert copies(max_kv_bytes=2 * needed) == needed


@pytest.mark.usefixtures("many_cpus")
def test_a_profile_is_used_unless_the_caller_wants_none(tiny_bundle: Path, opened: Opened) -> None:
    bundle = load_bundle(tiny_bundle)
    write_profile(bundle, threads=9)
    edge_et.load(tiny_bundle)
    assert opened.settings == Settings(threads=9, kv_type="f32", flash_attention=True)
    edge_et.load(tiny_bundle, use_profile=False)
    assert opened.settings == Settings()


def test_settings_tell_the_threads_that_are_used(
    tiny_bundle: Path, opened: Opened, caplog: pytest.LogCaptureFixture
) -> None:
    write_profile(load_bundle(tiny_bundle), threads=513)
    edge_et.load(tiny_bundle)
    assert opened.settings is not None
    assert opened.settings.threads == available_cpus()
    edge_et.load(tiny_bundle, threads=512)
    assert opened.settings.threads == available_cpus()
    assert len(caplog.records) == 2


@pytest.fixture
def profiled(tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A bundle whose profile has weights that are whole, and no model."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    bundle = load_bundle(tiny_bundle)
    folder = profile_folder(bundle)
    folder.mkdir(parents=True)
    (folder / "made.gguf").write_bytes(b"no weights")
    write_profile(bundle, perceiver=file_ref(folder / "made.gguf"))
    return tiny_bundle


def test_a_profile_whose_weights_cannot_be_opened_is_passed_over(
    profiled: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with edge_et.load(profiled) as pipe:
        assert pipe.image_cost(EXAMPLES / "cat.png").tiles == 1
    ours = [record for record in caplog.records if record.name == "edge_et.pipeline.api"]
    assert [record.levelname for record in ours] == ["WARNING"]
    assert "made.gguf" in ours[0].getMessage()
    assert "edge-et autotune makes a new one" in ours[0].getMessage()


@pytest.mark.parametrize("failure", ["no version", "no folder"])
def test_a_cache_that_cannot_be_had_fails_no_answer(
    tiny_bundle: Path,
    opened: Opened,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    failure: str,
) -> None:
    if failure == "no version":
        monkeypatch.setattr(
            device_profile, "version", lambda _: metadata.version("no-such-package")
        )
    else:
        (tmp_path / "gone").mkdir()
        monkeypatch.chdir(tmp_path / "gone")
        (tmp_path / "gone").rmdir()
    edge_et.load(tiny_bundle, cache_dir="kept")
    assert opened.snapshots is None
    (record,) = caplog.records
    assert "nothing is kept in kept" in record.getMessage()


def test_snapshots_lie_where_the_caller_wants_them_for_models_and_tower_alike(
    tiny_bundle: Path, opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    edge_et.load(tiny_bundle, cache_dir="kept", cache_bytes=2**20)
    assert opened.snapshots is not None
    assert opened.open_model.keywords["snapshots"] is opened.snapshots
    assert not (tmp_path / "kept").exists()  # nothing is touched before it is needed
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    opened.snapshots.later(opened.snapshots.key("test"), lambda: np.zeros(8, np.uint8))
    opened.snapshots.close()
    assert list((tmp_path / "kept" / "snapshots").rglob("*.snapshot"))


def test_a_wrong_option_is_told_before_a_missing_bundle(opened: Opened, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="cache_bytes"):
        edge_et.load(tmp_path / "none", cache_bytes=-1)


def test_lookup_is_the_old_name_of_prompt_lookup(tiny_bundle: Path, opened: Opened) -> None:
    with pytest.warns(DeprecationWarning, match="prompt_lookup") as caught:
        edge_et.load(tiny_bundle, lookup=True)  # type: ignore[call-arg]
    assert opened.settings.prompt_lookup
    assert [warning.filename for warning in caught] == [__file__]
