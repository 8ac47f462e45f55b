"""Programs that are started again: answers of fresh pipelines that share a folder."""

import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from PIL import Image
from tiny.bundle import build_bundle
from tiny.engine import ON_PREBUILT, OTHER_KV_TYPE, has_f32_caches
from tiny.places import EXAMPLES
from tiny.tower import write_tower

import edge_et
from edge_et.bundle import file_ref, read_manifest, save_manifest
from edge_et.errors import ModelFileError
from edge_et.image import ImageTokens
from edge_et.llm import (
    ImageSegment,
    KVCacheSettings,
    LanguageModel,
    LlamaKVCache,
    Segment,
    Tokenizer,
    TokenSegment,
    positions_of,
)
from edge_et.results import Answer, ExtractionToken

DEMO = EXAMPLES / "cat.png"
QUESTION, OTHER_QUESTION = "What is this?", "What is at the top left?"
OTHER_IMAGE = np.random.default_rng(5).integers(0, 256, (90, 70, 3), np.uint8)
PREFIX: list[Segment] = [
    TokenSegment(tuple(range(20, 31))),
    ImageSegment(
        ImageTokens(np.random.default_rng(0).normal(0, 1, (21, 32)).astype(np.float32), "a")
    ),
]
BEHIND = TokenSegment(tuple(range(40, 57)))


def texts(answer: Answer) -> tuple[str, str, str]:
    return answer.extraction, answer.reasoning, answer.text


def ask(
    cache_dir: Path | None, *questions: str, model: Any = None, image: Any = DEMO, **options: Any
) -> list[Answer]:
    """Answer questions in a pipeline of its own, as a program does that is started."""
    options = {"threads": 1, "use_profile": False} | options
    with edge_et.load(model, cache_dir=cache_dir, **options) as pipe:
        return [pipe.answer(image, question) for question in questions]


@pytest.fixture(scope="module")
def plain() -> list[Answer]:
    """The mini model's answers where nothing is kept."""
    return ask(None, QUESTION, OTHER_QUESTION)


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory, plain: list[Answer]) -> Path:
    """A folder in which a program has left the demo picture."""
    folder = tmp_path_factory.mktemp("warm")
    assert texts(ask(folder, QUESTION)[0]) == texts(plain[0])
    return folder


def copy_of(folder: Path, target: Path) -> list[Path]:
    """Copy a folder's entries and return the copies: image tokens first, they are smaller."""
    (target / "snapshots").mkdir(parents=True)
    for path in (folder / "snapshots").iterdir():
        (target / "snapshots" / path.name).write_bytes(path.read_bytes())
    return sorted((target / "snapshots").iterdir(), key=lambda path: path.stat().st_size)


def was_recalled(answer: Answer) -> tuple[bool, bool]:
    """Return whether the tower did not run, and whether the image was not prefilled."""
    vision, extract = answer.usage["vision"], answer.usage["extract"]
    return vision.evaluated_tokens == 0, extract.reused_tokens >= 64


def test_a_program_started_again_runs_neither_tower_nor_image_prefill(
    warm: Path, plain: list[Answer]
) -> None:
    for question, expected in zip((QUESTION, OTHER_QUESTION), plain, strict=True):
        (answer,) = ask(warm, question)
        assert texts(answer) == texts(expected)
        vision, extract = answer.usage["vision"], answer.usage["extract"]
        assert (vision.evaluated_tokens, vision.reused_tokens) == (0, 126)
        assert extract.evaluated_tokens < 40
        whole = expected.usage["extract"]
        assert extract.evaluated_tokens + extract.reused_tokens == (
            whole.evaluated_tokens + whole.reused_tokens
        )


@pytest.mark.parametrize("damaged", [0, 1])
def test_a_damaged_entry_is_made_again(
    warm: Path, plain: list[Answer], tmp_path: Path, damaged: int
) -> None:
    path = copy_of(warm, tmp_path)[damaged]
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x10
    path.write_bytes(data)
    (answer,) = ask(tmp_path, QUESTION)
    assert texts(answer) == texts(plain[0])
    assert was_recalled(answer) == (damaged != 0, damaged != 1)
    (answer,) = ask(tmp_path, OTHER_QUESTION)
    assert texts(answer) == texts(plain[1])
    assert was_recalled(answer) == (True, True)


