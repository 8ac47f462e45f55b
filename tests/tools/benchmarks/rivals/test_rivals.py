"""Rivals of the benchmark, on miniatures: the same prompts, pictures and counts; never times."""

import ctypes
import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import llama_cpp.mtmd_cpp as mtmd_cpp
import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from tiny.shapes import IDEFICS3, INTERNVL, LLM, TOWER

import edge_et
from edge_et.benchmarks import latency
from edge_et.benchmarks.document import Bounds, Configuration, Document
from edge_et.benchmarks.latency import BASELINES, run_latency
from edge_et.benchmarks.measure import measure
from edge_et.benchmarks.picture import DRAWN_SIZE, draw_picture
from edge_et.benchmarks.rivals import llama_server as server
from edge_et.benchmarks.rivals import mtmd
from edge_et.benchmarks.rivals.conversation import Conversation
from edge_et.benchmarks.rivals.llama_server_process import Server
from edge_et.benchmarks.subject import Job
from edge_et.benchmarks.synthetic.shapes import BundleShape
from edge_et.benchmarks.synthetic.synthetic_bundle import synthetic_bundle
from edge_et.bundle import Bundle, ThinkSpec, VisionSpec, load_bundle, save_manifest
from edge_et.errors import BenchError
from edge_et.export.numeric_comparison import row_cosines
from edge_et.generation import forced_marker
from edge_et.image import plan_image
from edge_et.llm import Tokenizer

ONE = BundleShape(name="one", tower=TOWER, perceiver=LLM, context_length=512)
PAIR = replace(ONE, name="pair", reasoner=replace(LLM, name="larger", layers=3))
COUNTS = {"extraction_tokens": 6, "thinking_tokens": 5, "answer_tokens": 3}
# SmolVLM's grid of 4 x 3 tiles, the whole picture and the marks between them; InternVL's two tiles
# and the whole picture.
IMAGE_TOKENS = {"one": 16, "pair": 16, "idefics3": 13 * 4 + 30, "internvl": 3 * 4}
QUESTION = "What is the shape in the middle?"
FAKE = Path(__file__).parent / "fake_llama_server.py"
REAL = shutil.which("llama-server")


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Bundle]:
    """A model for both stages; a pair; one model with two conversations; pictures in tiles."""
    folder = tmp_path_factory.mktemp("synthetic")
    shapes = (ONE, PAIR, IDEFICS3, INTERNVL)
    made = {shape.name: synthetic_bundle(shape, folder) for shape in shapes}
    apart = folder / "apart"
    shutil.copytree(made["one"].folder, apart)
    think: ThinkSpec = msgspec.structs.replace(made["pair"].manifest.think, sees="extraction")
    save_manifest(msgspec.structs.replace(made["one"].manifest, think=think), apart)
    return made | {"apart": load_bundle(apart)}


