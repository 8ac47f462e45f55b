from pathlib import Path
from typing import Any

import msgspec
import pytest
from tiny.manifests import Change, change, marked, tiled

from edge_et.bundle import (
    load_bundle,
    read_manifest,
    save_manifest,
)
from edge_et.errors import (
    BundleVersionError,
    ManifestSchemaError,
    ManifestSyntaxError,
    MissingFileError,
    UnreadableFileError,
)


def test_a_manifest_survives_writing_and_reading(folder: Path) -> None:
    before = (folder / "bundle.json").read_bytes()
    manifest = read_manifest(folder / "bundle.json")
    assert save_manifest(manifest, folder) == folder / "bundle.json"
    assert (folder / "bundle.json").read_bytes() == before
    assert not list(folder.glob(".*"))


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
        (tiled({"grids": []}), "$.vision.processing.tiling"),
        (tiled({"rule": "edge"}), "`edge_tiles` belongs to the rule"),
        (tiled({"rule": "edge", "edge_tiles": 2, "grids": [[1, 1]]}), "which has none"),
        (tiled({"grids": [[1, 1]], "edge_tiles": 2}), "`edge_tiles` belongs to the rule"),
        (tiled({"rule": "edge", "edge_tiles": 2}, arrangement="grid"), 'needs the rule "area"'),
        (tiled({"grids": [[2, 1]], "whole": "last"}, arrangement="grid"), '`whole` "first"'),
        (tiled({"rule": "edge", "edge_tiles": 64}, width=512, height=512), "$.vision.processing"),
        (marked({"tokens": []}), "$.vision.markup.tokens"),
        (marked({"tokens": ["<a>", "<a>"]}), "has one twice"),
        (marked({"tokens": ["<a>"], "end": ["<b>"]}), "`tokens` lacks '<b>'"),
        (marked({"tokens": ["<1>"], "tile": ["<{row}>"]}), "`tokens` lacks '<2>'"),
        (marked({"tokens": ["<1>"], "end": ["<{row}>"]}), "{row}"),
        (marked({"tokens": ["<a>"]}, arrangement="grid"), "needs the arrangement"),
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


@pytest.mark.parametrize("edit", [{"format_version": 5}, {"format": "other"}])
def test_other_formats_and_versions(folder: Path, edit: dict[str, Any]) -> None:
    change(folder, lambda c: c.update(edit, new_field=1))
    with pytest.raises(BundleVersionError):
        load_bundle(folder)


def test_a_manifest_of_version_1_lacks_the_newer_fields(folder: Path) -> None:
    current = read_manifest(folder / "bundle.json")

    def to_version_1(content: dict[str, Any]) -> None:
        content["format_version"] = 1
        for part, names in {
            "vision": ("arrangement", "markup", "pooling", "weights"),
            "extract": ("hint", "pictures", "between_pictures"),
            "think": ("thoughts", "sees", "pictures", "choices"),
        }.items():
            for name in names:
                del content[part][name]
        del content["vision"]["processing"]["tiling"]
        for part in ("extract", "think"):
            del content[part]["sampling"]["top_k"]

    change(folder, to_version_1)
    assert load_bundle(folder).manifest == msgspec.structs.replace(current, format_version=1)


def test_a_folder_without_a_manifest(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="is no bundle; give a bundle's folder"):
        load_bundle(tmp_path)


def test_a_manifest_of_absurd_size_is_not_read(folder: Path) -> None:
    with (folder / "bundle.json").open("r+b") as file:
        file.truncate(2**40)  # a hole, which takes no room
    with pytest.raises(UnreadableFileError, match="too many for a manifest"):
        load_bundle(folder)
