"""examples/cpp where something is wrong: an error of its own that says what, and no crash."""

import hashlib
import json
import os
import resource
import struct
import subprocess
import zlib
from pathlib import Path

import msgspec
import pytest
from PIL import Image
from tiny.bundle import build_bundle
from tiny.cpp_loader import Run, build_loader, refused, runner
from tiny.places import EXAMPLES

import edge_et
from edge_et.bundle import Manifest, save_manifest


@pytest.fixture(scope="session")
def run() -> Run:
    return runner([build_loader()])


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
        (("vision", "pooling"), 2, ("vision.pooling", "not by this loader")),
        (
            ("vision", "processing", "whole_size"),
            {"block": 8, "min_tokens": 1, "max_tokens": 16},
            ("vision.processing.whole_size", "not by this loader"),
        ),
        (("vision", "arrangement"), "stacked", ("vision.arrangement",)),
        (("vision", "pooling"), 3, ("vision.pooling",)),
        (("vision", "image_tokens_per_tile"), "16", ("vision.image_tokens_per_tile",)),
        (("vision", "processing", "std"), [0, 1, 1], ("vision.processing.std.0",)),
        (("vision", "graph", "path"), "../vision.onnx", ("../vision.onnx",)),
        (("perceiver", "weights", "package"), "elsewhere", ("--package elsewhere=",)),
        (("perceiver", "chat", "stop_tokens"), [], ("perceiver.chat.stop_tokens",)),
        (("perceiver", "chat", "stop_tokens"), ["nothing"], ("nothing",)),
        (("extract", "hint"), {"prompt": "{question}", "max_hint_tokens": 1}, ("extract.hint",)),
        (("extract", "prompt"), "{image}{answer}", ("{answer}",)),
        (("direct", "default"), True, ("direct.default", "not by this loader")),
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


@pytest.mark.parametrize(
    "entry",
    [
        b"\x0a\x08location\x12\x0bsecret.data",
        b"\x12\x0bsecret.data\x0a\x08location",
        b"\x0a\x88\x80\x00location\x12\x0bsecret.data",
        b"\x0a\x08location\x12\x0avision.bin\x12\x0bsecret.data",
    ],
    ids=["plain", "name first", "padded length", "second name"],
)
def test_a_graph_that_reads_another_file_is_refused(run: Run, tmp_path: Path, entry: bytes) -> None:
    manifest = build_bundle(tmp_path)
    graph = (tmp_path / "vision.onnx").read_bytes() + b"\x6a" + bytes([len(entry)]) + entry
    (tmp_path / "vision.onnx").write_bytes(graph)
    (tmp_path / "vision.bin").write_bytes(b"weights")
    manifest = with_graph(manifest, tmp_path / "vision.onnx")
    weights = edge_et.bundle.file_ref(tmp_path / "vision.bin")
    vision = msgspec.structs.replace(manifest.vision, weights=weights)
    save_manifest(msgspec.structs.replace(manifest, vision=vision), tmp_path)
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
        "huge.png": png_of(10_000, 10_000),
        "wide.png": png_of(2_000_000_000, 1),
        "empty.png": png_of(0, 10),
        "start.jpg": b"\xff\xd8\xff",
        "start.png": b"\x89PNG",
    }.items():
        (tmp_path / name).write_bytes(content)
        refused(run("image-tokens", tmp_path / "tiny", tmp_path / name), name)
    refused(run("image-tokens", tmp_path / "tiny", tmp_path), str(tmp_path))


def png_of(width: int, height: int) -> bytes:
    """Return a PNG of that size with the pixels of another."""
    whole = (EXAMPLES / "cat.png").read_bytes()
    header = b"IHDR" + struct.pack(">II", width, height) + whole[24:29]
    return whole[:12] + header + struct.pack(">I", zlib.crc32(header)) + whole[33:]


@pytest.mark.parametrize("kind", ["gif", "webp", "bmp", "tiff"])
def test_pictures_of_other_kinds_are_refused(run: Run, tmp_path: Path, kind: str) -> None:
    build_bundle(tmp_path / "tiny")
    Image.new("RGB", (20, 20)).save(tmp_path / f"picture.{kind}")
    done = run("image-tokens", tmp_path / "tiny", tmp_path / f"picture.{kind}")
    refused(done, f"picture.{kind}", "no PNG and no JPEG")


