"""examples/cpp, built here, against this package: the same image tokens, ids and words."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import PIL
import pytest
from PIL import Image
from tiny.bundle import PROCESSING, build_bundle
from tiny.places import EXAMPLES, ROOT
from tiny.split_mini import build_split_mini
from tiny.tokenizer import write_tokenizer
from tokenizers import AddedToken, Regex, Tokenizer, normalizers, pre_tokenizers

import edge_et
from edge_et.bundle import Manifest, find_bundle, load_bundle, save_manifest

SOURCE = ROOT / "examples" / "cpp"
MOST_LINES = 1200
REFERENCE: Any = {"engine": "llama", "convert_weights": False, "use_profile": False}
PICTURES = ("cat.png", "coffee.png")
QUESTIONS = ("What is this?", "Which colour is it?", "How many things are there, and where?")
QWEN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# Pieces of texts that tokenizers treat each in their own way.
PIECES = (
    *("the cat", " Caf\u00e9", "e\u0301", "\u00c5ngstr\u00f6m", "\u212b", "\u1e9b\u0323", "\ufb01"),
    *("12345", "\u00bd\u2167\u0667", "3.14", "it's", "IT'S", "'\u017f", "they'LL", "don't", "'d"),
    *("\u4f60\u597d", "\u0928\u092e\u0938\u094d\u0924\u0947", "\ud55c\uad6d\uc5b4", "\u1112\u1161"),
    *("\u05e9\u05dc\u05d5\u05dd", "\U0001f600\U0001f469\u200d\U0001f680", "\U0001d4d0", "\u0e01"),
    *(" ", "  ", "\n", "\r\n\r\n", "\t", "\u00a0", "\u3000", "\u2028", "\x00", "\x1f", "\u200b"),
    *("<|im_end|>", "<|im_start|>system", "<think>", "</think>", "<|endoftext|>", "<image>"),
    *("!?...", "$%&/()=", "\u2014", "\u00ab\u00bb", "_", "a_b", "{question}", "\\n", "\ufffd"),
)

Run = Callable[..., "subprocess.CompletedProcess[bytes]"]


@pytest.fixture(scope="session")
def program() -> Path:
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
    options = [f"-D{name}={place}" for name, place in places.items()]
    for command in (
        ["cmake", "-S", SOURCE, "-B", build, *options],
        ["cmake", "--build", build, "-j", str(len(os.sched_getaffinity(0)))],
    ):
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    return build / "edge-et-cpp"


@pytest.fixture(scope="session")
def run(program: Path) -> Run:
    def run(*arguments: object, stdin: str = "") -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [program, *map(str, arguments)],
            input=stdin.encode(),
            capture_output=True,
            timeout=300,
            check=False,
            preexec_fn=on_one_cpu,
        )

    return run


def on_one_cpu() -> None:
    # Threads of llama.cpp wait for one another, on a busy machine for long.
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


@pytest.fixture(scope="module")
def mini() -> Iterator[edge_et.ExtractThink]:
    with edge_et.load(threads=1, **REFERENCE) as pipeline:
        yield pipeline


def package_options() -> tuple[str, str]:
    weights = load_bundle(find_bundle(None)).manifest.perceiver.weights
    assert weights.package is not None
    folder = load_bundle(find_bundle(None)).path(weights).parent
    return "--package", f"{weights.package}={folder}"


def image_tokens(run: Run, bundle: Path, picture: Path, width: int) -> Any:
    done = run("image-tokens", bundle, picture)
    assert done.returncode == 0, done.stderr
    return np.frombuffer(done.stdout, np.float32).reshape(-1, width)


def check_answers(run: Run, bundle: Path, pipeline: edge_et.ExtractThink, *asked: str) -> None:
    for picture in PICTURES:
        for question in asked:
            expected = pipeline.answer(EXAMPLES / picture, question)
            options = ("--json", *package_options())
            done = run(*options, bundle, EXAMPLES / picture, question)
            assert done.returncode == 0, done.stderr
            assert json.loads(done.stdout) == {
                "extraction": expected.extraction,
                "reasoning": expected.reasoning,
                "answer": expected.text,
            }


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


def qwen_tokenizer(folder: Path) -> Path:
    """Write a tokenizer that normalises and splits as those of Qwen do."""
    tokenizer = write_tokenizer(folder / "qwen.json")
    tokenizer.normalizer = normalizers.NFC()
    split = pre_tokenizers.Split(Regex(QWEN), "isolated", invert=False)
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level])
    tokenizer.add_tokens([AddedToken("<image>", special=False)])
    tokenizer.save(str(folder / "qwen.json"))
    return folder / "qwen.json"


@pytest.mark.parametrize("kind", ["mini", "tiny", "qwen"])
def test_ids_are_those_of_tokenizers(run: Run, tmp_path: Path, kind: str) -> None:
    bundle = load_bundle(find_bundle(None))
    path = bundle.path(bundle.manifest.perceiver.tokenizer)
    if kind == "tiny":
        path = tmp_path / "tiny.json"
        write_tokenizer(path)
    if kind == "qwen":
        path = qwen_tokenizer(tmp_path)
    random = np.random.default_rng(5)
    texts = ["", *PIECES]
    while len(texts) < 200:
        texts.append("".join(random.choice(PIECES, random.integers(2, 12))))
    plain = json.loads(path.read_bytes()) | {"added_tokens": [], "truncation": None}
    reference = Tokenizer.from_str(json.dumps(plain | {"padding": None, "post_processor": None}))
    done = run("token-ids", path, stdin=json.dumps(texts))
    assert done.returncode == 0, done.stderr
    for text, ids in zip(texts, json.loads(done.stdout), strict=True):
        assert ids == reference.encode(text, add_special_tokens=False).ids, repr(text)


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


def refused(done: "subprocess.CompletedProcess[bytes]", *words: str) -> None:
    """Check that the program ended with an error of its own, in a line that holds some words."""
    message = done.stderr.decode()
    assert done.returncode == 1, message
    assert message.count("\n") == 1
    assert all(word in message for word in words), message


@pytest.mark.parametrize("name", ["vision.onnx", "perceiver.gguf", "tokenizer.json"])
def test_a_changed_file_is_refused(run: Run, tmp_path: Path, name: str) -> None:
    build_bundle(tmp_path)
    content = bytearray((tmp_path / name).read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / name).write_bytes(content)
    refused(run(tmp_path, EXAMPLES / "cat.png", "What?"), name, "SHA-256")
    (tmp_path / name).unlink()
    refused(run(tmp_path, EXAMPLES / "cat.png", "What?"), name, "missing")


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("format_version",), 5, ("version",)),
        (("vision", "pooling"), 2, ("pooling", "not support")),
        (("vision", "pooling"), 3, ("vision.pooling",)),
        (("vision", "image_tokens_per_tile"), "16", ("vision.image_tokens_per_tile",)),
        (("vision", "processing", "std"), [0, 1, 1], ("vision.processing.std.0",)),
        (("vision", "graph", "path"), "../vision.onnx", ("../vision.onnx",)),
        (("perceiver", "weights", "package"), "elsewhere", ("--package elsewhere=",)),
        (("perceiver", "chat", "stop_tokens"), [], ("perceiver.chat.stop_tokens",)),
        (("perceiver", "chat", "stop_tokens"), ["nothing"], ("nothing",)),
        (("extract", "hint"), {"prompt": "{question}", "max_hint_tokens": 1}, ("hint",)),
        (("extract", "prompt"), "{image}{answer}", ("{answer}",)),
        (("direct", "default"), True, ("default", "not support")),
        (("think", "more"), 1, ("think.more",)),
    ],
)
def test_a_manifest_is_refused_by_its_field(
    run: Run, tmp_path: Path, path: tuple[str, ...], value: object, words: tuple[str, ...]
) -> None:
    build_bundle(tmp_path)
    content = json.loads((tmp_path / "bundle.json").read_text())
    place = content
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    (tmp_path / "bundle.json").write_text(json.dumps(content))
    refused(run(tmp_path, EXAMPLES / "cat.png", "What?"), *words)


@pytest.mark.parametrize("text", ["", "[]", '{"format": 1}', "{", "[" * 200_000, "\ud800"])
def test_what_is_no_manifest_is_refused(run: Run, tmp_path: Path, text: str) -> None:
    (tmp_path / "bundle.json").write_text(text, errors="surrogatepass")
    refused(run(tmp_path, EXAMPLES / "cat.png", "What?"))
    refused(run("token-ids", tmp_path / "bundle.json", stdin="[]"))


def test_a_graph_that_reads_another_file_is_refused(run: Run, tmp_path: Path) -> None:
    manifest = build_bundle(tmp_path)
    entry = b"\x0a\x08location\x12\x0bsecret.data"
    graph = (tmp_path / "vision.onnx").read_bytes() + b"\x32" + bytes([len(entry)]) + entry
    (tmp_path / "vision.onnx").write_bytes(graph)
    save_manifest(with_graph(manifest, tmp_path / "vision.onnx"), tmp_path)
    refused(run(tmp_path, EXAMPLES / "cat.png", "What?"), "vision.onnx", "does not name")


def with_graph(manifest: Manifest, graph: Path) -> Manifest:
    vision = msgspec.structs.replace(manifest.vision, graph=edge_et.bundle.file_ref(graph))
    return msgspec.structs.replace(manifest, vision=vision)


def test_what_is_no_picture_is_refused(run: Run, tmp_path: Path) -> None:
    build_bundle(tmp_path / "tiny")
    whole = {name: (EXAMPLES / "cat.png").read_bytes() for name in ("cut.png", "changed.png")}
    Image.open(EXAMPLES / "cat.png").convert("RGB").save(tmp_path / "cat.jpg")
    whole["cut.jpg"] = (tmp_path / "cat.jpg").read_bytes()
    for name, content in {
        "none.png": b"",
        "text.png": b"no picture",
        "cut.png": whole["cut.png"][:9000],
        "changed.png": whole["changed.png"][:9000] + b"x" + whole["changed.png"][9001:],
        "cut.jpg": whole["cut.jpg"][:5000],
        "start.jpg": b"\xff\xd8\xff",
        "start.png": b"\x89PNG",
    }.items():
        (tmp_path / name).write_bytes(content)
        refused(run("image-tokens", tmp_path / "tiny", tmp_path / name), name)
    refused(run("image-tokens", tmp_path / "tiny", tmp_path), str(tmp_path))


def test_questions_that_are_none_or_too_long_are_refused(run: Run, tmp_path: Path) -> None:
    build_bundle(tmp_path)
    refused(run(tmp_path, EXAMPLES / "cat.png", " \u3000"), "QUESTION")
    refused(run(tmp_path, EXAMPLES / "cat.png", "why " * 200), "QUESTION", "fit")
    assert run(tmp_path).returncode == 2
