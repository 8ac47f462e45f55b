"""Runs killed at ten moments, each by a signal that nothing can catch; then one that may end.

The moments are drawn from a seed, over the time that a whole run takes. What a killed run has left
may not be loaded, keep the next run from succeeding, or stay.
"""

import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny.anyres import GOLDEN
from tiny.hub import Repository, running_hub

import edge_et
from edge_et.bundle import load_bundle
from edge_et.export.llm.llama_logits import require_runs

pytestmark = pytest.mark.slow

KILLS = 10
UNCLAIMED_S = 2.5  # folders younger than two seconds are left to whoever may be making them


def kill_and_finish(
    code: str,
    *arguments: object,
    seed: int,
    check: Callable[[], None],
    prepare: Callable[[], None] = lambda: None,
    environment: Mapping[str, str] | None = None,
) -> None:
    """Run a program to its end, then kill it at ten moments, then run it to its end again.

    Args:
        code: the program.
        arguments: of the program.
        seed: of the moments.
        check: looks at what a killed run has left.
        prepare: makes a run do its work anew.
        environment: variables of the program.
    """
    command = [sys.executable, "-c", code, *map(str, arguments)]
    environment = {**os.environ, **(environment or {})}
    started = time.perf_counter()
    subprocess.run(command, env=environment, check=True)
    whole_s = time.perf_counter() - started
    moments = random.Random(seed)
    for _ in range(KILLS):
        prepare()
        with subprocess.Popen(command, env=environment) as process:
            time.sleep(moments.uniform(0.2, 1.0) * whole_s)
            process.kill()
        check()
    prepare()
    time.sleep(UNCLAIMED_S)
    subprocess.run(command, env=environment, check=True)


def test_quantize(llama_gguf: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from edge_et.quantize.quantize_llm import quantize_llm\n"
        "quantize_llm(Path(sys.argv[1]), Path(sys.argv[2]), 'Q8_0', threads=1)"
    )
    out = tmp_path / "out.gguf"

    def check() -> None:
        if out.exists():
            require_runs(out)

    def prepare() -> None:
        out.unlink(missing_ok=True)

    kill_and_finish(code, llama_gguf, out, seed=1, check=check, prepare=prepare)
    require_runs(out)
    assert list(tmp_path.iterdir()) == [out]


def test_build(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from edge_et.export.building.build_bundle import build_bundle\n"
        "from edge_et.export.building.build_files import BuildOptions\n"
        "options = BuildOptions(quantization='Q8_0', max_tiles=5)\n"
        "build_bundle(sys.argv[1], Path(sys.argv[2]), options=options)"
    )
    out = tmp_path / "bundle"

    def check() -> None:
        if out.exists():
            load_bundle(out).verify()

    kill_and_finish(code, GOLDEN / "llava_qwen3_tiny", out, seed=2, check=check)
    load_bundle(out).verify()
    assert list(tmp_path.iterdir()) == [out]


def test_snapshots(tiny_bundle: Path, tmp_path: Path) -> None:
    code = (
        "import sys, edge_et\n"
        "with edge_et.load(sys.argv[1], threads=1, cache_dir=sys.argv[3]) as pipe:\n"
        "    for number in range(4):\n"
        "        answer = pipe.answer(f'{sys.argv[2]}/{number}.png', 'What is it?')\n"
    )
    pictures, cache = tmp_path / "pictures", tmp_path / "cache"
    pictures.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (4, 40, 60, 3), np.uint8)
    for number, each in enumerate(pixels):
        Image.fromarray(each).save(pictures / f"{number}.png")

    def answers(**options: object) -> list[str]:
        with edge_et.load(tiny_bundle, threads=1, **options) as pipe:  # type: ignore[arg-type]
            return [
                pipe.answer(pictures / f"{number}.png", "What is it?").text for number in range(4)
            ]

    expected = answers()

    def check() -> None:
        assert answers(cache_dir=cache) == expected
        for path in (cache / "snapshots").glob("*.snapshot"):
            path.unlink()

    kill_and_finish(code, tiny_bundle, pictures, cache, seed=3, check=check)
    for path in (cache / "snapshots").glob(".edge-et-partial-*"):
        os.utime(path, (0, 0))  # as it will be in an hour
    next((cache / "snapshots").glob("*.snapshot")).unlink()
    assert answers(cache_dir=cache) == expected
    assert list((cache / "snapshots").glob(".edge-et-partial-*")) == []


def test_downloads(tmp_path: Path) -> None:
    code = (
        "from edge_et.export.checkpoint.hub import fetch_checkpoint, find_checkpoint\n"
        "fetch_checkpoint(find_checkpoint('hf:owner/model'))"
    )
    content = {
        "config.json": b"{}",
        "model-00001-of-00002.safetensors": os.urandom(40 * 2**20),
        "model-00002-of-00002.safetensors": os.urandom(40 * 2**20),
        "model.safetensors.index.json": b"{}",
    }
    cache = tmp_path / "cache"

    def check() -> None:
        for name, expected in content.items():
            for path in cache.glob(f"models--owner--model/snapshots/*/{name}"):
                assert path.read_bytes() == expected

    with running_hub() as hub:
        hub.repositories["owner/model"] = Repository(content)
        environment = {"HF_ENDPOINT": hub.url, "HF_HUB_CACHE": str(cache)}

        def prepare() -> None:
            for path in cache.glob("models--owner--model/snapshots/*/*"):
                path.resolve().unlink(missing_ok=True)
                path.unlink()

        kill_and_finish(code, seed=4, check=check, prepare=prepare, environment=environment)
    check()
    assert len(list(cache.glob("models--owner--model/snapshots/*/*"))) == len(content)
    assert list(cache.rglob("*.incomplete")) == []
