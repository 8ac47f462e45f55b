"""Idefics3 and SmolVLM held to what transformers computes of the same random checkpoint."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from tiny.idefics3 import (
    EDGE_TILES,
    TILE,
    TOKENS,
    Kind,
    Reference,
    add_marks,
    picture,
    train_tokenizer,
    write_idefics3,
)
from tiny.places import ROOT
from tiny.vlm import edit_config, edit_tensors
from tokenizers import Regex, Tokenizer, normalizers

import edge_et
from edge_et.bundle import Bundle, Tiling, load_bundle
from edge_et.export.building.build_bundle import build_bundle
from edge_et.export.building.build_files import BuildOptions
from edge_et.export.building.vlm_checkpoint import check_prompt_tokens, load_tower, read_vlm
from edge_et.export.errors import (
    LeftoverTensorError,
    MissingTensorError,
    TensorShapeError,
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
    fill,
    system_turn,
    to_segments,
    user_turn,
)
from edge_et.llm import Tokenizer as RuntimeTokenizer

WORDS = "What is on the table?"
MAX_LOGIT_ERROR = 3e-3
EMBEDDINGS = "model.text_model.embed_tokens.weight"
SIZES = [
    *((64, 64), (32, 32), (31, 33), (7, 5), (2, 2), (640, 480), (480, 640), (1000, 251)),
    *((37, 700), (128, 32), (33, 128), (900, 20), (129, 127), (512, 512), (300, 100), (100, 300)),
    *((255, 257), (96, 97), (1, 40), (40, 1)),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_idefics3(tmp_path / "checkpoint")


# The parts of a checkpoint


@pytest.mark.parametrize(
    ("kind", "tile", "factor"), [("Idefics3", 32, 2), ("SmolVLM", 32, 4), ("SmolVLM", 30, 3)]
)
def test_image_tokens_and_marks(tmp_path: Path, kind: Kind, tile: int, factor: int) -> None:
    folder = write_idefics3(tmp_path / "checkpoint", kind, tile=tile, factor=factor)
    model = read_vlm(folder)
    pixels = torch.randn(3, 3, tile, tile, generator=torch.Generator().manual_seed(5))
    with torch.inference_mode():
        tokens, markup = load_tower(model)(pixels)
    expected = Reference(folder, kind).image_tokens(pixels)
    assert expected.shape == (3, model.vision.image_tokens_per_tile, 64)
    assert np.abs(tokens.numpy() - expected).max() < MAX_TOKEN_ERROR
    assert model.vision.markup is not None
    table = load_file(folder / "model.safetensors")[EMBEDDINGS]
    assert torch.equal(markup, table[list(model.vision.markup.ids)])
    assert len(model.vision.markup.spec.tokens) == len(model.vision.markup.ids) == 2 + 16 + 2


def test_facts_for_the_manifest(folder: Path) -> None:
    model = read_vlm(folder)
    assert model.vision.processing.tiling == Tiling(
        rule="edge", edge_tiles=EDGE_TILES, whole="last"
    )
    assert (model.vision.processing.resample, model.vision.processing.fit) == ("lanczos", "squash")
    assert (model.vision.processing.height, model.vision.image_tokens_per_tile) == (TILE, TOKENS)
    assert (model.chat_format.image_prefix, model.chat_format.text_prefix) == ("{image}", "")
    assert model.chat_format.chat.stop_tokens == ("<end_of_utterance>",)
    assert (model.chat_format.chat.start, model.chat_format.chat.system) == ("<|im_start|>", None)
    assert check_prompt_tokens(model, "{image}Look at {hint}.").error == 0


@pytest.mark.parametrize(("joined", "end"), [(True, ("\n\n",)), (False, ("\n", "\n"))])
def test_line_feeds_become_what_the_tokenizer_makes_of_them(
    tmp_path: Path, joined: bool, end: tuple[str, ...]
) -> None:
    tokenizer = train_tokenizer(joined_line_feeds=joined)
    markup = read_vlm(write_idefics3(tmp_path / "c", tokenizer=tokenizer)).vision.markup
    assert markup is not None
    assert (markup.spec.row_end, markup.spec.grid_end) == (("\n",), end)


def test_the_marks_of_smollm2s_own_tokenizer(tmp_path: Path) -> None:
    tokenizer = Tokenizer.from_file(str(ROOT / "models/mini/edge_et_mini/tokenizer.json"))
    add_marks(tokenizer)
    folder = write_idefics3(tmp_path / "c", tokenizer=tokenizer, rows=49_280)
    markup = read_vlm(folder).vision.markup
    assert markup is not None
    ids = dict(zip(markup.spec.tokens, markup.ids, strict=True))
    assert (markup.spec.row_end, markup.spec.grid_end) == (("\n",), ("\n\n",))
    assert (ids["\n"], ids["\n\n"]) == (198, 1116)


def test_tied_embeddings_need_no_second_table(tmp_path: Path) -> None:
    folder = write_idefics3(tmp_path / "c", tied=True)
    assert "lm_head.weight" not in load_file(folder / "model.safetensors")
    assert read_vlm(folder).language_model.tie_word_embeddings
    content = json.loads((folder / "config.json").read_text())
    text = content["text_config"] | {"tie_word_embeddings": False}
    edit_config(folder, text_config=text, tie_word_embeddings=True)
    assert read_vlm(folder).language_model.tie_word_embeddings


@pytest.mark.parametrize(
    ("file", "changes", "match"),
    [
        ("config.json", {"scale_factor": 3}, "scale_factor 3.*4 x 4 patches"),
        ("config.json", {"use_resampler": True}, "use_resampler"),
        ("preprocessor_config.json", {"do_normalize": False}, "normalizing"),
        ("preprocessor_config.json", {"resample": 3}, "resample 3"),
        ("preprocessor_config.json", {"do_image_splitting": False}, "do_image_splitting"),
        ("preprocessor_config.json", {"size": {"longest_edge": 100}}, "100 pixels.*multiple of 32"),
        ("preprocessor_config.json", {"max_image_size": {"longest_edge": 64}}, "tower takes 32"),
        ("preprocessor_config.json", {"image_processor_type": "X"}, "known: Idefics3ImageProc"),
        ("processor_config.json", {"image_seq_len": 64}, "image_seq_len 64.*4 image tokens"),
    ],
)
def test_settings_that_would_be_lost(
    folder: Path, file: str, changes: dict[str, Any], match: str
) -> None:
    edit_config(folder, file, **changes)
    with pytest.raises(UnsupportedModelError, match=match):
        read_vlm(folder)


@pytest.mark.parametrize(
    ("part", "changes", "error", "match"),
    [
        ("text_config", {"qk_layer_norms": True}, UnsupportedModelError, "qk_layer_norms"),
        ("text_config", {"model_type": "gemma"}, UnsupportedModelError, "'gemma'.*known: llama"),
        ("vision_config", {"num_channels": 1}, UnsupportedModelError, "1 channels"),
        ("vision_config", {"image_size": "x"}, UnreadableCheckpointError, "image_size"),
        ("vision_config", {"intermediate_size": 65}, TensorShapeError, "fc1"),
    ],
)
def test_settings_of_a_part(
    folder: Path, part: str, changes: dict[str, Any], error: type[Exception], match: str
) -> None:
    content = json.loads((folder / "config.json").read_text())
    edit_config(folder, **{part: content[part] | changes})
    with pytest.raises(error, match=match):
        read_vlm(folder)


def test_what_published_configs_hold_besides(folder: Path) -> None:
    """Keys of SmolVLM's config.json that its model does not read, some with other values."""
    expected = read_vlm(folder)
    besides = {
        "_flash_attn_2_enabled": True,
        "neftune_noise_alpha": 0.0,
        "perceiver_config": {"model_type": "vllama3", "resampler_depth": 6},
        "pixel_shuffle_factor": 4,
        "qk_layer_norms": False,
        "use_resampler": False,
    }
    content = json.loads((folder / "config.json").read_text())
    text = content["text_config"] | besides | {"architectures": ["VLlama3ForCausalLM"]}
    vision = content["vision_config"] | {"use_base_siglip": True, "size": {"longest_edge": 2048}}
    edit_config(folder, **besides, text_config=text, vision_config=vision, rope_theta=7.0)
    found = read_vlm(folder)
    assert found.vision == expected.vision
    assert found.language_model == expected.language_model


