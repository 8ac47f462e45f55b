"""Bundles of Qwen3.5 with pictures, held to transformers: prompts, pixels, logits, answers."""

import dataclasses
import json
import logging
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest
from tiny.engine import ON_PREBUILT
from tiny.idefics3 import picture
from tiny.qwen35_vl import BLOCK, IMAGE, LEAST, MOST, PATCH, Reference, patches_of, write_qwen35_vl
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

import edge_et
from edge_et.bundle import load_bundle, save_manifest
from edge_et.errors import CancelledError, ImageInputError
from edge_et.export.building.build_bundle import build_bundle
from edge_et.export.building.build_files import BuildOptions
from edge_et.export.llm.llama_logits import prompt_logits
from edge_et.export.vision.export_tower import MAX_TOKEN_ERROR
from edge_et.image import ImageTokens, plan_image, split_tiles, to_pixel_values
from edge_et.llm import (
    ImageSegment,
    KVCacheSettings,
    LanguageModel,
    LlamaKVCache,
    Segment,
    Tokenizer,
    fill,
    in_a_row,
    system_turn,
    to_segments,
    user_turn,
)
from edge_et.results import Answer

pytestmark = pytest.mark.skipif(ON_PREBUILT, reason="llama.cpp alone has such models")

WORDS = "What is on the table?"
MAX_LOGIT_ERROR = 3e-3
FEW = {"max_extraction_tokens": 6, "max_thinking_tokens": 6, "max_answer_tokens": 4, "seed": 1}


