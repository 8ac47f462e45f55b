import hashlib
import os
import sys
from pathlib import Path
from types import FunctionType

import pytest
from tiny.manifests import change

from edge_et.bundle import (
    FileRef,
    file_ref,
    load_bundle,
    resolve,
)
from edge_et.bundle import loading as bundle_module
from edge_et.errors import (
    FileHashError,
    FileSizeError,
    MissingFileError,
    MissingPackageError,
    ModelFileError,
    UnreadableFileError,
    UnsafePathError,
)


def test_verify_reports_progress_to_the_last_byte(folder: Path) -> None:
    calls: list[tuple[str, int, int]] = []
    bundle = load_bundle(folder)
    bundle.verify(lambda *call: calls.append(call))
    total = sum(path.stat().st_size for path in {file.path for file in bundle.files})
    assert calls[-1][1:] == (total, total)


@pytest.mark.parametrize("name", ["vision.onnx", "perceiver.gguf", "tokenizer.json"])
def test_missing_truncated_and_changed_files(folder: Path, name: str) -> None:
    path = folder / name
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    with pytest.raises(FileSizeError) as size:
        load_bundle(folder)
    assert (size.value.path, size.value.expected_bytes) == (path, len(whole))
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(FileHashError) as content:
        load_bundle(folder)
    assert content.value.path == path
    path.unlink()
    with pytest.raises(MissingFileError) as missing:
        load_bundle(folder)
    assert missing.value.path == path


def test_large_files_are_hashed_by_verify_alone(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundle_module, "HASH_AT_LOAD_BYTES", 1000)
    path = folder / "perceiver.gguf"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    bundle = load_bundle(folder)
    with pytest.raises(FileHashError):
        bundle.verify()


def with_another_context_length(path: Path) -> None:
    """Change a number of a GGUF's metadata, at unchanged size, to one that serves as well."""
    content = path.read_bytes()
    at = content.index(b"llama.context_length") + len("llama.context_length") + 4
    path.write_bytes(content[:at] + b"\0\x10" + content[at + 2 :])


def test_the_head_of_a_large_gguf_is_compared_at_every_load(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundle_module, "HASH_AT_LOAD_BYTES", 1000)
    ref = load_bundle(folder).manifest.perceiver.weights
    with_another_context_length(folder / "perceiver.gguf")
    with pytest.raises(FileHashError, match="first 8576 bytes") as caught:
        load_bundle(folder)
    assert ref.head is not None
    assert (caught.value.first_bytes, caught.value.expected_sha256) == (8576, ref.head.sha256)


def test_a_head_without_a_hash_is_looked_through(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As manifests have it that were written before they told one."""
    monkeypatch.setattr(bundle_module, "HASH_AT_LOAD_BYTES", 1000)
    change(folder, lambda c: c["perceiver"]["weights"].pop("head"))
    path = folder / "perceiver.gguf"
    assert load_bundle(folder).manifest.perceiver.weights.head is None
    path.write_bytes(path.read_bytes().replace(b"llama.block_count", b"llama.block-count"))
    with pytest.raises(ModelFileError, match="block_count"):
        load_bundle(folder)


@pytest.mark.parametrize(
    "path", ["../a.gguf", "/etc/passwd", "a/../../b", "..", "C:\\a", "a\\b", "c:a", "a\0b"]
)
def test_paths_that_leave_the_folder(folder: Path, path: str) -> None:
    change(folder, lambda c: c["perceiver"]["weights"].update(path=path))
    with pytest.raises(UnsafePathError):
        load_bundle(folder)


def test_files_of_packages_are_found_without_an_import(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "site" / "some_model"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    (package / "perceiver.gguf").write_bytes((folder / "perceiver.gguf").read_bytes())
    (folder / "perceiver.gguf").unlink()
    change(folder, lambda c: c["perceiver"]["weights"].update(package="some_model"))
    with pytest.raises(MissingPackageError, match="pip install some-model"):
        load_bundle(folder)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    bundle = load_bundle(folder)
    assert bundle.path(bundle.manifest.perceiver.weights) == package / "perceiver.gguf"
    assert file_ref(package / "perceiver.gguf", package="some_model") == (
        bundle.manifest.perceiver.weights
    )
    assert "some_model" not in sys.modules


def test_a_file_reference_describes_its_file(tmp_path: Path) -> None:
    path = tmp_path / "parts" / "a.bin"
    path.parent.mkdir()
    path.write_bytes(b"abc")
    expected = FileRef(path="a.bin", size_bytes=3, sha256=hashlib.sha256(b"abc").hexdigest())
    assert file_ref(path) == expected
    inside = file_ref(path, tmp_path)
    assert inside.path == "parts/a.bin"
    assert resolve(inside, tmp_path) == path
    with pytest.raises(UnsafePathError):
        file_ref(path, tmp_path / "other")
    with pytest.raises(MissingFileError):
        file_ref(tmp_path / "none")


@pytest.mark.parametrize("name", ["perceiver.gguf", "vision.onnx", "tokenizer.json", "bundle.json"])
def test_a_file_that_cannot_be_read(
    folder: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path, *_: object, **__: object) -> object:
        if self.name == name:
            raise PermissionError(13, "Permission denied", str(self))
        return opened(self, "rb")

    opened = Path.open
    # As the standard library does it: what other code raises is left as it is.
    of_pathlib = {**globals(), "__name__": "pathlib"}
    refuse = FunctionType(refuse.__code__, of_pathlib, closure=refuse.__closure__)  # type: ignore[assignment]
    monkeypatch.setattr(Path, "open", refuse)
    monkeypatch.setattr(Path, "read_bytes", lambda self: self.open("rb").read())
    with pytest.raises(UnreadableFileError, match="Permission denied") as caught:
        load_bundle(folder)
    assert caught.value.path == folder / name


@pytest.mark.parametrize("kind", ["folder", "pipe", "dangling link"])
@pytest.mark.parametrize("name", ["perceiver.gguf", "vision.onnx", "tokenizer.json", "bundle.json"])
def test_something_else_in_the_place_of_a_file(folder: Path, name: str, kind: str) -> None:
    path = folder / name
    path.unlink()
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("nowhere")
    with pytest.raises((MissingFileError, UnreadableFileError), match=name):
        load_bundle(folder)