def test_a_checkpoint_that_transformers_5_saved_whole(folder: Path) -> None:
    expected = read_vlm(folder)
    alone = folder / "preprocessor_config.json"
    inner = json.loads(alone.read_text())
    alone.unlink()
    edit_config(folder, "processor_config.json", image_processor=inner)
    assert read_vlm(folder).vision.processing == expected.vision.processing


def test_one_tile_a_picture_may_be_meant_either_way(folder: Path) -> None:
    edit_config(folder, "preprocessor_config.json", size={"longest_edge": TILE})
    whole = read_vlm(folder).vision.processing
    assert whole.tiling is not None
    assert whole.tiling.edge_tiles == 1
    edit_config(folder, "preprocessor_config.json", do_image_splitting=False)
    assert read_vlm(folder).vision.processing == whole


def test_tensors_of_nobody_and_none(folder: Path) -> None:
    projection = "model.connector.modality_projection.proj.weight"
    edit_tensors(folder, lambda t: t.update({"model.perceiver.x": torch.zeros(2)}))
    with pytest.raises(LeftoverTensorError, match=r"model\.perceiver\.x"):
        read_vlm(folder)
    edit_tensors(folder, lambda t: [t.pop("model.perceiver.x"), t.pop(projection)])
    with pytest.raises(MissingTensorError, match=r"0\.weight"):
        read_vlm(folder)