def test_other_settings_find_nothing(warm: Path, tmp_path: Path) -> None:
    copy_of(warm, tmp_path)
    for options, tower_does_not_run in (
        ({"kv_type": OTHER_KV_TYPE}, True),
        ({"threads": 2}, False),
    ):
        (expected,) = ask(None, QUESTION, **options)
        (answer,) = ask(tmp_path, QUESTION, **options)
        assert was_recalled(answer) == (tower_does_not_run, False)
        assert texts(answer) == texts(expected)


def test_bundles_share_a_folder_and_not_their_entries(
    tiny_bundle: Path, tiny_pair: Path, tmp_path: Path
) -> None:
    for _ in range(2):
        for bundle in (tiny_bundle, tiny_pair):
            for image in (DEMO, OTHER_IMAGE):
                (expected,) = ask(None, QUESTION, model=bundle, image=image)
                (answer,) = ask(tmp_path, QUESTION, model=bundle, image=image)
                assert texts(answer) == texts(expected)
    assert answer.usage["vision"].evaluated_tokens == 0
    assert answer.usage["extract"].reused_tokens > 16
    # The perceivers differ in an adapter, if the engine applies any, and the towers in nothing.
    kv_caches = 2 if ON_PREBUILT else 4
    assert len(list((tmp_path / "snapshots").iterdir())) == 2 + kv_caches


def test_a_picture_seen_before_another_comes_back_too(tiny_bundle: Path, tmp_path: Path) -> None:
    with edge_et.load(tiny_bundle, threads=1, cache_dir=tmp_path) as pipe:
        first = pipe.answer(DEMO, QUESTION)
        pipe.answer(OTHER_IMAGE, QUESTION)
        assert pipe._snapshots is not None
        pipe._snapshots.close()  # a slow disk would not have the first picture yet
        again = pipe.answer(DEMO, QUESTION)
    assert texts(again) == texts(first)
    assert again.usage["extract"].reused_tokens > first.usage["extract"].reused_tokens


def test_what_was_begun_and_given_up_is_kept(tiny_bundle: Path, tmp_path: Path) -> None:
    (expected,) = ask(None, QUESTION, model=tiny_bundle)
    with edge_et.load(tiny_bundle, threads=1, cache_dir=tmp_path) as pipe:
        for event in pipe.stream(DEMO, QUESTION):
            if isinstance(event, ExtractionToken):
                break
    with edge_et.load(tiny_bundle, threads=1, cache_dir=tmp_path) as pipe:
        answer = pipe.answer(DEMO, QUESTION)
    assert texts(answer) == texts(expected)
    assert answer.usage["vision"].evaluated_tokens == 0
    assert answer.usage["extract"].reused_tokens > 16


def test_a_tower_that_cannot_be_opened_is_told_when_it_is_needed(tmp_path: Path) -> None:
    manifest = build_bundle(tmp_path / "bundle")
    ask(tmp_path / "cache", QUESTION, model=tmp_path / "bundle")
    other = tmp_path / "bundle" / "other.onnx"
    write_tower(other, width=16)
    vision = msgspec.structs.replace(manifest.vision, graph=file_ref(other))
    save_manifest(msgspec.structs.replace(manifest, vision=vision), tmp_path / "bundle")
    with edge_et.load(tmp_path / "bundle", threads=1, cache_dir=tmp_path / "cache") as pipe:
        for _ in range(2):
            with pytest.raises(ModelFileError, match=r"other\.onnx"):
                pipe.answer(DEMO, QUESTION)
        assert pipe.rethink(QUESTION, "A cat.").usage["think"].evaluated_tokens > 0


