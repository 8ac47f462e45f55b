"""Scenes and questions: what the picture shows and what is said about it agree."""

import json
import tarfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edge_et.errors import AssetError
from edge_et.tuning import assets
from edge_et.tuning.assets import ICON_PIXELS, IconLibrary, IconSet
from edge_et.tuning.features import (
    SHARD_SCENES,
    build_shards,
    load_shard,
    shard_path,
    token_labels,
)
from edge_et.tuning.questions import KINDS, ask
from edge_et.tuning.scenes import ALL_LABELS, SCENE_PIXELS, Scene, render_scene


class DrawnIcons:
    """Stands in for a downloaded icon set: every icon is a disc."""

    style = "drawn"

    def icon(self, slug: str) -> Image.Image:
        side = np.arange(ICON_PIXELS) - ICON_PIXELS / 2
        inside = np.hypot(*np.meshgrid(side, side)) < ICON_PIXELS / 2
        pixels = np.zeros((ICON_PIXELS, ICON_PIXELS, 4), np.uint8)
        pixels[inside] = (*(hash(slug) % 256 for _ in range(3)), 255)
        return Image.fromarray(pixels)


ICONS = DrawnIcons()


def scenes(count: int, composition: str | None = None) -> list[Scene]:
    return [render_scene(seed, ICONS, composition) for seed in range(count)]


def test_a_seed_always_gives_the_same_scene():
    for once, again in zip(scenes(12), scenes(12), strict=True):
        assert once.objects == again.objects
        assert once.picture.tobytes() == again.picture.tobytes()
        assert np.array_equal(once.coverage, again.coverage)


def test_seeds_differ():
    assert len({scene.picture.tobytes() for scene in scenes(20)}) == 20


def test_objects_lie_where_they_are_said_to_lie():
    for scene in scenes(60, "several"):
        for number, item in enumerate(scene.objects, 1):
            rows, columns = np.nonzero(scene.coverage == number)
            if len(rows) < 400:  # mostly hidden behind a neighbour
                continue
            assert abs(rows.mean() / SCENE_PIXELS - (item.row + 0.5) / 3) < 0.15
            assert abs(columns.mean() / SCENE_PIXELS - (item.column + 0.5) / 3) < 0.15


def test_compositions_hold_what_they_promise():
    assert all(len(scene.objects) == 1 for scene in scenes(20, "single"))
    for scene in scenes(20, "several"):
        assert 2 <= len(scene.objects) <= 4
        assert len({item.label for item in scene.objects}) == len(scene.objects)
    most = [max(Counter(o.label for o in s.objects).values()) for s in scenes(60, "counting")]
    assert set(most) == {1, 2, 3, 4, 5}


def test_token_labels_name_what_covers_the_token():
    for scene in scenes(20):
        labels = token_labels(scene)
        assert labels.shape == (64,)
        shown = {ALL_LABELS.index(item.label) for item in scene.objects}
        named = set(labels[labels >= 0].tolist())
        assert named
        assert named <= shown
        empty = np.flatnonzero(labels == -1)
        blocks = scene.coverage.reshape(8, 28, 8, 28).transpose(0, 2, 1, 3).reshape(64, -1)
        assert (blocks[empty] > 0).mean() < 0.05


def test_every_kind_of_question_is_asked_and_its_answer_is_in_the_extraction():
    asked = Counter()
    for seed, scene in enumerate(scenes(150)):
        for kind in KINDS:
            example = ask(scene.objects, kind, np.random.default_rng(seed))
            if example is None:
                continue
            asked[kind] += 1
            assert example.kind == kind
            for item in scene.objects:
                assert item.label.words in example.extraction
                assert item.place in example.extraction
            if kind in ("name", "colour", "where", "what_at"):
                assert example.answer in example.extraction
                assert example.answer in example.reasoning
    assert set(asked) == set(KINDS)


def test_counts_and_yes_no_are_true():
    for seed, scene in enumerate(scenes(200)):
        rng = np.random.default_rng(seed)
        labels = [item.label for item in scene.objects]
        count = ask(scene.objects, "count", rng)
        if count is not None:
            counted = max(Counter(labels).values())
            assert count.answer == str(counted)
            assert f"{counted}." in count.reasoning
        exists = ask(scene.objects, "exists", rng)
        assert exists is not None
        about = [label for label in ALL_LABELS if f" {label.words} " in f"{exists.question[:-1]} "]
        present = any(label in labels for label in about)
        assert exists.answer == ("yes" if present else "no")
        assert ("There is no" in exists.extraction) == (not present)


def test_yes_and_no_are_balanced():
    examples = [
        ask(s.objects, "exists", np.random.default_rng(k)) for k, s in enumerate(scenes(300))
    ]
    yes = sum(example is not None and example.answer == "yes" for example in examples)
    assert 120 < yes < 180


def test_shards_are_kept_and_read_back(tmp_path: Path):
    calls = []

    def encode(pictures: list[np.ndarray]) -> np.ndarray:
        calls.append(len(pictures))
        return np.stack([p[:256, 0].astype(np.float16)[:16] for p in pictures])

    (path,) = build_shards(tmp_path, [3], [ICONS], encode)
    assert path == shard_path(tmp_path, 3)
    assert sum(calls) == SHARD_SCENES
    shard = load_shard(path)
    scene = render_scene(3 * SHARD_SCENES + 5, ICONS)
    assert shard.scene_objects(5) == scene.objects
    assert np.array_equal(shard.token_labels[5], token_labels(scene))

    assert list(build_shards(tmp_path, [3], [ICONS], encode)) == [path]
    assert sum(calls) == SHARD_SCENES


@pytest.fixture
def icon_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a downloaded set of two icons."""
    icons = {
        "width": 10,
        "height": 10,
        "icons": {"dot": {"body": '<circle cx="5" cy="5" r="5" fill="#f00"/>'}},
        "aliases": {"point": {"parent": "dot"}},
    }
    source = tmp_path / "icons.json"
    source.write_text(json.dumps(icons))
    with tarfile.open(tmp_path / "few-1.0.tgz", "w:gz") as archive:
        archive.add(source, "package/icons.json")
    few = IconSet(package="few", version="1.0", license="MIT", sha256="0" * 64)
    monkeypatch.setitem(assets.ICON_SETS, "few", few)
    return tmp_path


def test_icons_are_rendered_with_their_transparency(icon_folder: Path):
    library = IconLibrary("few", icon_folder)
    for slug in ("dot", "point"):
        icon = library.icon(slug)
        assert icon.size == (ICON_PIXELS, ICON_PIXELS)
        assert icon.getpixel((ICON_PIXELS // 2, ICON_PIXELS // 2)) == (255, 0, 0, 255)
        assert icon.getpixel((0, 0))[3] == 0


def test_an_unknown_icon_is_named(icon_folder: Path):
    with pytest.raises(AssetError, match="no icon 'dash'"):
        IconLibrary("few", icon_folder).icon("dash")


def test_fetching_without_npm_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(AssetError, match="apt install npm"):
        IconLibrary("noto", tmp_path)
