"""Several pictures in one question, through llama.cpp and ONNX Runtime: tiny bundles and the mini.

What is promised: an extraction depends on its own picture alone, to the last bit; a further
question evaluates no image position again; and how the pictures came back does not show.
"""

import io
import itertools
import json
import random
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tiny.bundle import build_bundle
from tiny.places import EXAMPLES
from tiny.thoughts import change_bundle

import edge_et
from edge_et.errors import ImageError, PromptTooLongError
from edge_et.results import Answer, PictureExtraction

QUESTION, OTHER_QUESTION = "What is this?", "What is at the top left?"
IMAGES = [
    np.random.default_rng(seed).integers(0, 256, (40 + 10 * seed, 60, 3), np.uint8)
    for seed in range(3)
]
IMAGE_TOKENS = 16
QUIET = {"threads": 1, "use_profile": False}


def said(extractions: Sequence[PictureExtraction]) -> list[tuple[str, int]]:
    return [(one.text, one.usage.generated_tokens) for one in extractions]


def texts(answer: Answer) -> tuple[str, str, str]:
    return answer.extraction, answer.reasoning, answer.text


def ask_anew(model: Any, images: Any, question: str, **options: Any) -> Answer:
    """Answer a question in a pipeline of its own."""
    with edge_et.load(model, **QUIET, **options) as pipe:
        return pipe.answer(images, question)


@pytest.fixture(scope="module", params=["tiny", "pair"])
def model(request: pytest.FixtureRequest, tiny_bundle: Path, tiny_pair: Path) -> Path:
    return tiny_pair if request.param == "pair" else tiny_bundle


@pytest.fixture
def pipe(model: Path) -> Iterator[edge_et.ExtractThink]:
    with edge_et.load(model, **QUIET) as pipe:
        yield pipe


def test_a_further_question_evaluates_no_image_position_again(
    pipe: edge_et.ExtractThink, model: Path
) -> None:
    first = pipe.answer(IMAGES, QUESTION)
    assert [one.usage.evaluated_tokens >= IMAGE_TOKENS for one in first.extractions] == [True] * 3
    second = pipe.answer(IMAGES, OTHER_QUESTION)
    assert second.usage["vision"].evaluated_tokens == 0
    for one in second.extractions:
        assert one.usage.reused_tokens == 3 + IMAGE_TOKENS  # what opens the turn, and the image
    assert texts(second) == texts(ask_anew(model, IMAGES, OTHER_QUESTION))
    assert texts(pipe.answer(IMAGES, QUESTION)) == texts(first)


def test_an_extraction_depends_on_its_own_picture_alone(pipe: edge_et.ExtractThink) -> None:
    alone = [said(pipe.answer(image, QUESTION).extractions)[0] for image in IMAGES]
    assert len(set(alone)) == 3
    for order in itertools.permutations(range(3)):
        answer = pipe.answer([IMAGES[number] for number in order], QUESTION)
        assert said(answer.extractions) == [alone[number] for number in order]
    assert said(pipe.answer([IMAGES[1]] * 2, QUESTION).extractions) == [alone[1]] * 2


def test_it_does_not_show_how_pictures_came_back(model: Path, tmp_path: Path) -> None:
    expected = texts(ask_anew(model, IMAGES, OTHER_QUESTION))
    for options in (
        {"image_kv_bytes": 0},
        {"image_kv_bytes": 10_000},  # room for two of three
        {"cache_dir": tmp_path},
        {"cache_dir": tmp_path, "image_kv_bytes": 0},
    ):
        with edge_et.load(model, **QUIET, **options) as pipe:
            pipe.answer(IMAGES, QUESTION)
            assert texts(pipe.answer(IMAGES, OTHER_QUESTION)) == expected


def test_without_memory_for_copies_images_are_read_again(pipe: edge_et.ExtractThink) -> None:
    with edge_et.load(pipe.bundle.folder, **QUIET, image_kv_bytes=0) as forgetful:  # type: ignore[union-attr]
        for _ in range(2):
            usages = [one.usage for one in forgetful.answer(IMAGES, QUESTION).extractions]
            assert all(usage.evaluated_tokens >= IMAGE_TOKENS for usage in usages[:2])


