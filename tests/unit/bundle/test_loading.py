import hashlib
import json
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tiny.manifests import Change, change
from tiny.places import ROOT

from edge_et.bundle import (
    Manifest,
    find_bundle,
    load_bundle,
    manifest_schema,
)
from edge_et.bundle import loading as bundle_module
from edge_et.errors import (
    BundleError,
    BundleNotFoundError,
    FileHashError,
    ManifestSchemaError,
    OptionError,
    WidthMismatchError,
)

SCHEMA = ROOT / "docs" / "bundle.schema.json"


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
        with pytest.raises(BundleError, match=r"pip install \./models/mini"):
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


@pytest.mark.parametrize("name", ["x" * 5000, "a\0b", ""])
def test_a_name_that_can_be_no_path_is_no_bundle(name: str) -> None:
    with pytest.raises(BundleNotFoundError, match="no bundle"):
        find_bundle(name)


@pytest.mark.parametrize("path", ["x" * 5000, "a\0b"])
def test_a_path_that_can_be_none_is_no_bundle(path: str) -> None:
    with pytest.raises(BundleError):
        load_bundle(path)


@pytest.mark.parametrize("value", [None, 5, b"mini", ["mini"]])
def test_what_is_no_path_is_refused(value: Any) -> None:
    with pytest.raises(OptionError, match=r"path=.*os\.PathLike"):
        load_bundle(value)
    if value is not None:
        with pytest.raises(OptionError, match=r"name_or_path=.*os\.PathLike"):
            find_bundle(value)