def sizes() -> list[tuple[int, int]]:
    """Draw sizes of pictures, many of them thin, small, or near halves of blocks.

    Left out are those that the processor refuses, as more than 200 times as long as wide, and those
    of which it makes more blocks along a side than a picture shall have tokens: ours are shorter.
    """
    chance = random.Random(41)
    drawn = [(chance.randint(1, 400), chance.randint(1, 400)) for _ in range(200)]
    small = [(chance.randint(1, 30), chance.randint(1, 30)) for _ in range(100)]
    thin = [(chance.randint(1, 6), chance.randint(20, 300)) for _ in range(60)]
    halves = [
        tuple(BLOCK * chance.randint(0, 6) + BLOCK // 2 + chance.choice((-1, 0, 1)) for _ in "wh")
        for _ in range(60)
    ]
    pairs = [*drawn, *small, *thin, *((height, width) for width, height in thin), *halves]
    taken = [(w, h) for w, h in pairs if w and h and max(w, h) <= 200 * min(w, h)]
    return [size for size in taken if max(shown(*size)) <= MOST * BLOCK]


def shown(width: int, height: int) -> tuple[int, int]:
    """Return height and width that the processor resizes a picture to."""
    area = BLOCK**2
    return smart_resize(height, width, BLOCK, LEAST * area, MOST * area)


class Exported:
    """A bundle of float32 models, the parts that the runtime makes of it, and transformers."""

    def __init__(self, folder: Path, most: int = MOST) -> None:
        source = write_qwen35_vl(folder / "checkpoint", most=most)
        options = BuildOptions(quantization="F32", vision_quantization="none")
        self.path = build_bundle(str(source), folder / "bundle", options=options).path
        self.manifest = load_bundle(self.path).manifest
        self.reference = Reference(source)
        self.tokenizer = Tokenizer(self.path / "tokenizer.json")

    def segments(self, images: list[ImageTokens], words: str = WORDS) -> tuple[Segment, ...]:
        """What the runtime makes of a question about pictures that are together."""
        chat, extract = self.manifest.perceiver.chat, self.manifest.extract
        assert self.manifest.direct is not None
        row = in_a_row(images, extract.between_pictures)
        content = fill(self.manifest.direct.prompt, {"question": words}, row)
        return to_segments([*system_turn(chat), *user_turn(chat, content)], self.tokenizer)

    def check_pictures(self, sizes: list[tuple[int, int]]) -> None:
        """Compare the tokens of a whole prompt, and the pixel values, with transformers."""
        vision = self.manifest.vision
        images = [picture(*size) for size in sizes]
        expected = self.reference.inputs(images, WORDS)
        plans = [plan_image(vision, size) for size in sizes]
        ids: list[int] = []
        rows = [np.zeros((plan.image_tokens, 1), np.float32) for plan in plans]
        for segment in self.segments([ImageTokens(row, "") for row in rows]):
            is_image = isinstance(segment, ImageSegment)
            ids += [IMAGE] * len(segment) if is_image else list(segment.ids)
        assert ids == expected["input_ids"][0].tolist()
        tiles = [
            to_pixel_values(tile, vision.processing)
            for image in images
            for tile in split_tiles(image, vision.processing, None)
        ]
        found = [patches_of(tile, PATCH, BLOCK // PATCH, 2) for tile in tiles]
        grids = [grid for _, grid in found]
        assert [list(grid) for grid in grids] == expected["image_grid_thw"].tolist()
        assert [plan.token_grid for plan in plans] == [
            (rows * PATCH // BLOCK, columns * PATCH // BLOCK) for _, rows, columns in grids
        ]
        patches = np.concatenate([patches.numpy() for patches, _ in found])
        assert np.array_equal(patches, expected["pixel_values"].numpy())


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return Exported(tmp_path_factory.mktemp("qwen35"))


@pytest.fixture(scope="module")
def cache(exported: Exported) -> Iterator[LlamaKVCache]:
    spec, path = exported.manifest.perceiver, exported.path / "perceiver.gguf"
    model = LanguageModel(path, spec, adapter=None, token_count=exported.tokenizer.size)
    yield model.new_kv_cache(KVCacheSettings(context_length=1024, threads=1, kv_type="f32"))
    model.close()


def test_the_manifest_asks_as_the_family_is_asked(exported: Exported) -> None:
    manifest = exported.manifest
    assert manifest.perceiver.architecture == "qwen35"
    assert manifest.vision.places == "grid"
    shown = "<|vision_start|>{image}<|vision_end|>"
    assert manifest.extract.prompt.startswith(f"{shown}Can you describe")
    assert manifest.direct is not None
    assert manifest.direct.prompt == f"{shown}{{question}}"
    assert manifest.perceiver.chat.system is None
    assert manifest.perceiver.chat.assistant_start_suffix == "<think>\n\n</think>\n\n"


def test_prompts_and_pixels_of_many_sizes_are_those_of_the_processor(exported: Exported) -> None:
    drawn = sizes()
    assert len(drawn) > 400
    for size in drawn:
        exported.check_pictures([size])


def test_prompts_of_several_pictures_are_those_of_the_processor(exported: Exported) -> None:
    exported.check_pictures([(64, 40), (20, 90), (7, 5)])


@pytest.mark.parametrize("sizes", [[(64, 40)], [(32, 32), (20, 90), (7, 5)]], ids=str)
def test_logits_and_greedy_tokens_behind_pictures(
    exported: Exported, cache: LlamaKVCache, sizes: list[tuple[int, int]]
) -> None:
    pictures = [picture(*size) for size in sizes]
    logits, expected = exported.reference.write(pictures, WORDS, 32, exported.tokenizer.size)
    with edge_et.load(exported.path, threads=2) as pipe:
        segments = exported.segments([pipe.encode_image(image) for image in pictures])
    cache.prefill(segments)
    assert np.abs(cache.logits - logits).max() < MAX_LOGIT_ERROR
    (by_tools,) = prompt_logits(exported.path / "perceiver.gguf", [segments])
    assert np.abs(by_tools[-1, : len(logits)] - logits).max() < MAX_LOGIT_ERROR
    written = []
    for _ in expected:
        written.append(int(np.argmax(cache.logits)))
        cache.decode(written[-1])
    assert written == expected
    assert len(set(written)) > 5


def test_image_tokens_of_the_bundle(exported: Exported) -> None:
    vision = exported.manifest.vision
    with edge_et.load(exported.path, threads=2) as pipe:
        for size in [(40, 24), (8, 8), (200, 30)]:
            image = pipe.encode_image(picture(*size))
            (tile,) = split_tiles(picture(*size), vision.processing, None)
            expected = exported.reference.image_tokens(to_pixel_values(tile, vision.processing))
            assert np.abs(image.rows - expected).max() < MAX_TOKEN_ERROR
            assert image.grid == (tile.height // BLOCK, tile.width // BLOCK)


def told(answer: Answer) -> tuple[object, ...]:
    return answer.extraction, answer.reasoning, answer.text, answer.finish_reasons


def test_later_questions_get_the_words_that_a_fresh_pipeline_writes(exported: Exported) -> None:
    """About one picture, about others in between, about an extraction that was changed."""
    cat, dog = picture(64, 40), picture(20, 90)
    asked = [(cat, WORDS), (cat, "Is there a cat?"), (dog, WORDS), (cat, WORDS)]
    fresh = []
    for image, question in asked:
        with edge_et.load(exported.path, threads=2) as pipe:
            fresh.append(pipe.answer(image, question, **FEW))
    assert len({answer.extraction for answer in fresh}) == 3
    with edge_et.load(exported.path, threads=2) as pipe:
        found = [pipe.answer(image, question, **FEW) for image, question in asked]
        edited = pipe.rethink(WORDS, "A red ball.", **FEW)
        session = pipe.session(cat)
        followed = [session.answer(question, **FEW) for _, question in asked[:2]]
    assert [told(answer) for answer in found] == [told(answer) for answer in fresh]
    assert [told(answer) for answer in followed] == [told(answer) for answer in fresh[:2]]
    rows = plan_image(exported.manifest.vision, cat.size).image_tokens
    assert found[1].usage["vision"].evaluated_tokens == 0
    assert found[1].usage["extract"].reused_tokens >= rows
    assert edited.extraction == "A red ball."
    with edge_et.load(exported.path, threads=2) as pipe:
        pipe.answer(cat, WORDS, **FEW)
        assert told(pipe.rethink(WORDS, "A red ball.", **FEW)) == told(edited)


@pytest.mark.parametrize("together", [False, True])
def test_snapshots_and_several_pictures(exported: Exported, tmp_path: Path, together: bool) -> None:
    images = [picture(64, 40), picture(20, 90)]
    folder = exported.path
    if together:
        folder = shutil.copytree(exported.path, tmp_path / "together")
        extract = msgspec.structs.replace(exported.manifest.extract, pictures="together")
        save_manifest(msgspec.structs.replace(exported.manifest, extract=extract), folder)
    plans = [plan_image(exported.manifest.vision, image.size) for image in images]
    rows = sum(plan.image_tokens for plan in plans)
    answers = []
    for _ in range(2):
        with edge_et.load(folder, threads=2, cache_dir=tmp_path / "cache") as pipe:
            answers.append(pipe.answer(images, WORDS, **FEW))
    first, again = answers
    assert first.usage["vision"].evaluated_tokens == rows
    assert again.usage["vision"].evaluated_tokens == 0
    assert told(again) == told(first)
    assert [one.text for one in again.extractions] == [one.text for one in first.extractions]
    with edge_et.load(folder, threads=2) as pipe:
        assert told(pipe.answer(images, WORDS, **FEW)) == told(first)
    if not together:
        assert sum(one.usage.reused_tokens for one in again.extractions) >= rows


def test_a_call_that_is_cancelled_changes_no_word(exported: Exported) -> None:
    image = picture(64, 40)
    with edge_et.load(exported.path, threads=2) as pipe:
        expected = pipe.answer(image, WORDS, **FEW)
    with edge_et.load(exported.path, threads=2) as pipe:
        for left in (1, 2, 3, 5, 8, 12):
            cancel = edge_et.CancelToken()
            events = pipe.stream(image, "A cat?", cancel=cancel, **FEW)
            for _ in range(left):
                next(events)
            cancel.cancel()
            with pytest.raises(CancelledError):
                list(events)
            assert told(pipe.answer(image, WORDS, **FEW)) == told(expected)


def test_places_are_not_warned_of(exported: Exported, caplog: pytest.LogCaptureFixture) -> None:
    """llama.cpp calls the place behind a picture non-consecutive, which it is."""
    caplog.set_level(logging.DEBUG)
    with edge_et.load(exported.path, threads=2) as pipe:
        pipe.answer([picture(64, 40), picture(40, 64)], WORDS, **FEW)
    told = [record for record in caplog.records if "non-consecutive" in record.message]
    assert told
    assert all(record.levelno == logging.DEBUG for record in told)


@pytest.mark.slow
def test_a_picture_of_more_rows_than_a_batch_holds(tmp_path: Path) -> None:
    large, image = Exported(tmp_path, most=1024), picture(200, 240)
    assert plan_image(large.manifest.vision, image.size).image_tokens == 750
    logits, expected = large.reference.write([image], WORDS, 16, large.tokenizer.size)
    spec = large.manifest.perceiver
    model = LanguageModel(
        large.path / "perceiver.gguf", spec, adapter=None, token_count=large.tokenizer.size
    )
    cache = model.new_kv_cache(KVCacheSettings(context_length=1024, threads=1, kv_type="f32"))
    with edge_et.load(large.path, threads=2) as pipe:
        segments = large.segments([pipe.encode_image(image)])
        first = pipe.answer(image, WORDS, **FEW)
        pipe.answer(image, "A cat?", **FEW)
        again = pipe.answer(image, WORDS, **FEW)
    assert told(again) == told(first)
    assert again.usage["extract"].reused_tokens >= 750
    cache.prefill(segments)
    assert np.abs(cache.logits - logits).max() < MAX_LOGIT_ERROR
    (by_tools,) = prompt_logits(large.path / "perceiver.gguf", [segments])
    assert np.abs(by_tools[-1, : len(logits)] - logits).max() < MAX_LOGIT_ERROR
    written = []
    for _ in expected:
        written.append(int(np.argmax(cache.logits)))
        cache.decode(written[-1])
    assert written == expected
    model.close()


@pytest.mark.slow
def test_the_command_with_an_int8_tower(tmp_path: Path) -> None:
    """Quantized models are judged on prompts with pictures, whose places they are told."""
    checkpoint = write_qwen35_vl(tmp_path / "checkpoint", is_sharp=False)
    out = tmp_path / "out"
    command = [sys.executable, "-m", "edge_et", "build", "--quant", "Q8_0", "--json"]
    done = subprocess.run(
        [*command, "--perceiver", str(checkpoint), "--out", str(out)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    errors = {step["name"]: step["error"] for step in json.loads(done.stdout)["steps"]}
    assert errors["perceiver vision int8 dynamic"] <= 0.01
    assert errors["perceiver llm F16"] < 1e-3
    with edge_et.load(out, threads=2) as pipe:
        assert pipe.answer(picture(64, 40), WORDS, **FEW).text


def test_image_tokens_without_their_grid_are_refused(exported: Exported) -> None:
    with edge_et.load(exported.path, threads=2) as pipe:
        image = pipe.encode_image(picture(64, 40))
        assert pipe.answer(image, WORDS, **FEW).text
        for grid in (None, (1, 2), (-3, -5), (0, 0), "35"):
            other = dataclasses.replace(image, grid=grid)
            with pytest.raises(ImageInputError, match="rows and columns"):
                pipe.answer(other, WORDS, **FEW)
