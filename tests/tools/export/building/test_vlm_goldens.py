"""Export held to the numbers of the paper's released code and of transformers' own OneVision."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from tiny.anyres import GOLDEN, golden
from tiny.vlm import LLAVA, write_onevision

from edge_et.bundle import FileRef, LanguageModelSpec, Processing, Tiling, VisionSpec
from edge_et.export.building.vlm_checkpoint import (
    VisionLanguageModel,
    check_prompt_tokens,
    export_vlm_vision,
    load_tower,
    read_vlm,
)
from edge_et.export.llm.export_llm import export_llm
from edge_et.export.vision.export_tower import MAX_TOKEN_ERROR
from edge_et.export.vision.onnx_graph import OUTPUT, open_session, run_outputs
from edge_et.image import ImageTokens, TileFeatures, plan_image
from edge_et.image.packing import pack
from edge_et.llm import (
    ImageSegment,
    KVCacheSettings,
    LanguageModel,
    LlamaKVCache,
    Segment,
    Tokenizer,
    TokenSegment,
)

MAX_LOGIT_ERROR = 3e-3
NO_FILE = FileRef(path="x", size_bytes=1, sha256="0" * 64)
PICTURES = ("tiny", "wide")
LAYOUTS = ("llava", "onevision")


class Exported(NamedTuple):
    model: VisionLanguageModel
    context: LlamaKVCache


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    onevision = write_onevision(tmp_path_factory.mktemp("onevision") / "checkpoint")
    return {"llava": LLAVA, "onevision": onevision}


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("graph") / "vision.onnx"
    report = export_vlm_vision(read_vlm(LLAVA), out)
    assert report.error is not None
    assert report.error < MAX_TOKEN_ERROR
    assert report.size_bytes == out.stat().st_size
    return out


@pytest.fixture(scope="module", params=LAYOUTS)
def exported(
    request: pytest.FixtureRequest,
    folders: dict[str, Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Exported]:
    model = read_vlm(folders[request.param])
    out = tmp_path_factory.mktemp("llm") / "llm.gguf"
    export_llm(model.folder, out, dtype="F32")
    config = model.language_model
    spec = LanguageModelSpec(
        weights=NO_FILE,
        adapter=None,
        tokenizer=NO_FILE,
        architecture="qwen3",
        embedding_width=config.hidden_size,
        vocabulary_size=config.vocab_size,
        context_length=2304,
        chat=model.chat_format.chat,
    )
    token_count = Tokenizer(model.folder / "tokenizer.json").size
    weights = LanguageModel(out, spec, adapter=None, token_count=token_count)
    yield Exported(
        model,
        weights.new_kv_cache(
            KVCacheSettings(context_length=spec.context_length, threads=1, kv_type="f32")
        ),
    )
    weights.close()


def tower_pixels(picture: str) -> NDArray[np.float32]:
    values = golden(picture)["pixel_u8"] * (1 / 255)
    return (values.astype(np.float32) - np.float32(0.5)) / np.float32(0.5)


@pytest.mark.parametrize("picture", PICTURES)
def test_features_and_image_tokens_of_the_graph(graph: Path, tmp_path: Path, picture: str) -> None:
    expected = golden(picture)
    model = onnx.load(graph)
    first_linear = next(node for node in model.graph.node if node.name.startswith("projector.0/"))
    features = onnx.helper.make_empty_tensor_value_info(first_linear.input[0])
    model.graph.output.append(features)
    onnx.save(model, tmp_path / "features.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "features.onnx")
    found, tokens = session.run(
        [features.name, OUTPUT], {"pixel_values": tower_pixels(picture)[expected["tile_index"]]}
    )
    assert np.abs(found - expected["tower_features"]).max() < MAX_TOKEN_ERROR
    assert np.abs(tokens - expected["projected"]).max() < MAX_TOKEN_ERROR


@pytest.fixture(scope="module")
def images(graph: Path) -> dict[str, ImageTokens]:
    """Image tokens of the graph, packed by the runtime."""
    model = read_vlm(LLAVA)
    spec = VisionSpec(
        graph=NO_FILE,
        embedding_width=model.language_model.hidden_size,
        image_tokens_per_tile=model.vision.image_tokens_per_tile,
        processing=model.vision.processing,
        arrangement=model.vision.arrangement,
    )
    session = open_session(graph)
    packed = {}
    for picture in PICTURES:
        width, height = golden(picture)["image_size_wh"].tolist()
        outputs = run_outputs(session, tower_pixels(picture))
        plan = plan_image(spec, (width, height))
        packed[picture] = pack(TileFeatures(tuple(outputs[OUTPUT]), outputs["image_newline"]), plan)
    return {picture: ImageTokens(rows, digest=picture) for picture, rows in packed.items()}


@pytest.mark.parametrize("picture", PICTURES)
def test_packed_image_tokens(images: dict[str, ImageTokens], picture: str) -> None:
    expected, rows = golden(picture)["packed"], images[picture].rows
    assert rows.shape == expected.shape
    assert np.abs(rows - expected).max() < MAX_TOKEN_ERROR


def test_both_layouts_give_one_graph(folders: dict[str, Path]) -> None:
    llava, onevision = (load_tower(read_vlm(folder)) for folder in folders.values())
    state = onevision.state_dict()
    assert state.keys() == llava.state_dict().keys()
    assert all(torch.equal(tensor, state[name]) for name, tensor in llava.state_dict().items())
    pixels = torch.from_numpy(tower_pixels("tiny")[:1])
    with torch.inference_mode():
        assert all(map(torch.equal, llava(pixels), onevision(pixels)))


# The second question of a picture finds it in the cache.
@pytest.mark.parametrize(
    ("picture", "question"), [("tiny", "q0"), ("tiny", "q1"), ("wide", "q0"), ("wide", "q1")]
)
def test_logits_and_greedy_tokens_of_the_whole_prompt(
    exported: Exported, images: dict[str, ImageTokens], picture: str, question: str
) -> None:
    model, context = exported
    name = "llava" if model.architecture == "LlavaQwen3ForCausalLM" else "onevision"
    with np.load(GOLDEN / name / f"{picture}.npz") as content:
        expected = {key: content[f"{question}_{key}"] for key in ("last_logits", "greedy")}
    before, after = prompt_ids(name, picture, question)
    image = ImageSegment(images[picture])
    segments: list[Segment] = [TokenSegment(before), image, TokenSegment(after)]
    context.prefill(segments)
    known = min(len(context.logits), len(expected["last_logits"]))
    difference = context.logits[:known] - expected["last_logits"][:known]
    assert np.abs(difference).max() < MAX_LOGIT_ERROR
    written = []
    for _ in expected["greedy"]:
        written.append(int(np.argmax(context.logits)))
        context.decode(written[-1])
    assert written == expected["greedy"].tolist()


def prompt_ids(name: str, picture: str, question: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The reference's ids before and behind the picture."""
    llava = golden(picture)
    ids, at = llava[f"{question}_input_ids"].tolist(), int(llava[f"{question}_image_at"])
    if name == "onevision":
        with np.load(GOLDEN / name / f"{picture}.npz") as content:
            assert content[f"{question}_text_ids"].tolist() == ids[:at] + ids[at + 1 :]
    return tuple(ids[:at]), tuple(ids[at + 1 :])