def test_a_picture_of_which_there_is_no_memory_is_refused(tmp_path: Path) -> None:
    build_bundle(tmp_path / "tiny")
    Image.new("1", (7000, 7000)).save(tmp_path / "large.png")
    words = [build_loader(), "image-tokens", tmp_path / "tiny", tmp_path / "large.png"]
    done = subprocess.run(
        words,
        capture_output=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (300 << 20, 300 << 20)),
    )
    refused(done, "too little memory")


def test_texts_that_are_none_are_refused(run: Run, tmp_path: Path) -> None:
    build_bundle(tmp_path)
    for text in ("", "[", "1", "{}", '["a", 1]', '["\\ud800"]', "[" * 200_000):
        refused(run("token-ids", tmp_path / "tokenizer.json", stdin=text), "stdin")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("model",), 1),
        (("model", "type"), "WordPiece"),
        (("model", "vocab"), {"a": -1}),
        (("model", "vocab"), {"a": 1 << 24 | 1}),
        (("model", "vocab"), {"a": 1 << 63}),
        (("model", "merges"), ["a"]),
        (("model", "merges"), [["a"]]),
        (("model", "merges"), ["no piece"]),
        (("added_tokens",), [{"id": 1, "content": "", "special": True}]),
        (("added_tokens",), 1),
        (("pre_tokenizer",), {"type": "Whitespace"}),
        (("normalizer",), {"type": "Lowercase"}),
        (("decoder",), None),
    ],
)
def test_a_tokenizer_is_refused(
    run: Run, tmp_path: Path, path: tuple[str, ...], value: object
) -> None:
    build_bundle(tmp_path)
    content = json.loads((tmp_path / "tokenizer.json").read_text())
    place = content
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    refused(run("token-ids", tmp_path / "tokenizer.json", stdin="[]"), "tokenizer.json: ")


@pytest.mark.parametrize("name", ["vision.onnx", "perceiver.gguf", "perceiver-lora.gguf"])
@pytest.mark.parametrize("size", [3, 200])
def test_what_the_libraries_cannot_open_is_named(
    run: Run, tmp_path: Path, name: str, size: int
) -> None:
    """Cut off before it was hashed."""
    build_bundle(tmp_path, adapter=True)
    manifest = (tmp_path / "bundle.json").read_text()
    before = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(before[:size])
    assert f'"size_bytes": {len(before)}' in manifest
    manifest = manifest.replace(f'"size_bytes": {len(before)}', f'"size_bytes": {size}')
    hashes = [hashlib.sha256(content).hexdigest() for content in (before, before[:size])]
    (tmp_path / "bundle.json").write_text(manifest.replace(*hashes))
    refused(run(tmp_path, EXAMPLES / "cat.png", "What?"), name)


@pytest.mark.parametrize("command", ["answer", "image-tokens", "token-ids"])
def test_output_that_cannot_be_written_is_an_error(tmp_path: Path, command: str) -> None:
    build_bundle(tmp_path)
    words: list[str | Path] = [tmp_path, EXAMPLES / "cat.png", "What?"]
    if command == "image-tokens":
        words = [command, *words[:2]]
    if command == "token-ids":
        words = [command, tmp_path / "tokenizer.json"]
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [build_loader(), *words],
            input=b'["a"]',
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
        )
    refused(done, "stdout")


def test_questions_that_are_none_or_too_long_are_refused(run: Run, tmp_path: Path) -> None:
    build_bundle(tmp_path)
    for question in ("", " \u3000", os.fsdecode(b"What\xff?"), os.fsdecode(b"\xed\xa0\x80")):
        refused(run(tmp_path, EXAMPLES / "cat.png", question), "QUESTION")
    refused(run(tmp_path, EXAMPLES / "cat.png", "why " * 200), "QUESTION", "fit")
    refused(run(tmp_path, EXAMPLES / "cat.png", "a" * 65_537), "QUESTION")


@pytest.mark.parametrize(
    "words", [(), ("a",), ("a", "b", "c", "d"), ("--package",), ("--package", "a")]
)
def test_a_wrong_command_line_is_told_the_right_one(run: Run, words: tuple[str, ...]) -> None:
    done = run(*words)
    assert done.returncode == 2
    assert b"usage: edge-et-cpp" in done.stderr
