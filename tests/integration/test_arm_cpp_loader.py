"""examples/cpp on 64-bit ARM, emulated, against the runtime there and on x86: docs/arm.md."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny.bundle import build_bundle
from tiny.cpp_loader import (
    REFERENCE,
    Run,
    ask,
    check_ids,
    expected_answer,
    image_tokens,
    refused,
    runner,
    write_tokenizer_of,
)
from tiny.engine import ON_PREBUILT
from tiny.places import EXAMPLES, ROOT

import edge_et
from edge_et.bundle import find_bundle

sys.path.append(str(ROOT / "scripts" / "arm"))

import cpp_loader
import report
import system as arm

PICTURE, QUESTION = EXAMPLES / "cat.png", "What is this?"
MAX_DISTANCE = 1e-5
"""Between numbers that the same library computes on the same CPU."""

ASK = """
import json, sys
import numpy as np
import edge_et

bundle, picture, rows, *questions = sys.argv[1:]
options = {"engine": "llama", "convert_weights": False, "use_profile": False, "threads": 1}
with edge_et.load(bundle, **options) as pipeline:
    np.save(rows, pipeline.encode_image(picture).rows)
    for question in questions:
        told = pipeline.answer(picture, question)
        parts = {"extraction": told.extraction, "reasoning": told.reasoning, "answer": told.text}
        print(json.dumps(parts))
"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(arm.what_is_missing()), reason=arm.what_is_missing()),
    pytest.mark.skipif(ON_PREBUILT, reason="it has llama.cpp alone"),
]


@pytest.fixture(scope="module")
def system() -> arm.System:
    return arm.make_system(arm.DEFAULT)


@pytest.fixture(scope="module")
def program(system: arm.System) -> Path:
    return cpp_loader.make_loader(system)


def on(system: arm.System, cpu: str, program: Path) -> Run:
    return runner(system.emulated(cpu, [program]), timeout_s=3600)


def runtime_on(
    system: arm.System, cpu: str, rows: Path, bundle: Path, *questions: str
) -> tuple[Any, list[dict[str, str]]]:
    """Return the image tokens [S,D] of the runtime there, and what it tells of each question."""
    command = system.command(cpu, ["-c", ASK, bundle, PICTURE, rows, *questions])
    done = subprocess.run(command, env=system.environment(cpu), capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    return np.load(rows), [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("two_models", [False, True])
@pytest.mark.parametrize("cpu", ["cortex-a76", "cortex-a72"])
def test_random_models_say_the_same(
    system: arm.System, program: Path, tmp_path: Path, cpu: str, two_models: bool
) -> None:
    bundle = tmp_path / "tiny"
    build_bundle(bundle, two_models=two_models, adapter=True)
    run = on(system, cpu, program)
    rows, told = runtime_on(system, cpu, tmp_path / "rows.npy", bundle, QUESTION)
    found = image_tokens(run, bundle, PICTURE, rows.shape[1])
    answer = ask(run, bundle, PICTURE, QUESTION)
    assert np.abs(found - rows).max() < MAX_DISTANCE
    assert [answer] == told
    with edge_et.load(bundle, threads=1, **REFERENCE) as pipeline:
        assert np.abs(found - pipeline.encode_image(PICTURE).rows).max() < 1e-4
        assert answer == expected_answer(pipeline, PICTURE, QUESTION)


@pytest.mark.parametrize("kind", ["mini", "tiny", "qwen"])
def test_ids_are_those_of_tokenizers(
    system: arm.System, program: Path, tmp_path: Path, kind: str
) -> None:
    check_ids(on(system, "cortex-a76", program), write_tokenizer_of(kind, tmp_path))


def test_image_tokens_of_the_mini(system: arm.System, program: Path, tmp_path: Path) -> None:
    bundle = find_bundle(None)
    rows, _ = runtime_on(system, "cortex-a76", tmp_path / "rows.npy", bundle)
    found = image_tokens(on(system, "cortex-a76", program), bundle, PICTURE, rows.shape[1])
    assert np.abs(found - rows).max() < MAX_DISTANCE
    with edge_et.load(threads=1, **REFERENCE) as pipeline:
        expected = pipeline.encode_image(PICTURE).rows
    assert report.cosines(found, expected).min() > report.LEAST_COSINE


def test_an_answer_of_the_mini(system: arm.System, program: Path) -> None:
    found = ask(on(system, "cortex-a76", program), find_bundle(None), PICTURE, QUESTION)
    with edge_et.load(threads=1, **REFERENCE) as pipeline:
        assert found == expected_answer(pipeline, PICTURE, QUESTION)


def test_it_is_told_that_kernels_are_missing(
    system: arm.System, program: Path, tmp_path: Path
) -> None:
    build_bundle(tmp_path / "tiny")
    libraries = tmp_path / "lib"
    libraries.mkdir()
    for library in (system.folder / "llama.cpp" / "llama_cpp" / "lib").glob("*.so*"):
        if not library.name.startswith("libggml-cpu"):
            (libraries / library.name).symlink_to(library)
    command = system.emulated("cortex-a76", ["-E", f"LD_LIBRARY_PATH={libraries}", program])
    refused(runner(command)(tmp_path / "tiny", PICTURE, QUESTION), str(libraries), "libggml-cpu")