def test_prompts_get_the_tokens_of_the_reference(exported: Exported) -> None:
    model = exported.model
    assert model.chat_format.image_prefix == "{image}\n"
    report = check_prompt_tokens(
        model, model.chat_format.image_prefix + "Pay attention to {question}."
    )
    assert report.error == 0


def test_facts_for_the_manifest(folders: dict[str, Path]) -> None:
    sides = range(1, 7)
    for folder in folders.values():
        model = read_vlm(folder)
        tiling = model.vision.processing.tiling
        assert tiling is not None
        # Pinpoints are widths and heights for LLaVA, heights and widths for transformers.
        grids = tuple((columns, rows) for columns in sides for rows in sides)
        if folder != LLAVA:
            grids = tuple((columns, rows) for rows in sides for columns in sides)
        assert tiling == Tiling(grids=grids, shrink_over_tiles=9)
        assert msgspec.structs.replace(model.vision.processing, tiling=None) == Processing(
            height=384,
            width=384,
            mean=(0.5, 0.5, 0.5),
            std=(0.5, 0.5, 0.5),
            rescale=1 / 255,
            resample="bicubic",
            fit="squash",
        )
        assert model.vision.image_tokens_per_tile == 729
        assert model.language_model.architectures == ["Qwen3ForCausalLM"]
        assert model.chat_format.chat.turn_start == "<|im_start|>{role}\n"
        assert model.chat_format.chat.turn_end == "<|im_end|>\n"
        assert model.chat_format.chat.system == "You are a helpful assistant."
        assert model.chat_format.chat.stop_tokens == ("<|im_end|>", "<|endoftext|>")
        assert model.chat_format.text_prefix == ""
        assert model.vision.arrangement == "unpadded"
    assert read_vlm(folders["llava"]).max_positions == 32768
    assert read_vlm(folders["onevision"]).max_positions == 40960
