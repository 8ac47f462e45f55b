"""LFM2-VL held to what transformers computes of the same random checkpoint."""

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
from PIL import Image
from safetensors.torch import load_file
from tiny.engine import ON_PREBUILT
from tiny.idefics3 import picture
from tiny.lfm2_vl import START, Reference, reference_tokens, write_lfm2_vl
from tiny.sizes import REFERENCE
from tiny.vlm import edit_config, edit_tensors

import edge_et
from edge_et.bundle import Bundle, load_bundle
from edge_et.errors import CancelledError
from edge_et.export.building.build_bundle import build_bundle
from edge_et.export.building.build_files import BuildOptions
from edge_et.export.building.vlm_checkpoint import check_prompt_tokens, read_vlm
from edge_et.export.errors import (
    UnreadableCheckpointError,
    UnsupportedModelError,
    VocabularyError,
)
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

pytestmark = pytest.mark.skipif(ON_PREBUILT, reason="llama.cpp alone has such models")

WORDS = "What is on the table?"
MAX_LOGIT_ERROR = 3e-3
EMBEDDINGS = "model.language_model.embed_tokens.weight"
SIZES = [
    *((64, 64), (32, 32), (31, 33), (7, 5), (2, 2), (640, 480), (480, 640), (1000, 251)),
    *((37, 700), (128, 32), (33, 128), (900, 20), (129, 127), (300, 100), (1, 40), (40, 1)),
]
SMALL, LARGE = picture(25, 17), picture(100, 60)
FEW = {"max_extraction_tokens": 6, "max_thinking_tokens": 6, "max_answer_tokens": 4, "seed": 1}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_lfm2_vl(tmp_path_factory.mktemp("lfm2") / "checkpoint")


