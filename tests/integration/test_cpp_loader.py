"""examples/cpp, built here, against this package: the same image tokens, ids and words."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import PIL
import pytest
from PIL import Image
from tiny.bundle import PROCESSING, build_bundle
from tiny.cpp_loader import (
    REFERENCE,
    SOURCE,
    Run,
    ask,
    build_loader,
    check_ids,
    expected_answer,
    image_tokens,
    runner,
    write_tokenizer_of,
)
from tiny.places import EXAMPLES
from tiny.split_mini import build_split_mini

import edge_et
from edge_et.bundle import find_bundle, save_manifest

MOST_LINES = 1200
PICTURES = ("cat.png", "coffee.png")
QUESTIONS = ("What is this?", "Which colour is it?", "How many things are there, and where?")


@pytest.fixture(scope="session")
def run() -> Run:
    return runner([build_loader()])


@pytest.fixture(scope="module")
def mini() -> Iterator[edge_et.ExtractThink]:
    with edge_et.load(threads=1, **REFERENCE) as pipeline:
        yield pipeline


def check_answers(run: Run, bundle: Path, pipeline: edge_et.ExtractThink, *asked: str) -> None:
    for picture in PICTURES:
        for question in asked:
            expected = expected_answer(pipeline, EXAMPLES / picture, question)
            assert ask(run, bundle, EXAMPLES / picture, question) == expected


def test_it_is_short() -> None:
    files = [*SOURCE.glob("*.cpp"), *SOURCE.glob("*.h")]
    assert sum(len(file.read_text().splitlines()) for file in files) < MOST_LINES


@pytest.mark.parametrize("name", PICTURES)
def test_image_tokens_of_the_mini(run: Run, mini: edge_et.ExtractThink, name: str) -> None:
    expected = mini.encode_image(EXAMPLES / name).rows
    found = image_tokens(run, find_bundle(None), EXAMPLES / name, expected.shape[1])
    assert np.abs(found - expected).max() < 1e-5


@pytest.mark.parametrize("fit", ["squash", "pad", "crop", "expand"])
@pytest.mark.parametrize("resample", ["bilinear", "bicubic", "lanczos"])
def test_tiles_are_those_of_pillow(run: Run, tmp_path: Path, fit: Any, resample: Any) -> None:
    manifest = build_bundle(tmp_path / "tiny")
    processing = msgspec.structs.replace(
        PROCESSING, fit=fit, resample=resample, pad_color=(122, 116, 104), height=32, width=32
    )
    vision = msgspec.structs.replace(manifest.vision, processing=processing)
    save_manifest(msgspec.structs.replace(manifest, vision=vision), tmp_path / "tiny")
    with edge_et.load(tmp_path / "tiny", engine="llama") as pipeline:
        for path in write_pictures(tmp_path):
            expected = pipeline.encode_image(path).rows
            found = image_tokens(run, tmp_path / "tiny", path, expected.shape[1])
            assert np.abs(found - expected).max() < 1e-5, path.name


def write_pictures(folder: Path) -> list[Path]:
    """Write a wide photograph, a small one, a transparent one, a grey one, and a turned JPEG."""
    coffee = Image.open(EXAMPLES / "coffee.png").convert("RGB")
    exif = Image.Exif()
    exif[0x112] = 6
    coffee.resize((20, 13)).save(folder / "small.png")
    coffee.convert("L").convert("I;16").point(lambda value: value * 257 + 77).save(
        folder / "grey16.png"
    )
    transparent = coffee.resize((97, 61))
    transparent.putalpha(Image.linear_gradient("L").resize(transparent.size))
    transparent.save(folder / "transparent.png")
    coffee.resize((301, 91)).save(folder / "wide.jpg", quality=80)
    paths = [folder / name for name in ("small.png", "grey16.png", "transparent.png", "wide.jpg")]
    if int(PIL.__version__.split(".")[0]) >= 13:  # whose order of the passes it has
        coffee.resize((301, 131)).save(folder / "turned.jpg", exif=exif)
        coffee.resize((60, 190)).quantize(17).save(folder / "high.png")
        paths += [folder / "turned.jpg", folder / "high.png"]
    return paths


@pytest.mark.parametrize("kind", ["mini", "tiny", "qwen"])
def test_ids_are_those_of_tokenizers(run: Run, tmp_path: Path, kind: str) -> None:
    check_ids(run, write_tokenizer_of(kind, tmp_path))


def test_answers_of_the_mini(run: Run, mini: edge_et.ExtractThink) -> None:
    check_answers(run, find_bundle(None), mini, QUESTIONS[0])


@pytest.mark.slow
def test_more_answers_of_the_mini(run: Run, mini: edge_et.ExtractThink) -> None:
    check_answers(run, find_bundle(None), mini, *QUESTIONS)


@pytest.mark.slow
def test_answers_of_two_conversations(run: Run, tmp_path: Path) -> None:
    build_split_mini(tmp_path / "split")
    with edge_et.load(tmp_path / "split", threads=1, **REFERENCE) as pipeline:
        check_answers(run, tmp_path / "split", pipeline, *QUESTIONS)


@pytest.mark.parametrize("two_models", [True, False])
def test_answers_of_random_models(run: Run, tmp_path: Path, two_models: bool) -> None:
    """They write broken characters, nothing, and never a marker."""
    build_bundle(tmp_path / "tiny", two_models=two_models, adapter=True)
    with edge_et.load(tmp_path / "tiny", threads=1, **REFERENCE) as pipeline:
        check_answers(run, tmp_path / "tiny", pipeline, QUESTIONS[0], "<|im_end|> \u00e9 <think>")
