"""examples/cpp, built and run, and what it is compared with."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
from tokenizers import AddedToken, Regex, Tokenizer, normalizers, pre_tokenizers

import edge_et
from edge_et.bundle import find_bundle, load_bundle
from tiny.places import ROOT
from tiny.tokenizer import write_tokenizer

SOURCE: Final = ROOT / "examples" / "cpp"
REFERENCE: Final[Any] = {"engine": "llama", "convert_weights": False, "use_profile": False}
"""With what the runtime computes as the loader does."""

_QWEN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# Pieces of texts that tokenizers treat each in their own way.
_PIECES = (
    *("the cat", " Caf\u00e9", "e\u0301", "\u00c5ngstr\u00f6m", "\u212b", "\u1e9b\u0323", "\ufb01"),
    *("12345", "\u00bd\u2167\u0667", "3.14", "it's", "IT'S", "'\u017f", "they'LL", "don't", "'d"),
    *("\u4f60\u597d", "\u0928\u092e\u0938\u094d\u0924\u0947", "\ud55c\uad6d\uc5b4", "\u1112\u1161"),
    *("\u05e9\u05dc\u05d5\u05dd", "\U0001f600\U0001f469\u200d\U0001f680", "\U0001d4d0", "\u0e01"),
    *(" ", "  ", "\n", "\r\n\r\n", "\t", "\u00a0", "\u3000", "\u2028", "\x00", "\x1f", "\u200b"),
    *("<|im_end|>", "<|im_start|>system", "<think>", "</think>", "<|endoftext|>", "<image>"),
    *("!?...", "$%&/()=", "\u2014", "\u00ab\u00bb", "_", "a_b", "{question}", "\\n", "\ufffd"),
)

Run = Callable[..., "subprocess.CompletedProcess[bytes]"]


@cache
def build_loader() -> Path:
    """Build it, as README.md says; the parts and the build stay for the next time."""
    for tool in ("cmake", "c++", "apt-get"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    parts, build = ROOT / "build" / "cpp-parts", ROOT / "build" / "cpp"
    versions = {name: version(name) for name in ("llama-cpp-python", "onnxruntime")}
    complete, made_of = parts / "complete", f"{versions} {sys.prefix}"
    if not complete.exists() or complete.read_text() != made_of:
        script = [sys.executable, ROOT / "scripts" / "fetch_cpp_parts.py", parts]
        done = subprocess.run(script, capture_output=True, text=True, timeout=600, check=False)
        if done.returncode:
            pytest.skip(f"headers and libraries cannot be had: {done.stderr.strip()[-300:]}")
        complete.write_text(made_of)
    places = {
        "LLAMA_DIR": parts / "llama",
        "ONNXRUNTIME_DIR": parts / "onnxruntime",
        "CMAKE_PREFIX_PATH": parts / "usr",
    }
    settings = [f"-D{name}={place}" for name, place in places.items()]
    for command in (
        ["cmake", "-S", SOURCE, "-B", build, *settings],
        ["cmake", "--build", build, "-j", str(len(os.sched_getaffinity(0)))],
    ):
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    return build / "edge-et-cpp"


def runner(command: Sequence[str | Path], timeout_s: float = 300) -> Run:
    """Return a function that runs it with some arguments, on one CPU.

    Args:
        command: the program, behind an emulator if it needs one.
        timeout_s: for one run.
    """

    def run(*arguments: object, stdin: str = "") -> "subprocess.CompletedProcess[bytes]":
        return subprocess.run(
            [*command, *map(str, arguments)],
            input=stdin.encode(),
            capture_output=True,
            timeout=timeout_s,
            check=False,
            preexec_fn=_on_one_cpu,
        )

    return run


def _on_one_cpu() -> None:
    # Threads of llama.cpp wait for one another, on a busy machine for long.
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def image_tokens(run: Run, bundle: Path, picture: Path, width: int) -> Any:
    """Return the image tokens [S, width] that it computes."""
    done = run("image-tokens", bundle, picture)
    assert done.returncode == 0, done.stderr
    return np.frombuffer(done.stdout, np.float32).reshape(-1, width)


def ask(run: Run, bundle: Path, picture: Path, question: str) -> dict[str, str]:
    """Return its extraction, reasoning and answer; the mini's weights are looked for here."""
    done = run("--json", *_package_options(), bundle, picture, question)
    assert done.returncode == 0, done.stderr
    told: dict[str, str] = json.loads(done.stdout)
    return told


def _package_options() -> tuple[str, str]:
    bundle = load_bundle(find_bundle(None))
    weights = bundle.manifest.perceiver.weights
    return "--package", f"{weights.package}={bundle.path(weights).parent}"


def expected_answer(pipeline: edge_et.ExtractThink, picture: Path, question: str) -> dict[str, str]:
    """Return the runtime's extraction, reasoning and answer."""
    answer = pipeline.answer(picture, question)
    return {"extraction": answer.extraction, "reasoning": answer.reasoning, "answer": answer.text}


def write_tokenizer_of(kind: str, folder: Path) -> Path:
    """Return the mini's tokenizer, a tiny one, or one that splits as those of Qwen do."""
    if kind == "mini":
        bundle = load_bundle(find_bundle(None))
        return bundle.path(bundle.manifest.perceiver.tokenizer)
    path = folder / f"{kind}.json"
    tokenizer = write_tokenizer(path)
    if kind == "qwen":
        tokenizer.normalizer = normalizers.NFC()
        split = pre_tokenizers.Split(Regex(_QWEN), "isolated", invert=False)
        byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level])
        tokenizer.add_tokens([AddedToken("<image>", special=False)])
        tokenizer.save(str(path))
    return path


def check_ids(run: Run, path: Path) -> None:
    """Compare the ids of 200 texts with those of the tokenizers library."""
    random = np.random.default_rng(5)
    texts = ["", *_PIECES]
    while len(texts) < 200:
        texts.append("".join(random.choice(_PIECES, random.integers(2, 12))))
    plain = json.loads(path.read_bytes()) | {"added_tokens": [], "truncation": None}
    reference = Tokenizer.from_str(json.dumps(plain | {"padding": None, "post_processor": None}))
    done = run("token-ids", path, stdin=json.dumps(texts))
    assert done.returncode == 0, done.stderr
    for text, ids in zip(texts, json.loads(done.stdout), strict=True):
        assert ids == reference.encode(text, add_special_tokens=False).ids, repr(text)


def refused(done: "subprocess.CompletedProcess[bytes]", *words: str) -> None:
    """Check that it ended with an error of its own, in a line that holds some words."""
    message = done.stderr.decode()
    assert done.returncode == 1, message
    assert message.startswith("edge-et-cpp: ")
    assert message.count("\n") == 1, message
    assert all(word in message for word in words), message