@pytest.fixture
def folder(written: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "checkpoint"
    copy.mkdir()
    for file in written.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    return copy


# The parts of a checkpoint


def test_the_chat_format(folder: Path) -> None:
    model = read_vlm(folder)
    chat = model.chat_format.chat
    assert (chat.start, chat.system, chat.stop_tokens) == (START, None, ("<|im_end|>",))
    assert (model.chat_format.image_prefix, model.chat_format.between_pictures) == ("{image}", "")
    assert check_prompt_tokens(model, "{image}Look at {hint}.").error == 0


@pytest.mark.parametrize(
    "change",
    [
        ("message['role'] +", "'x' +"),
        ("'<image>'", "'<image> '"),
        ("{{bos_token}}", "{{bos_token}} "),
    ],
)
def test_a_template_that_writes_other_turns(folder: Path, change: tuple[str, str]) -> None:
    path = folder / "chat_template.jinja"
    template = path.read_text()
    assert change[0] in template
    path.write_text(template.replace(*change))
    with pytest.raises(VocabularyError, match="is not understood"):
        read_vlm(folder)


def test_what_transformers_4_wrote_is_the_same_model(folder: Path, tmp_path: Path) -> None:
    expected, older = read_vlm(folder), read_vlm(write_lfm2_vl(tmp_path / "older", generation=4))
    assert older.llm.config == expected.llm.config
    assert older.vision == expected.vision
    assert older.chat_format == expected.chat_format


def test_embeddings_are_tied_unless_two_tables_differ(folder: Path) -> None:
    assert read_vlm(folder).language_model.tie_word_embeddings
    tables = load_file(folder / "model.safetensors")
    table = tables[EMBEDDINGS]
    edit_tensors(folder, lambda t: t.update({"lm_head.weight": table.clone()}))
    assert read_vlm(folder).language_model.tie_word_embeddings
    edit_tensors(folder, lambda t: t.update({"lm_head.weight": table * 2}))
    assert not read_vlm(folder).language_model.tie_word_embeddings


@pytest.mark.parametrize(
    ("changes", "error", "match"),
    [
        ({"text_config": None}, UnreadableCheckpointError, "no text_config"),
        ({"text_config": {"model_type": "llama"}}, UnsupportedModelError, "'llama'.*known: lfm2"),
    ],
)
def test_another_language_model(
    folder: Path, changes: dict[str, Any], error: type[Exception], match: str
) -> None:
    edit_config(folder, **changes)
    with pytest.raises(error, match=match):
        read_vlm(folder)


# The bundle


class Exported:
    """A bundle of float32 models, the parts that the runtime makes of it, and transformers."""

    def __init__(self, folder: Path, out: Path) -> None:
        options = BuildOptions(quantization="F32", vision_quantization="none")
        self.path = build_bundle(str(folder), out, options=options).path
        self.bundle: Bundle = load_bundle(self.path)
        self.manifest = self.bundle.manifest
        self.folder = folder
        self.reference = Reference(folder, self.manifest.vision)
        self.table: NDArray[np.float32] = load_file(folder / "model.safetensors")[
            EMBEDDINGS
        ].numpy()
        self.tokenizer = Tokenizer(self.path / "tokenizer.json")

    def segments(self, images: list[ImageTokens], words: str = WORDS) -> tuple[Segment, ...]:
        """What the runtime makes of a question about pictures that are together."""
        chat = self.manifest.perceiver.chat
        row = in_a_row(images, self.manifest.extract.between_pictures)
        content = fill("{image}{question}", {"question": words}, row)
        return to_segments([*system_turn(chat), *user_turn(chat, content)], self.tokenizer)

    def image_ids(self, size: tuple[int, int]) -> list[int]:
        """The tokens that a picture stands for, its own as `<image>`."""
        vision = self.manifest.vision
        assert vision.markup is not None
        ids = [self._id(token) for token in vision.markup.tokens]
        plan = plan_image(vision, size)
        assert plan.whole_tokens is not None
        first, *behind = plan.markup
        counts = [vision.image_tokens_per_tile] * (plan.tiles - 1) + [plan.whole_tokens]
        shown = zip(counts, behind, strict=True)
        image = self._id("<image>")
        return [
            *(ids[row] for row in first),
            *(t for count, rows in shown for t in ([image] * count + [ids[row] for row in rows])),
        ]

    def _id(self, token: str) -> int:
        number = self.tokenizer.special_id(token)
        assert number is not None
        return number

    def check_pictures(self, sizes: list[tuple[int, int]]) -> None:
        """Compare the tokens of a whole prompt with those of transformers' processor."""
        images = [Image.new("RGB", size) for size in sizes]
        expected = self.reference.inputs(images, WORDS)["input_ids"][0].tolist()
        plans = [plan_image(self.manifest.vision, size) for size in sizes]
        shown = [ImageTokens(np.zeros((plan.image_tokens, 1), np.float32), "") for plan in plans]
        places = iter(sizes)
        ids: list[int] = []
        for segment in self.segments(shown):
            is_image = isinstance(segment, ImageSegment)
            new = self.image_ids(next(places)) if is_image else list(segment.ids)
            assert len(segment) == len(new)
            ids += new
        assert ids == expected


@pytest.fixture(scope="module")
def exported(written: Path, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return Exported(written, tmp_path_factory.mktemp("built") / "bundle")


@pytest.fixture(scope="module")
def cache(exported: Exported) -> Iterator[LlamaKVCache]:
    spec, path = exported.manifest.perceiver, exported.path / "perceiver.gguf"
    model = LanguageModel(path, spec, adapter=None, token_count=exported.tokenizer.size)
    yield model.new_kv_cache(KVCacheSettings(context_length=1024, threads=1, kv_type="f32"))
    model.close()


def test_the_manifest_asks_as_the_family_is_asked(exported: Exported) -> None:
    manifest = exported.manifest
    assert manifest.extract.prompt.startswith("{image}Describe this image")
    assert manifest.direct is not None
    assert manifest.direct.prompt == "{image}{question}"
    assert manifest.direct.default
    assert manifest.perceiver.architecture == "lfm2"
    assert manifest.known_answers is not None
    # Room for a grid of six tiles, the whole picture and the marks.
    assert manifest.perceiver.context_length > 7 * 16 + 6 + 3


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_prompts_are_those_of_the_processor(exported: Exported, size: tuple[int, int]) -> None:
    exported.check_pictures([size])


def test_prompts_of_several_pictures_are_those_of_the_processor(exported: Exported) -> None:
    exported.check_pictures([(64, 40), (100, 60), (7, 5)])


@pytest.mark.slow
def test_prompts_of_400_sizes(exported: Exported) -> None:
    """Grids and sizes are those that transformers' image processor told of the same pictures."""
    pictures = REFERENCE["small"]["pictures"]
    assert len(pictures) > 400
    for width, height, columns, rows, *shown, _ in pictures:
        if max(width, height) < 100_000:
            plan = plan_image(exported.manifest.vision, (width, height))
            assert plan.grid == (None if columns * rows == 1 else (columns, rows))
            assert plan.whole_tokens == shown[0] * shown[1] // 64 or max(shown) > 16 * 8
            exported.check_pictures([(width, height)])


@pytest.mark.parametrize("image", [SMALL, LARGE], ids=["alone", "grid"])
def test_rows_of_a_picture(exported: Exported, image: Image.Image) -> None:
    """Image tokens as the reference has them, and marks exactly as the embedding table."""
    processing = exported.manifest.vision.processing
    tiles = split_tiles(image, processing, plan_image(exported.manifest.vision, image.size).grid)
    made = reference_tokens(exported.folder, [to_pixel_values(tile, processing) for tile in tiles])
    with edge_et.load(exported.path, threads=2) as pipe:
        rows = pipe.encode_image(image).rows
    ids = np.array(exported.image_ids(image.size))
    shown = ids == exported.reference.model.config.image_token_id
    assert np.abs(rows[shown] - np.concatenate(made)).max() < MAX_TOKEN_ERROR
    assert np.array_equal(rows[~shown], exported.table[ids[~shown]])


@pytest.mark.parametrize(
    "images", [[SMALL], [LARGE], [SMALL, LARGE]], ids=["alone", "grid", "several"]
)
def test_logits_and_greedy_tokens(
    exported: Exported, cache: LlamaKVCache, images: list[Image.Image]
) -> None:
    logits, expected = exported.reference.write(images, WORDS, 32, exported.tokenizer.size)
    with edge_et.load(exported.path, threads=2) as pipe:
        segments = exported.segments([pipe.encode_image(image) for image in images])
    cache.prefill(segments)
    assert np.abs(cache.logits - logits).max() < MAX_LOGIT_ERROR
    written = []
    for _ in expected:
        written.append(int(np.argmax(cache.logits)))
        cache.decode(written[-1])
    assert written == expected


# Answers


def told(answer: edge_et.Answer) -> tuple[str, str, str]:
    return answer.extraction, answer.reasoning, answer.text


def fresh(bundle: Path, images: Any, question: str, **options: Any) -> edge_et.Answer:
    with edge_et.load(bundle, threads=2, **options) as pipe:
        return pipe.answer(images, question, **FEW)


def test_what_was_asked_before_changes_no_word(exported: Exported) -> None:
    """A second question on the picture reuses it, also behind others and with other pictures."""
    asked = [(LARGE, WORDS), (LARGE, "Is there a cat?"), (SMALL, WORDS), (LARGE, WORDS)]
    asked.append(([LARGE, SMALL], WORDS))
    expected = [fresh(exported.path, *each) for each in asked]
    with edge_et.load(exported.path, threads=2) as pipe:
        for number, each in enumerate(asked):
            answer = pipe.answer(*each, **FEW)
            assert told(answer) == told(expected[number])
            if number == 1:
                assert answer.usage["vision"].evaluated_tokens == 0
                rows = len(exported.image_ids(LARGE.size))
                assert answer.usage["extract"].reused_tokens > rows
        again = pipe.rethink(WORDS, expected[0].extraction, **FEW)
        assert told(pipe.rethink(WORDS, expected[0].extraction, **FEW)) == told(again)
        assert told(pipe.answer(LARGE, WORDS, **FEW)) == told(expected[0])
        direct = pipe.answer_directly(LARGE, WORDS, max_answer_tokens=4, seed=1)
        assert direct.usage["extract"].generated_tokens == 0
        assert told(pipe.answer(LARGE, WORDS, **FEW)) == told(expected[0])


def test_neither_control_nor_further_looks_change_the_next_words(exported: Exported) -> None:
    expected = fresh(exported.path, LARGE, WORDS)
    with edge_et.load(exported.path, threads=2) as pipe:
        controlled = pipe.answer(LARGE, WORDS, confidence="control", **FEW)
        assert controlled.confidence is not None
        assert controlled.confidence.control is not None
        assert told(controlled) == told(expected)
        answer = pipe.answer(LARGE, WORDS, **FEW)
        assert told(answer) == told(expected)
        assert answer.usage["extract"].reused_tokens > len(exported.image_ids(LARGE.size))
        looked = pipe.answer(LARGE, WORDS, look_again=1, **FEW)
        assert told(pipe.answer(LARGE, WORDS, **FEW)) == told(expected)
        assert told(pipe.answer(LARGE, WORDS, look_again=1, **FEW)) == told(looked)


def test_snapshots_come_back_after_reopening(exported: Exported, tmp_path: Path) -> None:
    images = [SMALL, LARGE]
    rows = sum(len(exported.image_ids(image.size)) for image in images)
    expected = fresh(exported.path, images, WORDS)
    first, again = (fresh(exported.path, images, WORDS, cache_dir=tmp_path) for _ in range(2))
    assert first.usage["vision"].evaluated_tokens == rows
    assert again.usage["vision"].evaluated_tokens == 0
    assert sum(one.usage.reused_tokens for one in again.extractions) >= rows
    assert told(again) == told(first) == told(expected)


def test_a_call_that_is_cancelled_changes_no_word(exported: Exported) -> None:
    expected = fresh(exported.path, LARGE, WORDS)
    with edge_et.load(exported.path, threads=2) as pipe:
        for events in (1, 4, 9, 14):
            token = edge_et.CancelToken()
            stream = pipe.stream(SMALL, "Is there a cat?", cancel=token, **FEW)
            for _ in range(events):
                next(stream)
            token.cancel()
            with pytest.raises(CancelledError):
                list(stream)
            assert told(pipe.answer(LARGE, WORDS, **FEW)) == told(expected)


# Checkpoints that write down fields

FIELDS = "wood_color: The overall coloration\nwood_texture: smooth, rough, or grainy"


@pytest.fixture(scope="module")
def extractor(
    written: Path, reasoner: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path]:
    """A checkpoint that is named as one, and its bundle."""
    folder = tmp_path_factory.mktemp("extract") / "LFM2.5-VL-450M-Extract"
    shutil.copytree(written, folder)
    options = BuildOptions(quantization="F32", vision_quantization="none")
    out = folder.with_name("bundle")
    return folder, build_bundle(str(folder), out, reasoner=str(reasoner), options=options).path


def test_fields_are_told_as_the_card_tells_them(extractor: tuple[Path, Path]) -> None:
    folder, bundle = extractor
    manifest = load_bundle(bundle).manifest
    extract = manifest.extract
    assert (extract.system, extract.prompt) == ("{hint}", "{image}")
    reference = Reference(folder, manifest.vision)
    known = Tokenizer(bundle / "tokenizer.json").size
    _, expected = reference.write([SMALL], "", 6, known, FIELDS)
    with edge_et.load(bundle, threads=2) as pipe:
        extraction = pipe.extract(SMALL, WORDS, hint=FIELDS, max_extraction_tokens=6)
        assert list(extraction.tokens) == expected[: len(extraction.tokens)]
        assert extraction.hint == FIELDS
        answer = pipe.answer(SMALL, WORDS, hint=FIELDS, **FEW)
        assert (answer.hint, answer.extraction) == (FIELDS, extraction.text)
        # Other fields stand before the picture, which is then read anew, and encoded no more.
        other = pipe.extract(SMALL, WORDS, hint="a: b", max_extraction_tokens=6)
        assert other.tokens != extraction.tokens
        again = pipe.extract(SMALL, WORDS, hint=FIELDS, max_extraction_tokens=6)
        assert again.tokens == extraction.tokens


def test_a_question_alone_is_one_field(extractor: tuple[Path, Path]) -> None:
    with edge_et.load(extractor[1], threads=2) as pipe:
        extraction = pipe.extract(SMALL, WORDS, max_extraction_tokens=6)
        assert extraction.hint == f"answer: {WORDS}"
        told = pipe.extract(SMALL, WORDS, hint=f"answer: {WORDS}", max_extraction_tokens=6)
        assert told.tokens == extraction.tokens


@pytest.mark.slow
def test_the_commands_with_an_int8_tower(written: Path, tmp_path: Path) -> None:
    def run(*arguments: object) -> Any:
        done = subprocess.run(
            [sys.executable, "-m", "edge_et", *map(str, arguments)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    out = tmp_path / "out"
    options = "--quant", "Q8_0", "--max-tiles", 3, "--out", out, "--json"
    built = run("build", "--perceiver", written, *options)
    assert {step["name"] for step in built["steps"]} >= {"perceiver prompt tokens", "bundle"}
    names = {check.name for check in load_bundle(out).manifest.checks}
    assert any("int8" in name for name in names), names
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    for path, image in zip(paths, (SMALL, LARGE), strict=True):
        image.save(path)
    budgets = [f"--max-{name}-tokens=4" for name in ("extraction", "thinking", "answer")]
    answer = run("answer", *paths, WORDS, "--model", out, *budgets, "--json")
    assert answer["text"]
    assert len(answer["extractions"]) == 2
    assert run("doctor", out, "--json")