@pytest.fixture(scope="module")
def fake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program that speaks as llama-server does."""
    program = tmp_path_factory.mktemp("bin") / "llama-server"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} {FAKE} "$@"\n')
    program.chmod(0o755)
    return program


def run(bundle: Bundle, key: str, program: Path | None = None) -> Document:
    with pytest.MonkeyPatch.context() as patch:
        bounds = Bounds(memory_bytes_per_s=1e10, gemm_flops_per_s=1e11)
        patch.setattr(latency, "measure_bounds", lambda threads: bounds)
        setups = [found for found in BASELINES if found.key == key]
        return run_latency(
            bundle,
            threads=1,
            samples=1,
            **COUNTS,
            drawn_size=INTERNVL.picture if bundle.manifest.name == "internvl" else DRAWN_SIZE,
            baselines=setups,
            llama_server=program,
        )


def check_same_work(document: Document, bundle: Bundle) -> Configuration:
    """Assert that a rival did what the runtime did, and return what was measured of it."""
    runtime, rival = document.configurations
    assert rival.absent is None
    tokenizer = Tokenizer(bundle.path(bundle.manifest.perceiver.tokenizer))
    # llama.cpp puts <img> and </img> around a picture itself, so they are not counted as text.
    around = 2 if bundle.manifest.name == "internvl" else 0
    marker = len(tokenizer.encode(forced_marker("Answer:", "prose")))
    for temperature in ("cold", "first", "second"):
        (mine,), (theirs,) = runtime.samples(temperature), rival.samples(temperature)
        a, b = mine.tokens, theirs.tokens
        assert (b.image, b.extraction, b.thinking, b.answer) == (a.image + around, 6, 5, 3)
        assert a.image == IMAGE_TOKENS[bundle.manifest.name]
        assert b.prompt_evaluated + b.prompt_reused == a.prompt_evaluated + a.prompt_reused
        stage_2 = b.handover_evaluated + b.handover_reused
        # The answer marker is in the runtime alone; it is read with the last word of the reasoning.
        assert a.handover_evaluated + a.handover_reused - stage_2 == marker + 1
        assert sum(theirs.phases_s.values()) == pytest.approx(theirs.total_s)
        assert min(theirs.phases_s.values()) >= 0
    assert min(rival.peak_memory_bytes) > 1e6
    return rival


@pytest.mark.parametrize("name", ["one", "pair", "apart", "idefics3", "internvl"])
def test_mtmd_does_the_same_work(bundles: dict[str, Bundle], name: str):
    rival = check_same_work(run(bundles[name], "mtmd"), bundles[name])
    assert list(rival.cold[0].phases_s)[:3] == ["import", "load", "prefill"]
    assert rival.second[0].tokens.prompt_reused == 0


@pytest.mark.skipif(REAL is None, reason="no llama-server on PATH")
@pytest.mark.parametrize("name", ["one", "pair", "apart", "idefics3", "internvl"])
def test_the_server_does_the_same_work_and_finds_what_it_knows(
    bundles: dict[str, Bundle], name: str
):
    assert REAL is not None
    document = run(bundles[name], "llama-server", Path(REAL))
    rival = check_same_work(document, bundles[name])
    assert document.versions["llama-server"]
    assert list(rival.cold[0].phases_s)[:2] == ["load", "prefill"]
    assert rival.first[0].tokens.prompt_reused == 0
    assert rival.second[0].tokens.prompt_reused > 16
    if name in ("one", "idefics3", "internvl"):
        # All but the last word that it wrote, which it has not evaluated.
        tokens = rival.first[0].tokens
        assert tokens.handover_reused >= tokens.prompt_evaluated + tokens.extraction - 1


def test_the_server_is_asked_as_it_expects(
    bundles: dict[str, Bundle], fake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    asked = tmp_path / "asked.jsonl"
    monkeypatch.setenv("FAKE_LOG", str(asked))
    document = run(bundles["one"], "llama-server", fake)
    rival = document.configurations[1]
    assert rival.absent is None
    assert document.versions["llama-server"] == "fake 1"
    assert rival.first[0].tokens.prompt_evaluated == 400
    started, *requests = map(json.loads, asked.read_text().splitlines()[:3])
    assert started[started.index("--ctx-size") + 1] == "512"
    assert started[started.index("--mmproj") + 1].endswith("mmproj.gguf")
    first, second = requests
    assert (first["cache_prompt"], second["cache_prompt"]) == (False, True)
    assert (first["n_predict"], second["n_predict"]) == (6, 8)
    assert first["prompt"]["multimodal_data"] == second["prompt"]["multimodal_data"]
    before = first["prompt"]["prompt_string"]
    assert before.count("<__media__>") == 1
    assert second["prompt"]["prompt_string"].startswith(before)


@pytest.mark.parametrize(
    ("mode", "said"),
    [
        ("ends", "ended while it started: no such model"),
        ("refuses", "the picture is too large"),
        ("breaks-off", "broke off an answer"),
        ("hangs-up", "cannot be asked"),
        ("nonsense", "<html>"),
        ("no-timings", "does not tell what it evaluated"),
        ("short", r"wrote \(5, 5, 2\) tokens"),
    ],
)
def test_a_server_that_fails_is_absent_with_what_it_said(
    bundles: dict[str, Bundle],
    fake: Path,
    mode: str,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setenv("FAKE_MODE", mode)
    job = new_job(bundles["one"], tmp_path)
    job = msgspec.structs.replace(job, engine="llama-server", llama_server=str(fake))
    with pytest.raises(BenchError, match=said):
        measure(job, None)


def test_what_cannot_be_measured_says_why(bundles: dict[str, Bundle], tmp_path: Path):
    job = new_job(bundles["one"], tmp_path)
    with pytest.raises(BenchError, match="none is on PATH"):
        server.open_subject(bundles["one"], job)
    missing = msgspec.structs.replace(job, llama_server=str(tmp_path / "none"))
    with pytest.raises(BenchError, match="cannot be started"):
        server.open_subject(bundles["one"], missing)
    with pytest.raises(BenchError, match="cannot be started"):
        Server(tmp_path / "none", [])
    bare = tmp_path / "bare"
    shutil.copytree(bundles["one"].folder, bare)
    (bare / "mmproj.gguf").unlink()
    with pytest.raises(BenchError, match=r"has no mmproj\.gguf"):
        mtmd.open_subject(load_bundle(bare), job)


def test_a_damaged_tower_is_told(bundles: dict[str, Bundle], tmp_path: Path):
    copy = tmp_path / "copy"
    shutil.copytree(bundles["one"].folder, copy)
    (copy / "mmproj.gguf").write_bytes(b"no GGUF")
    with pytest.raises(BenchError, match="llama-cpp-python: "):
        mtmd.open_subject(load_bundle(copy), new_job(bundles["one"], tmp_path))


@pytest.mark.parametrize(
    ("name", "size", "tiles"),
    [("one", (36, 36), 1), ("idefics3", (128, 96), 12), ("internvl", (64, 32), 2)],
)
def test_llama_cpp_makes_the_same_image_tokens(
    bundles: dict[str, Bundle], name: str, size: tuple[int, int], tiles: int, tmp_path: Path
):
    """A picture of whole tiles is not resized, but for the tile that shows all of it."""
    pixels = np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), np.uint8)
    picture = tmp_path / "pixels.png"
    Image.fromarray(pixels).save(picture)
    vision = bundles[name].manifest.vision
    with edge_et.load(bundles[name].folder, threads=1) as pipe:
        rows = pipe.encode_image(pixels).rows
    subject = mtmd.open_subject(bundles[name], new_job(bundles[name], tmp_path))
    try:
        found = encode(subject, picture.read_bytes(), rows.shape[1])
    finally:
        subject.close()
    expected = rows[rows_of_tiles(vision, size)]
    assert found.shape == expected.shape
    cut = tiles * vision.image_tokens_per_tile
    # The same weights, each program with its own 8 bits for what they are multiplied with.
    assert row_cosines(found[:cut], expected[:cut]).min() > 0.998


def test_the_prompts_are_those_of_the_runtime(bundles: dict[str, Bundle]):
    conversation = Conversation(bundles["one"])
    first = conversation.extract(QUESTION)
    assert first.with_picture("[picture]") == (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n[picture]\n"
        "Describe the fine-grained content of the image. "
        f"Pay special attention to: {QUESTION}<|im_end|>\n<|im_start|>assistant\n"
    )
    second = conversation.think(QUESTION, " a cat").with_picture("[picture]")
    assert second == first.with_picture("[picture]") + (
        f" a cat<|im_end|>\n<|im_start|>user\nThink step by step, then answer: {QUESTION}"
        "<|im_end|>\n<|im_start|>assistant\n"
    )
    apart = Conversation(bundles["pair"]).think(QUESTION, " a cat")
    assert apart.before is None
    assert "Description: a cat\n" in apart.text


def new_job(bundle: Bundle, folder: Path) -> Job:
    job: dict[str, Any] = {
        "bundle": str(bundle.folder),
        "engine": "mtmd",
        "threads": 1,
        "reuse": True,
        "warm": False,
        "work": {
            "picture": str(draw_picture(folder / "picture.png")),
            "picture_sha256": "",
            "questions": [QUESTION, "Why?"],
            **COUNTS,
        },
    }
    return msgspec.convert(job, Job)


def rows_of_tiles(vision: VisionSpec, size: tuple[int, int]) -> list[int]:
    """Return which rows of a picture are no marks between its tiles."""
    plan = plan_image(vision, size)
    rows: list[int] = []
    place = 0
    for marks in plan.markup[:-1] or ((),) * plan.tiles:
        place += len(marks)
        rows += range(place, place + plan.tile_tokens)
        place += plan.tile_tokens
    return rows


def encode(subject: mtmd.Mtmd, picture: bytes, width: int) -> NDArray[np.float32]:
    """Return the image tokens of llama.cpp's own tower, tile after tile."""
    handler = subject._llama.chat_handler
    bitmap = handler._create_bitmap_from_bytes(picture)
    text = mtmd_cpp.mtmd_input_text()
    text.text, text.text_len, text.parse_special = b"<__media__>", 11, True
    chunks = mtmd_cpp.mtmd_input_chunks_init()
    bitmaps = (mtmd_cpp.mtmd_bitmap_p_ctypes * 1)(bitmap)
    context = handler.mtmd_ctx
    made = []
    try:
        assert mtmd_cpp.mtmd_tokenize(context, chunks, ctypes.byref(text), bitmaps, 1) == 0
        for index in range(mtmd_cpp.mtmd_input_chunks_size(chunks)):
            chunk = mtmd_cpp.mtmd_input_chunks_get(chunks, index)
            kind = mtmd_cpp.mtmd_input_chunk_get_type(chunk)
            if kind != mtmd_cpp.MTMD_INPUT_CHUNK_TYPE_IMAGE:
                continue
            assert mtmd_cpp.mtmd_encode_chunk(context, chunk) == 0
            count = mtmd_cpp.mtmd_input_chunk_get_n_tokens(chunk)
            values = mtmd_cpp.mtmd_get_output_embd(context)
            made.append(np.ctypeslib.as_array(values, (count, width)).copy())
    finally:
        mtmd_cpp.mtmd_input_chunks_free(chunks)
        mtmd_cpp.mtmd_bitmap_free(bitmap)
    return np.concatenate(made)