def test_a_program_started_again_reads_no_picture_anew(model: Path, tmp_path: Path) -> None:
    first = ask_anew(model, IMAGES, QUESTION, cache_dir=tmp_path)
    again = ask_anew(model, IMAGES, OTHER_QUESTION, cache_dir=tmp_path)
    assert again.usage["vision"].evaluated_tokens == 0
    assert all(one.usage.reused_tokens >= IMAGE_TOKENS for one in again.extractions)
    assert texts(again) == texts(ask_anew(model, IMAGES, OTHER_QUESTION))
    assert texts(ask_anew(model, IMAGES, QUESTION, cache_dir=tmp_path)) == texts(first)


def test_copies_share_the_memory_that_kv_caches_may_take(model: Path) -> None:
    with pytest.raises(edge_et.errors.MemoryBudgetError) as caught:
        edge_et.load(model, **QUIET, max_kv_bytes=1)
    needed = caught.value.needed_bytes
    with edge_et.load(model, **QUIET, max_kv_bytes=needed) as pipe:
        pipe.answer(IMAGES, QUESTION)
        usages = [one.usage for one in pipe.answer(IMAGES, QUESTION).extractions]
        assert all(usage.evaluated_tokens >= IMAGE_TOKENS for usage in usages[:2])


def test_what_is_forgotten_is_read_again(pipe: edge_et.ExtractThink) -> None:
    pipe.answer(IMAGES, QUESTION)
    pipe.clear()
    answer = pipe.answer(IMAGES, QUESTION)
    assert all(one.usage.evaluated_tokens >= IMAGE_TOKENS for one in answer.extractions)


def test_pictures_that_share_a_prompt(tmp_path: Path) -> None:
    build_bundle(tmp_path)
    change_bundle(tmp_path, extract={"pictures": "together", "between_pictures": "\n"})
    with edge_et.load(tmp_path, **QUIET) as pipe:
        first = pipe.answer(IMAGES, QUESTION)
        (extraction,) = first.extractions
        assert extraction.text == first.extraction
        assert first.usage["extract"].evaluated_tokens > 3 * IMAGE_TOKENS
        second = pipe.answer(IMAGES, OTHER_QUESTION)
        assert second.usage["extract"].reused_tokens > 3 * IMAGE_TOKENS
        swapped = pipe.answer([IMAGES[1], IMAGES[0], IMAGES[2]], QUESTION)
    assert texts(second) == texts(ask_anew(tmp_path, IMAGES, OTHER_QUESTION))
    assert swapped.extraction != first.extraction  # they see each other


def test_too_many_pictures_for_the_context_are_told_with_numbers(
    pipe: edge_et.ExtractThink,
) -> None:
    with pytest.raises(PromptTooLongError, match="give at most") as caught:
        pipe.answer(IMAGES * 5, QUESTION, max_extraction_tokens=40)
    assert caught.value.tokens > caught.value.limit == 512
    answer = pipe.answer(IMAGES * 5, QUESTION, max_extraction_tokens=4)
    assert len(answer.extractions) == answer.usage["extract"].pictures == 15


ODD: list[Any] = [
    [],
    (),
    [None],
    [[]],
    [IMAGES[:2]],
    [IMAGES[0], IMAGES[1:]],
    [IMAGES[0], None],
    (image for image in IMAGES),
    iter(IMAGES),
    {"a": IMAGES[0]},
    {1, 2},
    [IMAGES[0], "nothing.png"],
    [IMAGES[0], b""],
    [b"garbage", b"garbage"],
    [IMAGES[0], io.StringIO("x")],
    [IMAGES[0]] * 17,
    np.stack([np.zeros((4, 4, 3), np.uint8)] * 2),
    range(3),
    "a.png,b.png",
    [float("nan"), IMAGES[0]],
]