def test_a_tokenizer_without_a_mark(folder: Path) -> None:
    path = folder / "tokenizer.json"
    path.write_text(path.read_text().replace("<row_4_col_2>", "<row_4_col_9>"))
    with pytest.raises(VocabularyError, match="no token <row_4_col_2>"):
        read_vlm(folder)


def test_a_tokenizer_that_makes_one_token_of_two_pictures(folder: Path) -> None:
    path = folder / "tokenizer.json"
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.normalizer = normalizers.Replace(Regex(".+"), "a")
    tokenizer.save(str(path))
    content = json.loads(path.read_text())
    content["added_tokens"] = [
        token for token in content["added_tokens"] if token["content"] != "<image>"
    ]
    path.write_text(json.dumps(content))
    with pytest.raises(VocabularyError, match="no token <image>"):
        read_vlm(folder)


@pytest.mark.parametrize("name", ["fake_image_token", "global_image_token", "image_token"])
@pytest.mark.parametrize("inside", [True, False])
def test_marks_that_the_tokenizer_names_otherwise(folder: Path, name: str, inside: bool) -> None:
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text()) if path.is_file() else {}
    other = {"extra_special_tokens": {name: "<pic>"}} if inside else {name: "<pic>"}
    path.write_text(json.dumps(settings | other))
    with pytest.raises(UnsupportedModelError, match=f"asks for {name} '<pic>'; known: <"):
        read_vlm(folder)


def test_a_config_with_half_a_character(folder: Path) -> None:
    tower = json.loads((folder / "config.json").read_text())["vision_config"]
    edit_config(folder, vision_config=tower | {"\ud800": 1})
    with pytest.raises(UnreadableCheckpointError, match=r"config\.json: .*surrogates"):
        read_vlm(folder)


@pytest.mark.parametrize("change", [("capitalize", "upper"), ("': '", "':'"), ("Assistant:", "A")])
def test_a_template_that_writes_other_turns(folder: Path, change: tuple[str, str]) -> None:
    path = folder / "chat_template.jinja"
    path.write_text(path.read_text().replace(*change))
    with pytest.raises(VocabularyError, match="is not understood"):
        read_vlm(folder)


# The bundle


class Exported:
    """A bundle of float32 models, the parts that the runtime makes of it, and transformers."""

    def __init__(self, folder: Path, out: Path, kind: Kind) -> None:
        options = BuildOptions(quantization="F32", vision_quantization="none")
        self.path = build_bundle(str(folder), out, options=options).path
        self.bundle: Bundle = load_bundle(self.path)
        self.manifest = self.bundle.manifest
        self.reference = Reference(folder, kind)
        self.table: NDArray[np.float32] = load_file(folder / "model.safetensors")[
            EMBEDDINGS
        ].numpy()
        self.tokenizer = RuntimeTokenizer(self.path / "tokenizer.json")

    def segments(self, images: list[ImageTokens], words: str = WORDS) -> tuple[Segment, ...]:
        """What the runtime makes of a question about pictures."""
        chat = self.manifest.perceiver.chat
        content = fill("{image}{question}", {"question": words}, list(images))
        return to_segments([*system_turn(chat), *user_turn(chat, content)], self.tokenizer)

    def image_ids(self, size: tuple[int, int]) -> list[int]:
        """The tokens that a picture stands for, its own as `<image>`."""
        vision = self.manifest.vision
        assert vision.markup is not None
        ids = [self._id(token) for token in vision.markup.tokens]
        first, *behind = plan_image(vision, size).markup
        image = [self._id("<image>")] * vision.image_tokens_per_tile
        return [
            *(ids[row] for row in first),
            *(token for rows in behind for token in (*image, *(ids[row] for row in rows))),
        ]

    def _id(self, token: str) -> int:
        (number,) = (
            [self.tokenizer.special_id(token)] if "<" in token else (self.tokenizer.encode(token))
        )
        assert number is not None
        return number

    def check_picture(self, size: tuple[int, int]) -> None:
        """Compare the tokens of a whole prompt, and the pixel values, with transformers."""
        image, vision = picture(*size), self.manifest.vision
        expected = self.reference.inputs([image], WORDS)
        plan = plan_image(vision, size)
        shown = ImageTokens(np.zeros((plan.image_tokens, 1), np.float32), "")
        ids: list[int] = []
        for segment in self.segments([shown]):
            is_image = isinstance(segment, ImageSegment)
            ids += self.image_ids(size) if is_image else segment.ids
            assert not is_image or len(segment) == len(self.image_ids(size))
        assert ids == expected["input_ids"][0].tolist()
        tiles = split_tiles(image, vision.processing, plan.grid)
        found = np.stack([to_pixel_values(tile, vision.processing) for tile in tiles])
        assert np.array_equal(found, expected["pixel_values"][0].numpy())


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    folder = tmp_path_factory.mktemp("smolvlm")
    return Exported(write_idefics3(folder / "Smol"), folder / "bundle", "SmolVLM")


