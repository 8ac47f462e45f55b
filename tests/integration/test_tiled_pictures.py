"""Pictures of many tiles, from the file to the answer, over real ONNX Runtime and llama.cpp."""

import json
import logging
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tiny.anyres import build_tiled_bundle
from tiny.engine import ALLOCATED, has_f32_caches
from tiny.llama import KV_HEADS, LAYERS, WIDTH

import edge_et
from edge_et.bundle import load_bundle
from edge_et.errors import MemoryBudgetError, ModelFileError, OptionError, PromptTooLongError
from edge_et.llm import read_shape
from edge_et.options import KvType
from edge_et.pipeline import measure

PICTURE = np.random.default_rng(6).integers(0, 256, (60, 91, 3), np.uint8)
QUESTION = "What is on the table?"
POSITION_BYTES = 2 * LAYERS * KV_HEADS * (WIDTH // 4) * 2  # keys and values, F16


@pytest.fixture(scope="module")
def pipeline(tiny_tiled: Path) -> Iterator[edge_et.ExtractThink]:
    with edge_et.load(tiny_tiled, threads=1) as pipeline:
        yield pipeline


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pictures") / "picture.png"
    Image.fromarray(PICTURE).save(path)
    return path


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edge_et", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_tiles_and_newlines_come_from_the_graph(pipeline: edge_et.ExtractThink) -> None:
    rows = pipeline.encode_image(PICTURE).rows
    whole = pipeline.encode_image(PICTURE, max_tiles=1).rows
    assert np.array_equal(rows[:16], whole[:16])
    assert np.array_equal(rows[-1], whole[-1])  # the newline
    newlines = (rows == rows[-1]).all(axis=1)
    assert newlines.sum() > 1
    assert pipeline.image_cost(PICTURE).image_tokens == len(rows)


def test_the_budget_of_a_call_reaches_the_picture(pipeline: edge_et.ExtractThink) -> None:
    def tokens(**options: int) -> int:
        usage = pipeline.answer(PICTURE, QUESTION, **options).usage["vision"]
        return usage.evaluated_tokens + usage.reused_tokens

    assert tokens() > tokens(max_tiles=3) > tokens(max_tiles=1) == 17
    assert tokens(max_tiles=1, pooling=2) == 5
    session = pipeline.session(PICTURE, max_tiles=3)
    assert len(session.image.rows) == tokens(max_tiles=3)
    assert session.answer(QUESTION).text == pipeline.answer(PICTURE, QUESTION, max_tiles=3).text
    extraction = pipeline.extract(PICTURE, QUESTION, max_tiles=1)
    assert extraction.text == pipeline.answer(PICTURE, QUESTION, max_tiles=1).extraction
    assert pipeline.answer_directly(PICTURE, QUESTION, pooling=2).text


def test_wrong_budgets_leave_a_usable_pipeline(pipeline: edge_et.ExtractThink) -> None:
    expected = pipeline.answer(PICTURE, QUESTION).text
    options: Any
    for options in ({"max_tiles": 0}, {"pooling": 3}):
        with pytest.raises(OptionError):
            pipeline.encode_image(PICTURE, **options)
    with pytest.raises(OptionError, match="max_tiles"):
        pipeline.answer(pipeline.encode_image(PICTURE), QUESTION, max_tiles=2)
    assert pipeline.answer(PICTURE, QUESTION).text == expected


def test_a_picture_that_does_not_fit_is_refused_before_the_tower_runs(tmp_path: Path) -> None:
    build_tiled_bundle(tmp_path, context_length=256)
    with edge_et.load(tmp_path, threads=1) as pipeline:
        runs: list[object] = []
        encode = pipeline._encoder._tower.encode

        def watched(*arguments: Any) -> Any:
            runs.append(arguments)
            return encode(*arguments)

        pipeline._encoder._tower.encode = watched  # type: ignore[method-assign]
        budget = 256 - 130  # what stays is enough for the prompts, not for the picture too
        with pytest.raises(PromptTooLongError) as caught:
            pipeline.answer(PICTURE, QUESTION, max_thinking_tokens=budget)
        assert runs == []
        assert caught.value.limit == 256
        cost = pipeline.image_cost(PICTURE)
        assert (caught.value.image_tokens, caught.value.tiles) == (cost.image_tokens, cost.tiles)
        assert caught.value.fitting
        for options in caught.value.fitting:
            assert pipeline.answer(PICTURE, QUESTION, max_thinking_tokens=budget, **options).text
            assert len(runs) == pipeline.image_cost(PICTURE, **options).tiles
            runs.clear()


def test_a_picture_that_fills_the_context_alone(tmp_path: Path) -> None:
    build_tiled_bundle(tmp_path, context_length=60)
    with edge_et.load(tmp_path, threads=1) as pipeline:
        with pytest.raises(PromptTooLongError, match="it fits with") as caught:
            pipeline.session(PICTURE)
        assert caught.value.tokens == pipeline.image_cost(PICTURE).image_tokens + 1
        for options in caught.value.fitting:
            assert len(pipeline.session(PICTURE, **options).image.rows) < 60


@pytest.mark.parametrize("kv_type", ["f16", pytest.param("f32", marks=has_f32_caches)])
def test_the_size_of_a_cache_is_what_the_engine_allocates(
    tiny_tiled: Path, caplog: pytest.LogCaptureFixture, kv_type: KvType
) -> None:
    shape = read_shape(tiny_tiled / "perceiver.gguf")
    assert shape.kv_bytes(1, "f16") == POSITION_BYTES
    with caplog.at_level(logging.DEBUG, "edge_et.llm.native_log"):
        edge_et.load(tiny_tiled, threads=1, kv_type=kv_type).close()
    *_, mebibytes = re.findall(ALLOCATED, caplog.text)
    assert float(mebibytes) == pytest.approx(shape.cache_bytes(512, kv_type) / 2**20, abs=0.01)


def test_a_cache_over_the_budget_is_refused_with_the_numbers(
    tiny_tiled: Path, tiny_pair: Path
) -> None:
    needed = 512 * POSITION_BYTES
    edge_et.load(tiny_tiled, threads=1, max_kv_bytes=needed).close()
    with pytest.raises(MemoryBudgetError, match=str(needed)) as caught:
        edge_et.load(tiny_tiled, threads=1, max_kv_bytes=needed - 1)
    assert (caught.value.needed_bytes, caught.value.limit_bytes) == (needed, needed - 1)
    with pytest.raises(MemoryBudgetError) as caught:
        edge_et.load(tiny_pair, threads=1, kv_type="f32", max_kv_bytes=needed)
    assert caught.value.needed_bytes == 2 * 2 * needed  # two models, twice the width
    with pytest.raises(OptionError, match="max_kv_bytes"):
        edge_et.load(tiny_tiled, max_kv_bytes=0)


def test_sizes_of_what_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "none.gguf").write_bytes(b"GGUF")
    for name in ("none.gguf", "missing.gguf"):
        with pytest.raises(ModelFileError):
            read_shape(tmp_path / name)


