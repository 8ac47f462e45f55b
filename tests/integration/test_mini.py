"""The mini bundle as installed: real weights, real answers."""

import dataclasses
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont
from tiny.places import ROOT

import edge_et
from edge_et.bundle import HASH_AT_LOAD_BYTES, BundleFile, find_bundle, load_bundle
from edge_et.errors import FileHashError

DEMO = ROOT / "examples" / "cat.png"
IMAGE_TOKENS = 126
PLACES = ((45, 50), (170, 45), (60, 165), (175, 170), (112, 108))
QUESTIONS = ("What is this?", "How many objects are there?", "What is at the top left?")


@pytest.fixture(scope="module")
def pipe() -> Iterator[edge_et.ExtractThink]:
    with edge_et.load() as pipe:
        yield pipe


def disc(colour: tuple[int, int, int]) -> Image.Image:
    picture = Image.new("RGB", (224, 224), (236, 236, 240))
    ImageDraw.Draw(picture).ellipse((50, 50, 174, 174), fill=colour)
    return picture


def test_every_byte_is_as_the_manifest_says():
    bundle = load_bundle(find_bundle())
    bundle.verify()
    own = sum(file.ref.size_bytes for file in bundle.files if file.ref.package is None)
    assert own < 60e6


def test_the_head_of_its_weights_is_compared_at_a_load(tmp_path: Path) -> None:
    """Its manifest tells no hash of it, as it was written before manifests could."""
    bundle = load_bundle(find_bundle())
    weights = bundle.manifest.perceiver.weights
    assert weights.head is None
    copy = Path(shutil.copyfile(bundle.path(weights), tmp_path / "copy.gguf"))
    here = msgspec.structs.replace(weights, path=copy.name, package=None)
    own = BundleFile(role="perceiver.weights", ref=here, path=copy)
    replaced = dataclasses.replace(bundle, files=(own,))
    replaced.verify(up_to_bytes=HASH_AT_LOAD_BYTES)
    with copy.open("r+b") as file:
        file.seek(file.read(2**20).index(b"smollm2"))
        file.write(b"s")
        replaced.verify(up_to_bytes=HASH_AT_LOAD_BYTES)
        file.write(b"M")
    with pytest.raises(FileHashError):
        replaced.verify(up_to_bytes=HASH_AT_LOAD_BYTES)


def test_the_demo_picture_is_answered_right():
    command = [sys.executable, "-m", "edge_et", "answer", str(DEMO), "What is this?"]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout == "cat\n"


@pytest.mark.parametrize(
    ("colour", "name"), [((214, 40, 40), "red"), ((40, 90, 205), "blue"), ((46, 152, 70), "green")]
)
def test_colours_are_told_apart(pipe: edge_et.ExtractThink, colour, name):
    assert pipe.answer(disc(colour), "What color is the circle?").text == name


@pytest.mark.parametrize(
    ("print_", "question"),
    [("bakery", "What does the sign say?"), ("4207", "What number is on the sign?")],
)
def test_print_is_read(pipe: edge_et.ExtractThink, print_: str, question: str):
    picture = Image.new("RGB", (448, 448), (150, 190, 160))
    pen = ImageDraw.Draw(picture)
    pen.rectangle((40, 140, 408, 290), (245, 245, 240))
    pen.text((224, 215), print_.upper(), (20, 20, 30), ImageFont.load_default(84), anchor="mm")
    extraction = pipe.extract(picture, question)
    thought = pipe.think(question, extraction)
    assert thought.answer == print_
    # What was written letter by letter is read again so.
    pipe.clear()
    assert pipe.think(question, extraction).tokens == thought.tokens


@pytest.mark.parametrize("kind", ["red circles", "circles"])
@pytest.mark.parametrize(
    "places",
    [PLACES[:2], PLACES[2:4], PLACES[:3], PLACES],
    ids=["upper row", "lower row", "three", "five"],
)
def test_things_are_counted(
    pipe: edge_et.ExtractThink, kind: str, places: tuple[tuple[int, int], ...]
):
    picture = Image.new("RGB", (224, 224), (236, 236, 240))
    for x, y in places:
        ImageDraw.Draw(picture).ellipse((x - 25, y - 25, x + 25, y + 25), fill=(214, 40, 40))
    assert pipe.answer(picture, f"How many {kind} are there?").text == str(len(places))


@pytest.mark.parametrize("question", QUESTIONS)
def test_an_emptied_cache_changes_no_token(pipe: edge_et.ExtractThink, question: str):
    extraction = pipe.extract(DEMO, question)
    reused = pipe.think(question, extraction)
    pipe.clear()
    recomputed = pipe.think(question, extraction)
    assert reused.usage.reused_tokens > IMAGE_TOKENS
    assert recomputed.usage.reused_tokens == 0
    assert recomputed.tokens == reused.tokens


def test_a_second_question_costs_neither_tower_nor_image_prefill(pipe: edge_et.ExtractThink):
    session = pipe.session(DEMO)
    session.answer(QUESTIONS[0])
    usage = session.answer(QUESTIONS[2]).usage
    assert usage["vision"].evaluated_tokens == 0
    assert usage["vision"].reused_tokens == IMAGE_TOKENS
    assert usage["extract"].reused_tokens >= IMAGE_TOKENS


def test_the_same_file_again_is_not_encoded_again(pipe: edge_et.ExtractThink):
    pipe.clear()
    first = pipe.answer(DEMO, QUESTIONS[0])
    again = pipe.answer(np.asarray(Image.open(DEMO).convert("RGB")), QUESTIONS[0])
    assert first.usage["vision"].evaluated_tokens == IMAGE_TOKENS
    assert again.usage["vision"].evaluated_tokens == 0
    assert again.text == first.text