@pytest.fixture(scope="module")
def cache(exported: Exported) -> Iterator[LlamaKVCache]:
    spec, path = exported.manifest.perceiver, exported.path / "perceiver.gguf"
    model = LanguageModel(path, spec, adapter=None, token_count=exported.tokenizer.size)
    yield model.new_kv_cache(KVCacheSettings(context_length=1024, threads=1, kv_type="f32"))
    model.close()


def test_the_manifest_asks_as_the_family_is_asked(exported: Exported) -> None:
    manifest = exported.manifest
    assert manifest.extract.prompt.startswith("{image}Can you describe this image")
    assert manifest.direct is not None
    assert manifest.direct.prompt == "{image}{question}"
    assert manifest.direct.default
    assert manifest.think.prompt.startswith("Question: {question}")
    assert manifest.perceiver.architecture == "llama"
    # Room for all of the picture, a grid of 4 x 4, and the marks.
    assert manifest.perceiver.context_length > 17 * TOKENS + 16 * 2 + 3 + 1 + 3


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_prompts_and_pixels_are_those_of_the_processor(
    exported: Exported, size: tuple[int, int]
) -> None:
    exported.check_picture(size)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["Idefics3", "SmolVLM"])
def test_prompts_and_pixels_of_many_sizes(tmp_path: Path, kind: Kind) -> None:
    exported = Exported(write_idefics3(tmp_path / "c", kind), tmp_path / "bundle", kind)
    content = json.loads((ROOT / "tests/data/tiling/reference.json").read_text())
    drawn = [(width, height) for width, height, *_ in content["edge"]["small"]["grids"]]
    assert len(drawn) + len(SIZES) > 400
    for size in (*SIZES, *drawn):
        exported.check_picture(size)


def test_rows_of_a_picture(exported: Exported) -> None:
    """Image tokens as the reference has them, and marks exactly as the embedding table."""
    size = (300, 100)
    tiles = exported.reference.inputs([picture(*size)], WORDS)["pixel_values"][0]
    with edge_et.load(exported.path, threads=2) as pipe:
        rows = pipe.encode_image(picture(*size)).rows
    ids = np.array(exported.image_ids(size))
    shown = ids == exported.reference.model.config.image_token_id
    expected = exported.reference.image_tokens(tiles).reshape(-1, rows.shape[1])
    assert np.abs(rows[shown] - expected).max() < MAX_TOKEN_ERROR
    assert np.array_equal(rows[~shown], exported.table[ids[~shown]])


@pytest.mark.parametrize("sizes", [[(64, 40)], [(32, 32), (20, 90)]], ids=str)
def test_logits_and_greedy_tokens(
    exported: Exported, cache: LlamaKVCache, sizes: list[tuple[int, int]]
) -> None:
    pictures = [picture(*size) for size in sizes]
    logits, expected = exported.reference.write(pictures, WORDS, 32, exported.tokenizer.size)
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
        assert pipe.answer(image, WORDS, max_answer_tokens=4).extraction == ""
        again = pipe.answer(image, "Is there a cat?", **FEW)
        told = pipe.answer(image, WORDS, history=[{"role": "user", "content": "Hi."}], **FEW)
        direct = pipe.answer_directly(image, WORDS, max_answer_tokens=4, seed=1)
    assert first.usage["extract"].generated_tokens == 6
    assert first.text
    assert again.usage["vision"].evaluated_tokens == 0
    assert again.usage["extract"].reused_tokens > len(exported.image_ids(image.size))
    assert told.text
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


def test_fewer_tiles_on_demand(exported: Exported) -> None:
    with edge_et.load(exported.path, threads=2) as pipe:
        many, few, one = (
            len(pipe.encode_image(picture(96, 64), max_tiles=most).rows) for most in (None, 5, 1)
        )
    # 4 x 3 tiles at a longest edge of 4, 2 x 2 at one of 2; two or three marks stand around each.
    assert many == 13 * TOKENS + 12 * 2 + 3 + 3
    assert few == 5 * TOKENS + 4 * 2 + 2 + 3
    assert one == TOKENS + 3