def test_seconds_are_estimated_from_what_was_measured(
    pipeline: edge_et.ExtractThink, tiny_tiled: Path
) -> None:
    measured = measure(load_bundle(tiny_tiled), threads=1)
    assert measured.tile_seconds > 0
    assert measured.prefill_seconds > 0
    cost = pipeline.image_cost(PICTURE, measured, max_tiles=3)
    assert cost.seconds is not None
    assert cost.seconds > 3 * measured.tile_seconds
    assert cost.kv_bytes == cost.image_tokens * POSITION_BYTES
    assert pipeline.image_cost(PICTURE).seconds is None


def test_the_command_line_takes_budgets(tiny_tiled: Path, picture: Path) -> None:
    def tokens(*options: object) -> int:
        result = run("answer", picture, QUESTION, "--model", tiny_tiled, "--json", *options)
        count: int = json.loads(result.stdout)["usage"]["vision"]["evaluated_tokens"]
        return count

    assert tokens("--max-tiles", 1) == 17
    assert tokens("--max-tiles", 1, "--pooling", 2) == 5
    wrong = run("answer", picture, QUESTION, "--model", tiny_tiled, "--pooling", 5)
    assert (wrong.returncode, wrong.stdout) == (1, "")
    assert "pooling=5" in wrong.stderr


def test_info_tells_what_a_picture_costs(
    pipeline: edge_et.ExtractThink, tiny_tiled: Path, picture: Path
) -> None:
    result = run("info", tiny_tiled, "--image", picture, "--json")
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)["image"]
    cost = pipeline.image_cost(picture)
    assert (found["width"], found["height"], found["context_length"]) == (91, 60, 512)
    assert (found["tiles"], found["image_tokens"]) == (cost.tiles, cost.image_tokens) == (7, 76)
    assert found["kv_bytes"] == cost.kv_bytes
    assert found["seconds"] > found["calibration"]["tile_seconds"] > 0
    assert found["calibration"]["prefill_positions"] == 64

    fewer = run("info", tiny_tiled, "--image", picture, "--max-tiles", 1, "--pooling", 2)
    assert "1 tile, 5 image tokens of the 512" in " ".join(fewer.stdout.split())
    assert "run on this machine just now" in " ".join(fewer.stdout.split())
    assert "image" not in json.loads(run("info", tiny_tiled, "--json").stdout)


def test_info_refuses_what_it_cannot_tell(tiny_tiled: Path, picture: Path) -> None:
    assert run("info", tiny_tiled, "--max-tiles", 2).returncode == 2
    missing = run("info", tiny_tiled, "--image", picture.with_name("none.png"))
    assert (missing.returncode, len(missing.stderr.splitlines())) == (1, 1)
    wrong = run("info", tiny_tiled, "--image", picture, "--max-tiles", 0)
    assert (wrong.returncode, "max_tiles=0" in wrong.stderr) == (1, True)
