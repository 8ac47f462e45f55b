"""InternVL, in both layouts, held to what transformers computes of the same random checkpoint."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from tiny.idefics3 import picture
from tiny.internvl import (
    MOST,
    SYSTEM,
    TILE,
    TOKENS,
    Kind,
    Reference,
    write_internvl,
    write_older_tokenizer_files,
    write_original,
)
from tiny.places import ROOT
from tiny.vlm import LLAVA, Tensors, edit_config, edit_tensors
from transformers import Qwen3Config, Qwen3ForCausalLM

import edge_et
from edge_et.bundle import load_bundle
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
HEAD = "language_model.lm_head.weight"
SIZES = [
    *((64, 64), (32, 32), (31, 33), (7, 5), (2, 2), (640, 480), (480, 640), (1000, 251)),
    *((37, 700), (128, 32), (33, 128), (900, 20), (129, 127), (512, 512), (300, 100), (100, 300)),
    *((255, 257), (96, 97), (1, 40), (40, 1)),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_internvl(tmp_path / "checkpoint")


@pytest.fixture
def original(folder: Path) -> Path:
    return write_original(folder.parent / "original", folder)


# The parts of a checkpoint


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("qwen2", {}),
        ("qwen3", {"use_qk_norm": True, "norm_type": "rms_norm", "attention_bias": False}),
        ("qwen2", {"ratio": 0.25, "hidden_act": "gelu_pytorch_tanh", "layer_norm_eps": 1e-3}),
    ],
)
def test_image_tokens_and_marks(tmp_path: Path, kind: Kind, settings: dict[str, Any]) -> None:
    folder = write_internvl(tmp_path / "checkpoint", kind, **settings)
    reference = Reference(folder)
    pixels = torch.randn(3, 3, TILE, TILE, generator=torch.Generator().manual_seed(5))
    expected = reference.image_tokens(pixels)
    table = load_file(folder / "model.safetensors")[EMBEDDINGS]
    for each in (folder, write_original(tmp_path / "original", folder)):
        model = read_vlm(each)
        with torch.inference_mode():
            tokens, markup = load_tower(model)(pixels)
        assert tokens.shape == expected.shape == (3, model.image_tokens_per_tile, 64)
        assert np.abs(tokens.numpy() - expected).max() < MAX_TOKEN_ERROR
        assert model.vision.markup is not None
        ids = reference.processor.tokenizer.convert_tokens_to_ids(["<img>", "</img>"])
        assert list(model.vision.markup.ids) == ids
        assert torch.equal(markup, table[ids])


def test_facts_for_the_manifest(folder: Path, original: Path) -> None:
    models = read_vlm(folder), read_vlm(original)
    for model in models:
        tiling = model.processing.tiling
        assert tiling is not None
        assert (tiling.rule, tiling.whole) == ("ratio", "last")
        assert {columns * rows for columns, rows in tiling.grids} == set(range(1, MOST + 1))
        assert (model.processing.resample, model.processing.fit) == ("bicubic", "squash")
        assert (model.processing.height, model.image_tokens_per_tile) == (TILE, TOKENS)
        assert (model.image_prefix, model.text_prefix) == ("{image}\n", "")
        assert model.chat.stop_tokens == ("<|im_end|>",)
        assert check_prompt_tokens(model, "{image}\nLook at {hint}.").error == 0
    assert models[0].processing == models[1].processing
    assert models[0].language_model == models[1].language_model
    assert [model.chat.system for model in models] == [None, SYSTEM]


def test_names_of_the_modules(folder: Path) -> None:
    """As transformers 4.52 saved them, and as the modules of transformers are called."""
    expected = read_vlm(folder)

    def rename(tensors: Tensors) -> None:
        for name in list(tensors):
            module = name.removeprefix("language_model.lm_head.")
            newer = f"lm_head.{module}" if module != name else f"model.{name}"
            tensors[newer.replace("language_model.model.", "language_model.")] = tensors.pop(name)

    edit_tensors(folder, rename)
    assert "model.language_model.norm.weight" in load_file(folder / "model.safetensors")
    found = read_vlm(folder)
    assert (found.vision, found.language_model) == (expected.vision, expected.language_model)


def test_tied_as_the_config_says(tmp_path: Path) -> None:
    folder = write_internvl(tmp_path / "c", tied=True)
    assert HEAD not in load_file(folder / "model.safetensors")
    assert read_vlm(folder).language_model.tie_word_embeddings


@pytest.mark.parametrize("differs", [True, False])
def test_a_table_of_its_own_counts_where_no_config_tells_it(folder: Path, *, differs: bool) -> None:
    """As configs of transformers 4, where false is no key; 5 then ties only what is equal."""
    edit_config(folder, tie_word_embeddings=None)
    if not differs:
        edit_tensors(folder, lambda t: t.update({HEAD: t[EMBEDDINGS].clone()}))
    expected = Reference(folder).model
    assert read_vlm(folder).language_model.tie_word_embeddings is not differs
    same = torch.equal(expected.lm_head.weight, expected.get_input_embeddings().weight)
    assert same is not differs


@pytest.mark.parametrize(
    ("file", "changes", "match"),
    [
        ("config.json", {"downsample_ratio": 0.3}, "downsample_ratio 0.3.*4 x 4 patches"),
        ("config.json", {"downsample_ratio": 0.125}, "downsample_ratio 0.125"),
        ("config.json", {"downsample_ratio": 0}, "downsample_ratio 0"),
        ("config.json", {"vision_feature_layer": -2}, "vision_feature_layer -2"),
        ("config.json", {"vision_feature_layer": [-1, -2]}, "vision_feature_layer"),
        ("config.json", {"vision_feature_select_strategy": "full"}, "select_strategy 'full'"),
        ("config.json", {"projector_hidden_act": "relu"}, "projector_hidden_act 'relu'"),
        ("preprocessor_config.json", {"do_normalize": False}, "normalizing"),
        ("preprocessor_config.json", {"resample": 1}, "resample 1"),
        ("preprocessor_config.json", {"size": {"height": 32, "width": 64}}, "tower takes 32"),
        ("preprocessor_config.json", {"min_patches": 9}, "9 tiles or more and 6 or less"),
        ("preprocessor_config.json", {"image_processor_type": "X"}, "known: GotOcr2ImageProc"),
        ("processor_config.json", {"image_seq_length": 256}, "image_seq_length 256.*4 image to"),
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
        ("text_config", {"model_type": "llama"}, UnsupportedModelError, "'llama'.*known: qwen2, q"),
        ("vision_config", {"num_channels": 1}, UnsupportedModelError, "tower for 1 channels"),
        ("vision_config", {"use_mask_token": True}, UnsupportedModelError, "use_mask_token"),
        ("vision_config", {"use_mean_pooling": False}, UnsupportedModelError, "use_mean_pooling"),
        (
            "vision_config",
            {"use_absolute_position_embeddings": False},
            UnsupportedModelError,
            "use_absolute_position_embeddings",
        ),
        ("vision_config", {"image_size": [32, 64]}, UnsupportedModelError, r"\[32, 64\] pixels"),
        ("vision_config", {"image_size": "x"}, UnreadableCheckpointError, "image_size"),
        ("vision_config", {"norm_type": "x"}, UnreadableCheckpointError, "no InternViT"),
        ("vision_config", {"use_qk_norm": True}, MissingTensorError, "q_norm"),
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


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"select_layer": -4}, "select_layer -4; known: -1"),
        ({"ps_version": "v1"}, "ps_version 'v1'; known: v2"),
        ({"ps_version": None}, "ps_version 'v1'; known: v2"),
        ({"downsample_ratio": 0.3}, "downsample_ratio 0.3"),
        ({"force_image_size": 64}, "force_image_size 64.*takes 32"),
        ({"dynamic_image_size": False}, "dynamic_image_size"),
        ({"use_thumbnail": None}, "use_thumbnail"),
        ({"pad2square": True}, "pad2square"),
        ({"use_llm_lora": 16}, "use_llm_lora"),
        ({"use_backbone_lora": 16}, "use_backbone_lora"),
        ({"system_message": "Be brief."}, "another system_message"),
        ({"template": "Hermes-2"}, "'Hermes-2'.*known: internvl2_5"),
        ({"llm_config": {"model_type": "internlm2"}}, "'internlm2'.*known: qwen2, qwen3"),
    ],
)
def test_settings_of_the_original_that_would_be_lost(
    original: Path, changes: dict[str, Any], match: str
) -> None:
    edit_config(original, **changes)
    with pytest.raises(UnsupportedModelError, match=match):
        read_vlm(original)


def test_norms_of_queries_that_transformers_computes_otherwise(tmp_path: Path) -> None:
    folder = write_internvl(tmp_path / "c", use_qk_norm=True, layer_norm_eps=1e-5)
    read_vlm(folder)
    with pytest.raises(UnsupportedModelError, match="qk_normalization with layer_norm_eps 1e-05"):
        read_vlm(write_original(tmp_path / "original", folder))


def test_what_published_configs_hold_besides(folder: Path, original: Path) -> None:
    """Keys that no model reads, and one that InternVL's processor overrules."""
    edit_config(folder, "preprocessor_config.json", crop_to_patches=False)
    besides = {"use_bfloat16": True, "moe_config": None, "attn_implementation": "eager"}
    for each, part in ((folder, "text_config"), (original, "llm_config")):
        expected = read_vlm(each)
        content = json.loads((each / "config.json").read_text())
        vision = content["vision_config"] | {"moe_coeff_ratio": 0.5, "initializer_factor": 0.1}
        edit_config(each, **{part: content[part] | besides}, vision_config=vision, hidden_size=1)
        found = read_vlm(each)
        assert (found.vision, found.llm.config) == (expected.vision, expected.llm.config)


