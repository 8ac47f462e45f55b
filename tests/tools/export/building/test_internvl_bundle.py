"""Bundles of InternVL, in both layouts, held to transformers: prompts, pixels, logits, answers."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.torch import load_file
from tiny.idefics3 import picture
from tiny.internvl import (
    MOST,
    SYSTEM,
    TOKENS,
    Reference,
    write_internvl,
    write_older_tokenizer_files,
    write_original,
)
from tiny.places import ROOT
from tiny.vlm import LLAVA
from transformers import Qwen3Config, Qwen3ForCausalLM

import edge_et
from edge_et.bundle import load_bundle
from edge_et.export.building.build_bundle import build_bundle
from edge_et.export.building.build_files import BuildOptions
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

WORDS = "What is on the table?"
MAX_LOGIT_ERROR = 3e-3
EMBEDDINGS = "language_model.model.embed_tokens.weight"
SIZES = [
    *((64, 64), (32, 32), (31, 33), (7, 5), (2, 2), (640, 480), (480, 640), (1000, 251)),
    *((37, 700), (128, 32), (33, 128), (900, 20), (129, 127), (512, 512), (300, 100), (100, 300)),
    *((255, 257), (96, 97), (1, 40), (40, 1)),
]


class Exported:
    """A bundle of float32 models, the parts that the runtime makes of it, and transformers."""

    def __init__(self, folder: Path, out: Path, source: Path) -> None:
        options = BuildOptions(quantization="F32", vision_quantization="none")
        self.path = build_bundle(str(folder), out, options=options).path
        self.manifest = load_bundle(self.path).manifest
        self.reference = Reference(source)
        table: NDArray[np.float32] = load_file(source / "model.safetensors")[EMBEDDINGS].numpy()
        self.table = table
        self.tokenizer = Tokenizer(self.path / "tokenizer.json")
        self.system = None if folder == source else SYSTEM

    def segments(self, images: list[ImageTokens], words: str = WORDS) -> tuple[Segment, ...]:
        """What the runtime makes of a question about pictures that are together."""
        chat, extract = self.manifest.perceiver.chat, self.manifest.extract
        assert self.manifest.direct is not None
        row = in_a_row(images, extract.between_pictures)
        content = fill(self.manifest.direct.prompt, {"question": words}, row)
        return to_segments([*system_turn(chat), *user_turn(chat, content)], self.tokenizer)

    def image_ids(self, size: tuple[int, int]) -> list[int]:
        """The tokens that a picture stands for, its own as `<IMG_CONTEXT>`."""
        vision = self.manifest.vision
        assert vision.markup is not None
        ids = [self._id(token) for token in vision.markup.tokens]
        first, *behind = plan_image(vision, size).markup
        image = [self._id("<IMG_CONTEXT>")] * vision.image_tokens_per_tile
        return [
            *(ids[row] for row in first),
            *(token for rows in behind for token in (*image, *(ids[row] for row in rows))),
        ]

    def _id(self, token: str) -> int:
        number = self.tokenizer.special_id(token)
        assert number is not None
        return number

    def check_pictures(self, sizes: list[tuple[int, int]]) -> None:
        """Compare the tokens of a whole prompt, and the pixel values, with transformers."""
        vision = self.manifest.vision
        images = [picture(*size) for size in sizes]
        expected = self.reference.inputs(images, WORDS, self.system)
        plans = [plan_image(vision, size) for size in sizes]
        shown = [ImageTokens(np.zeros((plan.image_tokens, 1), np.float32), "") for plan in plans]
        places = iter(sizes)
        ids: list[int] = []
        for segment in self.segments(shown):
            is_image = isinstance(segment, ImageSegment)
            new = self.image_ids(next(places)) if is_image else list(segment.ids)
            assert len(segment) == len(new)
            ids += new
        assert ids == expected["input_ids"][0].tolist()
        found = [
            to_pixel_values(tile, vision.processing)
            for image, plan in zip(images, plans, strict=True)
            for tile in split_tiles(image, vision.processing, plan.grid)
        ]
        assert np.array_equal(np.stack(found), expected["pixel_values"].numpy())


@pytest.fixture(
    scope="module", params=["transformers", pytest.param("original", marks=pytest.mark.slow)]
)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    folder = tmp_path_factory.mktemp("internvl")
    if request.param == "transformers":
        source = write_internvl(folder / "hf", "qwen2")
        return Exported(source, folder / "bundle", source)
    source = write_internvl(folder / "hf", "qwen3", tied=True)
    return Exported(write_original(folder / "original", source), folder / "bundle", source)


@pytest.fixture(scope="module")
def cache(exported: Exported) -> Iterator[LlamaKVCache]:
    spec, path = exported.manifest.perceiver, exported.path / "perceiver.gguf"
    model = LanguageModel(path, spec, adapter=None, token_count=exported.tokenizer.size)
    yield model.new_kv_cache(KVCacheSettings(context_length=1024, threads=1, kv_type="f32"))
    model.close()


def test_the_manifest_asks_as_the_family_is_asked(exported: Exported) -> None:
    manifest = exported.manifest
    assert manifest.extract.prompt.startswith("{image}\nPlease describe the image in detail")
    assert manifest.extract.between_pictures == "\n"
    assert manifest.direct is not None
    assert manifest.direct.prompt == "{image}\n{question}"
    assert manifest.think.prompt.startswith("Question: {question}")
    # Room for all of the picture, a grid of six, and the marks.
    assert manifest.perceiver.context_length > (MOST + 1) * TOKENS + 2


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_prompts_and_pixels_are_those_of_the_processor(
    exported: Exported, size: tuple[int, int]
) -> None:
    exported.check_pictures([size])


def test_prompts_of_several_pictures_are_those_of_the_processor(exported: Exported) -> None:
    exported.check_pictures([(64, 40), (20, 90), (7, 5)])


@pytest.mark.slow
def test_prompts_and_pixels_of_many_sizes(exported: Exported) -> None:
    content = json.loads((ROOT / "tests/data/tiling/reference.json").read_text())
    drawn = [(width, height) for width, height, *_ in content["ratio"]["small"]["grids"]]
    assert len(drawn) + len(SIZES) > 400
    for size in (*SIZES, *drawn):
        exported.check_pictures([size])


def test_rows_of_a_picture(exported: Exported) -> None:
    """Image tokens as the reference has them, and marks exactly as the embedding table."""
    size = (100, 60)
    tiles = exported.reference.inputs([picture(*size)], WORDS)["pixel_values"]
    with edge_et.load(exported.path, threads=2) as pipe:
        rows = pipe.encode_image(picture(*size)).rows
    ids = np.array(exported.image_ids(size))
    shown = ids == exported.reference.model.config.image_token_id
    expected = exported.reference.image_tokens(tiles).reshape(-1, rows.shape[1])
    assert len(expected) == 7 * TOKENS
    assert np.abs(rows[shown] - expected).max() < MAX_TOKEN_ERROR
    assert np.array_equal(rows[~shown], exported.table[ids[~shown]])


@pytest.mark.parametrize("sizes", [[(64, 40)], [(32, 32), (20, 90)]], ids=str)
def test_logits_and_greedy_tokens(
    exported: Exported, cache: LlamaKVCache, sizes: list[tuple[int, int]]
) -> None:
    pictures = [picture(*size) for size in sizes]
    logits, expected = exported.reference.write(
        pictures, WORDS, 32, exported.tokenizer.size, exported.system
    )
    with edge_et.load(exported.path, threads=2) as pipe:
        segments = exported.segments([pipe.encode_image(image) for image in pictures])
    cache.prefill(segments)
    assert np.abs(cache.logits - logits).max() < MAX_LOGIT_ERROR
    written = []
    for _ in expected:
        written.append(int(np.argmax(cache.logits)))
        cache.decode(written[-1])
    assert written == expected


FEW = {"max_extraction_tokens": 6, "max_thinking_tokens": 6, "max_answer_tokens": 4, "seed": 1}


def test_the_bundle_answers_and_reads_no_picture_twice(exported: Exported) -> None:
    image = picture(64, 40)
    with edge_et.load(exported.path, threads=2) as pipe:
        first = pipe.answer(image, WORDS, **FEW)
        again = pipe.answer(image, "Is there a cat?", **FEW)
        edited = pipe.rethink(WORDS, "A red ball.", **FEW)
        direct = pipe.answer_directly(image, WORDS, max_answer_tokens=4, seed=1)
    assert first.usage["extract"].generated_tokens == 6
    assert first.text
    assert again.usage["vision"].evaluated_tokens == 0
    assert again.usage["extract"].reused_tokens > len(exported.image_ids(image.size))
    assert edited.extraction == "A red ball."
    assert edited.text
    assert direct.usage["vision"].reused_tokens > 0


def test_snapshots_and_several_pictures(exported: Exported, tmp_path: Path) -> None:
    images = [picture(64, 40), picture(20, 90)]
    rows = sum(len(exported.image_ids(image.size)) for image in images)
    answers = []
    for _ in range(2):
        with edge_et.load(exported.path, threads=2, cache_dir=tmp_path) as pipe:
            answers.append(pipe.answer(images, WORDS, **FEW))
    first, again = answers
    assert first.usage["vision"].evaluated_tokens == rows
    assert again.usage["vision"].evaluated_tokens == 0
    assert again.text == first.text
    assert [one.text for one in again.extractions] == [one.text for one in first.extractions]
    assert sum(one.usage.reused_tokens for one in again.extractions) >= rows


@pytest.mark.slow
def test_the_commands_with_a_reasoner_and_an_int8_tower(tmp_path: Path) -> None:
    """No code in the checkpoint is run: it would end the command."""
    original = write_original(tmp_path / "original", write_internvl(tmp_path / "checkpoint"))

    def run(*arguments: object) -> Any:
        done = subprocess.run(
            [sys.executable, "-m", "edge_et", *map(str, arguments)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    reasoner, out = write_reasoner(tmp_path / "reasoner"), tmp_path / "out"
    write_older_tokenizer_files(original)
    models = "--perceiver", original, "--reasoner", reasoner
    built = run("build", *models, "--quant", "Q8_0", "--max-tiles", 3, "--out", out, "--json")
    assert {step["name"] for step in built["steps"]} >= {"perceiver prompt tokens", "bundle"}
    manifest = load_bundle(out).manifest
    assert manifest.reasoner is not None
    assert manifest.think.prompt.startswith("You are an excellent")
    pictures = [tmp_path / "a.png", tmp_path / "b.png"]
    for path, size in zip(pictures, ((64, 40), (20, 90)), strict=True):
        picture(*size).save(path)
    budgets = [f"--max-{name}-tokens=4" for name in ("extraction", "thinking", "answer")]
    told = run("answer", *pictures, WORDS, "--model", out, *budgets, "--json")
    assert told["text"]
    assert len(told["extractions"]) == 2


def write_reasoner(folder: Path) -> Path:
    """A Qwen3 alone, with a template for text."""
    Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=2048,
            hidden_size=64,
            intermediate_size=96,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=2,
            head_dim=32,
            max_position_embeddings=8192,
            tie_word_embeddings=True,
            eos_token_id=1976,
        )
    ).save_pretrained(folder)
    for path in LLAVA.iterdir():
        if path.name not in ("config.json", "model.safetensors"):
            shutil.copy(path, folder)
    return folder
