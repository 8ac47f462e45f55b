"""The threads of ONNX Runtime and llama.cpp: what they compute, and where they may run."""

import ctypes
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny.engine import ON_PREBUILT
from tiny.llama import WIDTH
from tiny.watched import bare_environment

from edge_et.bundle import Bundle, find_bundle, load_bundle, read_manifest
from edge_et.image import ImageTokens, VisionTower
from edge_et.llm import (
    ImageSegment,
    KVCacheSettings,
    LanguageModel,
    Tokenizer,
    TokenSegment,
    load_library,
)
from edge_et.threads import SpareThreads, available_cpus

TWO_THREADS_IN_ONE_CPU = """
import os, sys
mine = sorted(os.sched_getaffinity(0))[:1]
os.sched_setaffinity(0, mine)  # before numpy starts threads of its own
from pathlib import Path
import numpy as np
from edge_et.bundle import read_manifest
from edge_et.image import VisionTower
from edge_et.llm import KVCacheSettings, LanguageModel, Tokenizer, TokenSegment

folder = Path(sys.argv[1])
manifest = read_manifest(folder / "bundle.json")
tower = VisionTower(folder / "vision.onnx", manifest.vision, 2)
tower.encode([np.zeros((3, 32, 32), np.float32)])
size = Tokenizer(folder / "tokenizer.json").size
model = LanguageModel(
    folder / "perceiver.gguf", manifest.perceiver, adapter=None, token_count=size
)
context = model.new_kv_cache(KVCacheSettings(context_length=64, threads=2))
context.prefill([TokenSegment((20, 21, 22))])
threads = os.listdir("/proc/self/task")
print(len(threads), {tuple(os.sched_getaffinity(int(thread))) == tuple(mine) for thread in threads})
"""


@pytest.fixture(scope="module")
def mini() -> Bundle:
    return load_bundle(find_bundle())


def test_the_number_of_threads_changes_no_bit_of_a_picture(mini: Bundle) -> None:
    spec = mini.manifest.vision
    height, width = spec.processing.height, spec.processing.width
    tile = np.random.default_rng(0).normal(0, 1, (3, height, width)).astype(np.float32)
    made = []
    for threads in (1, 2, 3):
        tower = VisionTower(mini.path(spec.graph), spec, threads)
        made.append(tower.encode([tile]).features)
        tower.close()
    assert np.array_equal(made[0], made[1])
    assert np.array_equal(made[0], made[2])


def test_nor_one_of_what_follows_a_prompt(tiny_bundle: Path) -> None:
    """That is so without flash attention, which sums over as many parts as there are threads."""
    spec = read_manifest(tiny_bundle / "bundle.json").perceiver
    size = Tokenizer(tiny_bundle / "tokenizer.json").size
    model = LanguageModel(tiny_bundle / "perceiver.gguf", spec, adapter=None, token_count=size)
    rows = np.random.default_rng(0).normal(0, 1, (290, WIDTH)).astype(np.float32)
    prompt = [ImageSegment(ImageTokens(rows, "rows")), TokenSegment(tuple(range(20, 57)))]
    logits = []
    for threads in (1, 2, 3):
        context = model.new_kv_cache(KVCacheSettings(context_length=400, threads=threads))
        context.prefill(prompt)
        behind = [context.logits]
        for token in range(20, 26):
            context.decode(token)
            behind.append(context.logits)
        logits.append(np.stack(behind))
        context.close()
    model.close()
    assert np.array_equal(logits[0], logits[1])
    assert np.array_equal(logits[0], logits[2])


def engine_function(name: str) -> Any:
    """Return a C function, which a package binds or not."""
    if not ON_PREBUILT:
        return getattr(load_library(), name)
    from ik_llama_cpp._ctypes_api import _lib

    return _lib[name]


@pytest.mark.parametrize(("flash", "expected"), [(False, [3, 2, 1, 3]), (True, [3] * 4)])
def test_few_rows_are_evaluated_with_the_threads_that_are_to_spare(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, flash: bool, expected: list[int]
) -> None:
    """With flash attention there are always all: another number would change bits."""
    numbers = iter((3, 2, 1, 3, 1))
    monkeypatch.setattr(SpareThreads, "for_tokens", lambda _: next(numbers))
    spec = read_manifest(tiny_bundle / "bundle.json").perceiver
    size = Tokenizer(tiny_bundle / "tokenizer.json").size
    model = LanguageModel(tiny_bundle / "perceiver.gguf", spec, adapter=None, token_count=size)
    settings = KVCacheSettings(context_length=128, threads=3, flash_attention=flash)
    context = model.new_kv_cache(settings)

    def threads() -> tuple[int, int]:
        with context._context._handle.lock:
            native = ctypes.c_void_p(context._context._handle.value)
            return (
                engine_function("llama_n_threads")(native),
                engine_function("llama_n_threads_batch")(native),
            )

    used = []
    for token in range(20, 24):
        context.prefill([TokenSegment((token, token + 1))])
        used.append(threads())
    rows = np.random.default_rng(0).normal(0, 1, (64, WIDTH)).astype(np.float32)
    context.prefill([ImageSegment(ImageTokens(rows, "rows"))])
    assert threads()[1] == 3
    context.close()
    model.close()
    assert used == [(few, few) for few in expected]


def test_threads_of_the_tower_sleep_when_they_have_nothing_to_do(tiny_bundle: Path) -> None:
    """The language model works next, with as many threads on the same CPUs."""
    spec = read_manifest(tiny_bundle / "bundle.json").vision
    tower = VisionTower(tiny_bundle / "vision.onnx", spec, 2)
    with tower._session.lock:
        options = tower._session.value.get_session_options()
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    assert options.inter_op_num_threads == 1


@pytest.mark.skipif(
    sys.platform != "linux" or available_cpus() < 2,
    reason="needs two CPUs, and affinity of threads",
)
def test_all_threads_keep_to_the_cpus_of_the_process(tiny_bundle: Path, tmp_path: Path) -> None:
    """ONNX Runtime's pool of a default size pins its threads to CPUs of the whole machine."""
    told = subprocess.run(
        [sys.executable, "-c", TWO_THREADS_IN_ONE_CPU, str(tiny_bundle)],
        env=bare_environment(tmp_path),
        capture_output=True,
        text=True,
        check=True,
    )
    count, only_mine = told.stdout.split(maxsplit=1)
    assert int(count) >= 4  # the main thread, the one that computes, a second of either library
    assert only_mine.strip() == "{True}"