def test_a_checkpoint_that_transformers_5_saved_whole(folder: Path) -> None:
    expected = read_vlm(folder)
    alone = folder / "preprocessor_config.json"
    inner = json.loads(alone.read_text())
    alone.unlink()
    edit_config(folder, "processor_config.json", image_processor=inner)
    assert read_vlm(folder).processing == expected.processing


def test_tensors_of_nobody_and_none(folder: Path, original: Path) -> None:
    for each, name in (
        (folder, "vision_tower.encoder.layer.1.attention.k_proj.bias"),
        (original, "vision_model.encoder.layers.1.attn.qkv.bias"),
    ):
        edit_tensors(each, lambda t: t.update({"mlp2.x": torch.zeros(2)}))
        with pytest.raises(LeftoverTensorError, match=r"mlp2\.x"):
            read_vlm(each)
        edit_tensors(each, lambda t, name=name: [t.pop("mlp2.x"), t.pop(name)])
        with pytest.raises(MissingTensorError, match=r"attention\..+bias"):
            read_vlm(each)


@pytest.mark.parametrize("mark", ["<img>", "</img>"])
def test_a_tokenizer_without_a_mark(folder: Path, mark: str) -> None:
    path = folder / "tokenizer.json"
    path.write_text(path.read_text().replace(f'"{mark}"', '"<other>"'))
    with pytest.raises(VocabularyError, match=f"no token {mark}"):
        read_vlm(folder)


@pytest.mark.parametrize(
    "change",
    [
        ("<IMG_CONTEXT>\\n", "<IMG_CONTEXT>"),
        ("assistant\\n", "assistant"),
        ("'<|im_start|>'", "'S'"),
    ],
)
def test_a_template_that_writes_other_turns(folder: Path, change: tuple[str, str]) -> None:
    path = folder / "chat_template.jinja"
    text = path.read_text()
    assert change[0] in text
    path.write_text(text.replace(*change))
    with pytest.raises(VocabularyError, match="is not understood"):
        read_vlm(folder)


# The bundle


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
def test_the_commands_with_a_reasoner_and_an_int8_tower(original: Path, tmp_path: Path) -> None:
    """No code in the checkpoint is run: it would end the command."""

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