def test_odd_lists_are_refused_and_the_pipeline_goes_on(tiny_bundle: Path) -> None:
    rng = random.Random(0)
    pieces: list[Any] = [*IMAGES, None, [], b"x", "nothing.png", 5, io.BytesIO(b"abc"), {}]
    mixed = [[rng.choice(pieces) for _ in range(rng.randint(2, 5))] for _ in range(40)]
    with edge_et.load(tiny_bundle, **QUIET) as pipe:
        expected = texts(pipe.answer(IMAGES[:2], QUESTION))
        for odd in [*ODD, *mixed]:
            is_odd = not isinstance(odd, list) or any(
                not any(piece is image for image in IMAGES) for piece in odd
            )
            if is_odd or not 1 <= len(odd) <= 16:
                with pytest.raises(ImageError) as caught:
                    pipe.answer(odd, QUESTION)
                assert "\n" not in str(caught.value)
        assert texts(pipe.answer(IMAGES[:2], QUESTION)) == expected


def test_a_stream_of_several_pictures_may_be_left_at_any_event(tiny_pair: Path) -> None:
    with edge_et.load(tiny_pair, **QUIET) as pipe:
        expected = texts(pipe.answer(IMAGES, QUESTION))
        events = sum(1 for _ in pipe.stream(IMAGES, QUESTION))
        for count in range(0, events, 7):
            stream = pipe.stream(IMAGES, QUESTION)
            for _ in range(count):
                next(stream)
            stream.close()
        assert texts(pipe.answer(IMAGES, QUESTION)) == expected


def test_every_deadline_leaves_an_answer(pipe: edge_et.ExtractThink) -> None:
    for deadline_s in (1e-9, 0.01, 0.03, 0.1, 0.3):
        answer = pipe.answer(IMAGES, QUESTION, deadline_s=deadline_s)
        assert answer.text
        assert len(answer.extractions) == 3
        unseen = [
            number
            for number, one in enumerate(answer.extractions, 1)
            if not one.text and one.finish_reason == "deadline"
        ]
        for number in unseen:
            assert f"Picture {number}: not looked at" in answer.extraction
    assert answer.extraction.count("Picture ") == 3


def test_the_command_line_takes_several_files(tiny_pair: Path, tmp_path: Path) -> None:
    paths = []
    for number, image in enumerate(IMAGES):
        paths.append(tmp_path / f"{number}.png")
        Image.fromarray(image).save(paths[-1])

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "edge_et", "answer", *map(str, arguments)]
        command += ["--model", str(tiny_pair), "--threads", "1", "--no-use-profile"]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

    expected = ask_anew(tiny_pair, paths, QUESTION)
    document = json.loads(run(*paths, QUESTION, "--json").stdout)
    assert document["text"] == expected.text
    assert [one["text"] for one in document["extractions"]] == [
        one.text for one in expected.extractions
    ]
    assert document["usage"]["extract"]["pictures"] == 3
    shown = run(*paths, QUESTION, "--show-stages")
    assert all(f"Picture {number}: " in shown.stdout for number in (1, 2, 3))
    refused = run(*paths, QUESTION, "--max-images", 2)
    assert refused.returncode == 1
    assert refused.stderr.count("\n") == 1
    assert "there are 3 pictures, the limit is 2" in refused.stderr


CAT, COFFEE = EXAMPLES / "cat.png", EXAMPLES / "coffee.png"


@pytest.fixture(scope="module")
def mini() -> Iterator[edge_et.ExtractThink]:
    with edge_et.load(use_profile=False) as pipe:
        yield pipe


def test_the_mini_reads_no_picture_again_and_writes_the_same_in_any_order(
    mini: edge_et.ExtractThink,
) -> None:
    question = "Is there a cup?"
    first = mini.answer([CAT, COFFEE], question)
    assert all(one.usage.evaluated_tokens > 126 for one in first.extractions)
    swapped = mini.answer([COFFEE, CAT], question)
    assert said(swapped.extractions) == said(first.extractions)[::-1]
    assert swapped.usage["vision"].evaluated_tokens == 0
    for one in swapped.extractions:
        assert one.usage.reused_tokens == 129  # what opens the turn, and the image
    (alone,) = mini.answer(COFFEE, question).extractions
    assert said([alone]) == said(first.extractions[1:])
    assert alone.text.startswith("The picture shows")


@pytest.mark.slow
def test_the_mini_has_room_for_sixteen_pictures(mini: edge_et.ExtractThink) -> None:
    answer = mini.answer([CAT] * 16, "What is this?")
    assert len({one.text for one in answer.extractions}) == 1
    assert answer.finish_reasons["extract"] == "stop"