def test_a_folder_that_cannot_be_used_fails_no_answer(
    tiny_bundle: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_bytes(b"not a folder")
    (expected,) = ask(None, QUESTION, model=tiny_bundle)
    caplog.clear()
    with caplog.at_level(logging.WARNING, logger="edge_et.store.snapshots"):
        for answer in ask(tmp_path / "file", QUESTION, QUESTION, model=tiny_bundle):
            assert texts(answer) == texts(expected)
    assert len(caplog.records) == 1


def test_without_room_nothing_is_kept(tiny_bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(edge_et.errors.OptionError, match="cache_bytes"):
        edge_et.load(tiny_bundle, cache_dir=tmp_path, cache_bytes=-1)
    ask(tmp_path, QUESTION, model=tiny_bundle, cache_bytes=0)
    assert list(tmp_path.iterdir()) == []


def test_the_command_line_keeps_pictures(tiny_bundle: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "edge_et", "answer", str(DEMO), QUESTION, "--json"]
    command += ["--model", str(tiny_bundle), "--threads", "1", "--cache-dir", str(tmp_path)]
    first, second = (
        json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
        for _ in range(2)
    )
    assert first["text"] == second["text"]
    assert first["usage"]["vision"]["evaluated_tokens"] == 16
    assert second["usage"]["vision"]["evaluated_tokens"] == 0


@pytest.fixture(scope="module")
def model(tiny_bundle: Path) -> Iterator[LanguageModel]:
    spec = read_manifest(tiny_bundle / "bundle.json").perceiver
    model = LanguageModel(
        tiny_bundle / "perceiver.gguf",
        spec,
        adapter=None if ON_PREBUILT else tiny_bundle / "perceiver-lora.gguf",
        token_count=Tokenizer(tiny_bundle / "tokenizer.json").size,
    )
    yield model
    model.close()


def new_kv_cache(
    model: LanguageModel, kv_type: Any = "f16", length: int = 200, flash: bool = False
) -> LlamaKVCache:
    return model.new_kv_cache(
        KVCacheSettings(context_length=length, threads=1, kv_type=kv_type, flash_attention=flash)
    )


@pytest.mark.parametrize(
    ("kv_type", "flash"),
    [("f16", False), pytest.param("f32", False, marks=has_f32_caches), ("f16", True)],
)
def test_what_is_saved_behind_an_answer_is_what_the_prefill_left(
    model: LanguageModel, kv_type: Any, flash: bool
) -> None:
    positions = positions_of(PREFIX)
    context = new_kv_cache(model, kv_type, flash=flash)
    context.prefill(PREFIX)
    at_once = context.save(positions)
    context.prefill([*PREFIX, BEHIND])
    expected = context.logits
    for token in (5, 6, 7):
        context.decode(token)
    behind = context.save(positions)
    assert at_once is not None
    assert behind is not None
    assert np.array_equal(at_once, behind)
    assert context.prefill([*PREFIX, BEHIND]).reused > len(positions)  # saving dropped nothing

    other = new_kv_cache(model, kv_type, flash=flash)
    other.prefill([BEHIND, *PREFIX, BEHIND])  # what was held before makes no difference
    assert other.restore(positions, behind)
    assert other.prefill([*PREFIX, BEHIND]).reused == len(positions)
    assert np.array_equal(other.logits, expected)
    assert np.array_equal(other.save(positions), behind)  # type: ignore[arg-type]


def test_saving_over_and_over_fills_nothing(model: LanguageModel) -> None:
    context = new_kv_cache(model, length=64)
    for _ in range(20):
        context.prefill([*PREFIX, BEHIND])
        assert context.save(positions_of([*PREFIX, BEHIND])) is not None
        context.prefill([BEHIND, *PREFIX])
    context.prefill([*PREFIX, TokenSegment(tuple(range(60, 92)))])
    assert context.cached_positions == 64


def test_only_what_is_held_can_be_saved(model: LanguageModel) -> None:
    context = new_kv_cache(model)
    assert context.save(positions_of(PREFIX)) is None
    context.prefill(PREFIX[:1])
    assert context.save(positions_of(PREFIX)) is None
    context.prefill(PREFIX)
    context.close()
    assert context.save(positions_of(PREFIX)) is None


def test_a_state_of_another_cache_is_refused_and_harms_nothing(model: LanguageModel) -> None:
    positions = positions_of(PREFIX)
    other, context = new_kv_cache(model, flash=True), new_kv_cache(model)
    other.prefill(PREFIX)
    context.prefill([*PREFIX, BEHIND])
    expected, own = context.logits, context.save(positions)
    foreign = other.save(positions)
    assert own is not None
    assert foreign is not None
    for data in (foreign, own[:-1], own[:8], own[:0]):
        assert not context.restore(positions, data)
        assert context.cached_positions == 0
        context.prefill([*PREFIX, BEHIND])
        assert np.array_equal(context.logits, expected)
    assert not context.restore(positions[:-1], own)  # it holds another number of positions
    context.prefill([*PREFIX, BEHIND])
    assert np.array_equal(context.logits, expected)


def test_a_picture_is_what_is_asked_about_not_its_file(tiny_bundle: Path, tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    for number, image in enumerate((DEMO, DEMO, OTHER_IMAGE)):
        picture = Image.fromarray(image) if isinstance(image, np.ndarray) else Image.open(image)
        picture.save(path)
        (expected,) = ask(None, QUESTION, model=tiny_bundle, image=path)
        (answer,) = ask(tmp_path / "cache", QUESTION, model=tiny_bundle, image=path)
        assert texts(answer) == texts(expected)
        assert (answer.usage["vision"].evaluated_tokens == 0) == (number == 1)
