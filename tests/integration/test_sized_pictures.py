"""Pictures on tiles of many sizes, from the pixels to the answer."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny.sizes import build_sized_bundle

import edge_et
from edge_et.errors import OptionError, PromptTooLongError

SMALL = np.random.default_rng(6).integers(0, 256, (17, 25, 3), np.uint8)
LARGE = np.random.default_rng(7).integers(0, 256, (60, 100, 3), np.uint8)
QUESTION = "What is on the table?"
WHOLE, GRID, MARKS = 15, 6 * 16, 9
FEW = {"max_extraction_tokens": 4, "max_thinking_tokens": 4, "max_answer_tokens": 4}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sized")
    build_sized_bundle(folder)
    return folder


@pytest.fixture(scope="module")
def pipeline(bundle: Path) -> Iterator[edge_et.ExtractThink]:
    with edge_et.load(bundle, threads=1) as pipeline:
        yield pipeline


def test_image_tokens_are_those_of_the_blocks(pipeline: edge_et.ExtractThink) -> None:
    rows = pipeline.encode_image(LARGE).rows
    assert len(rows) == WHOLE + GRID + MARKS == pipeline.image_cost(LARGE).image_tokens
    alone = pipeline.encode_image(LARGE, max_tiles=1).rows
    assert len(alone) == WHOLE + 2
    assert np.array_equal(alone[[0, -1]], rows[[0, -1]])
    assert np.array_equal(alone[1:-1], rows[-WHOLE - 1 : -1])
    # The tower projects the mean colour of a block.
    shown = Image.fromarray(LARGE).resize((40, 24), Image.Resampling.BILINEAR)
    colours = np.asarray(shown, np.float64).reshape(3, 8, 5, 8, 3).mean(axis=(1, 3)).reshape(-1, 3)
    known = np.c_[colours, np.ones(WHOLE)]
    _, squares, rank, _ = np.linalg.lstsq(known, alone[1:-1], rcond=None)
    assert rank == 4
    assert squares.max() < 1e-6
    assert len(pipeline.encode_image(SMALL).rows) == 6 + 2


def test_small_and_large_pictures_are_answered_about(pipeline: edge_et.ExtractThink) -> None:
    for picture, tokens in ((SMALL, 8), (LARGE, WHOLE + GRID + MARKS)):
        usage = pipeline.answer(picture, QUESTION, **FEW).usage["vision"]
        assert usage.evaluated_tokens + usage.reused_tokens == tokens
    several = pipeline.answer([SMALL, LARGE], QUESTION, **FEW)
    assert len(several.extractions) == 2


def test_known_pictures_come_back_from_the_disk(bundle: Path, tmp_path: Path) -> None:
    answers = []
    for _ in range(2):
        with edge_et.load(bundle, threads=1, cache_dir=tmp_path) as pipe:
            answers.append(pipe.answer(LARGE, QUESTION, seed=1, **FEW))
    assert [answer.usage["vision"].evaluated_tokens for answer in answers] == [120, 0]
    assert answers[0].text == answers[1].text


def test_blocks_are_not_pooled(pipeline: edge_et.ExtractThink) -> None:
    with pytest.raises(OptionError, match=r"pooling.*many sizes"):
        pipeline.answer(SMALL, QUESTION, pooling=2)


def test_a_picture_that_does_not_fit_tells_how_many_tiles_do(tmp_path: Path) -> None:
    build_sized_bundle(tmp_path, context_length=128)
    with edge_et.load(tmp_path, threads=1) as pipe:
        with pytest.raises(PromptTooLongError) as caught:
            pipe.answer(LARGE, QUESTION, **FEW)
        assert caught.value.image_tokens == WHOLE + GRID + MARKS
        fitting = [dict(options) for options in caught.value.fitting]
        assert [list(options) for options in fitting] == [["max_tiles"]]
        assert pipe.answer(LARGE, QUESTION, **fitting[0], **FEW).text
