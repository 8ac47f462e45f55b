"""Scenes: what the picture shows, and what is said about it, agree; shards keep it all."""

import itertools
import json
import tarfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from PIL import Image, ImageDraw

from edge_et.errors import AssetError
from edge_et.tuning.mini.assets import icons as icons_module
from edge_et.tuning.mini.assets.icons import ICON_PIXELS, ICON_SETS, IconLibrary, IconSet
from edge_et.tuning.mini.assets.plain_icons import PLAIN_ICONS
from edge_et.tuning.mini.concepts import THINGS
from edge_et.tuning.mini.facts import ChartFacts, ObjectFacts, PrintFacts
from edge_et.tuning.mini.scenes import restyle as restyle_module
from edge_et.tuning.mini.scenes.charts import render_chart
from edge_et.tuning.mini.scenes.draw_scene import SceneKit, render_scene
from edge_et.tuning.mini.scenes.objects import held_out_pair
from edge_et.tuning.mini.scenes.printed import render_print
from edge_et.tuning.mini.scenes.restyle import painted, restyle
from edge_et.tuning.mini.scenes.scene import SCENE_PIXELS, Scene
from edge_et.tuning.mini.scenes.words import words
from edge_et.tuning.mini.vision.feature_shards import (
    SHARD_SCENES,
    build_shards,
    load_shard,
    shard_path,
)

FONTS = tuple(
    Path(matplotlib.get_data_path(), "fonts", "ttf", f"{name}.ttf")
    for name in ("DejaVuSans", "DejaVuSerif-Bold")
)


class DrawnIcons:
    """Stands in for a downloaded icon set: every icon is a disc."""

    lines = False

    def slugs(self, thing: str) -> tuple[str, ...]:
        return (thing,)

    def icon(self, slug: str) -> Image.Image:
        side = np.arange(ICON_PIXELS) - ICON_PIXELS / 2
        inside = np.hypot(*np.meshgrid(side, side)) < ICON_PIXELS / 2
        pixels = np.zeros((ICON_PIXELS, ICON_PIXELS, 4), np.uint8)
        pixels[inside] = (*(sum(slug.encode()) * k % 256 for k in (1, 7, 31)), 255)
        return Image.fromarray(pixels)


KIT = SceneKit(icons=[DrawnIcons()], fonts=FONTS)
HELD_OUT = SceneKit(icons=[DrawnIcons()], fonts=FONTS, held_out=True)


def scenes(count: int, composition: str | None = None, kit: SceneKit = KIT) -> list[Scene]:
    return [render_scene(seed, kit, "objects", composition) for seed in range(count)]


def prints(count: int, *, held_out: bool = False) -> list[Scene]:
    def blank() -> Image.Image:
        return Image.new("RGB", (SCENE_PIXELS, SCENE_PIXELS), "white")

    return [
        render_print(np.random.default_rng(seed), blank(), FONTS, held_out=held_out)
        for seed in range(count)
    ]


def test_a_seed_always_gives_the_same_scene():
    for seed in range(12):
        once, again = render_scene(seed, KIT), render_scene(seed, KIT)
        assert once.facts == again.facts
        assert once.labels == again.labels
        assert once.picture.tobytes() == again.picture.tobytes()
        assert np.array_equal(once.coverage, again.coverage)


def test_seeds_differ_and_every_family_comes():
    made = [render_scene(seed, KIT) for seed in range(40)]
    assert len({scene.picture.tobytes() for scene in made}) == 40
    assert {type(scene.facts) for scene in made} == {ObjectFacts, PrintFacts, ChartFacts}


class Stamps:
    """Stands in for photographs of two things: magenta ones."""

    def names(self) -> tuple[str, ...]:
        return ("frog", "camera")

    def cutout(self, name: str, rng: np.random.Generator) -> Image.Image:
        return Image.new("RGBA", (80, 60), "magenta")


def test_a_photograph_shows_one_thing_that_fills_it():
    kit = replace(KIT, stamps=Stamps())
    shown = set()
    for seed in range(20):
        scene = render_scene(seed, kit, "photograph")
        (thing,) = scene.facts.objects
        shown.add(thing.label.words)
        assert thing.place == "center"
        assert thing.size > 0.7
        assert (scene.coverage == 1).mean() > 0.3
        covered = np.asarray(scene.picture)[scene.coverage == 1].mean(axis=0)
        assert np.abs(covered - (255, 0, 255)).max() < 60
    assert shown == {"frog", "camera"}


def test_photographs_come_among_scenes_and_objects_where_there_are_none():
    kit = replace(KIT, stamps=Stamps())
    sizes = [
        scene.facts.objects[0].size
        for scene in (render_scene(seed, kit) for seed in range(80))
        if isinstance(scene.facts, ObjectFacts) and len(scene.facts.objects) == 1
    ]
    assert 1 <= sum(size > 235 / SCENE_PIXELS for size in sizes) <= 12
    without = [render_scene(seed, KIT, "photograph") for seed in range(12)]
    assert len({len(scene.facts.objects) for scene in without}) > 1


def test_objects_lie_where_they_are_said_to_lie():
    for scene in scenes(60, "several"):
        for number, label in enumerate(scene.labels, 1):
            rows, columns = np.nonzero(scene.coverage == number)
            if len(rows) < 400:  # mostly hidden behind a neighbour
                continue
            assert abs(rows.mean() / SCENE_PIXELS - label.y) < 0.12
            assert abs(columns.mean() / SCENE_PIXELS - label.x) < 0.12


def test_nobody_argues_about_a_place():
    for scene in scenes(80):
        for item in scene.facts.objects:
            for share in (item.x, item.y):
                assert min(abs(share - edge) for edge in (1 / 3, 2 / 3)) > 0.03


def test_compositions_hold_what_they_promise():
    assert all(len(scene.facts.objects) == 1 for scene in scenes(20, "single"))
    for scene in scenes(20, "several"):
        labels = [item.label for item in scene.facts.objects]
        assert 1 <= len(labels) <= 4
        assert len(set(labels)) == len(labels)
    counted = [
        max(Counter(o.label for o in scene.facts.objects).values())
        for scene in scenes(150, "counting")
    ]
    assert set(range(1, 9)) <= set(counted)
    assert max(counted) <= 10
    for scene in scenes(20, "sizes"):
        sizes = [item.size for item in scene.facts.objects]
        assert len(sizes) < 2 or max(sizes) / min(sizes) > 1.2


def test_a_tenth_of_all_pairs_is_seen_in_held_out_scenes_alone():
    def neighbours(kit: SceneKit) -> list[bool]:
        pairs = []
        for scene in scenes(80, "several", kit):
            labels = [label.words for label in scene.labels]
            by_words = {item.label.words: item.label for item in scene.facts.objects}
            pairs += [
                held_out_pair(by_words[a], by_words[b]) for a, b in itertools.pairwise(labels)
            ]
        return pairs

    assert not any(neighbours(KIT))
    held_out = neighbours(HELD_OUT)
    # One that found no room leaves two side by side that were not drawn as a pair.
    assert np.mean(held_out) > 0.9


def test_held_out_words_are_never_printed_in_training():
    kept = set(words(held_out=True))
    assert kept.isdisjoint(words(held_out=False))
    assert len(kept) > 50

    def printed(held_out: bool) -> set[str]:
        lines = (line for scene in prints(80, held_out=held_out) for line in scene.facts.lines)
        return {word for line in lines for word in line.split() if word.isalpha()}

    assert printed(False).isdisjoint(kept)
    assert printed(True) <= kept


def test_what_is_printed_is_marked_where_it_is():
    for scene in prints(60):
        printed = "".join(scene.facts.lines).replace(" ", "").replace(":", "")
        assert sorted(label.words for label in scene.labels) == sorted(printed)
        for number, label in enumerate(scene.labels, 1):
            x, y = int(label.x * SCENE_PIXELS), int(label.y * SCENE_PIXELS)
            assert 0 <= x < SCENE_PIXELS
            assert 0 <= y < SCENE_PIXELS
            around = scene.coverage[max(0, y - 2) : y + 3, max(0, x - 2) : x + 3]
            assert number in around


def test_bars_are_as_high_as_their_values():
    charts = [render_chart(np.random.default_rng(seed), FONTS) for seed in range(60)]
    kinds = {scene.facts.kind for scene in charts}
    assert kinds == {"bar", "line", "pie", "table"}
    for scene in charts:
        values = [entry.value for entry in scene.facts.entries]
        if scene.facts.kind == "pie":
            assert sum(values) == 100
        if scene.facts.kind != "bar":
            continue
        assert values.count(max(values)) == values.count(min(values)) == 1
        bars = [label for label in scene.labels if " bar " in label.words]
        assert [int(bar.words.split()[-1]) for bar in bars] == values
        heights = [
            int((scene.coverage == number).any(axis=1).sum())
            for number, label in enumerate(scene.labels, 1)
            if label in bars
        ]
        assert np.argsort(heights, kind="stable").tolist()[-1] == int(np.argmax(values))
        assert int(np.argmin(heights)) == int(np.argmin(values))


def test_shards_tell_what_tokens_show_and_are_read_back(tmp_path: Path):
    calls = []

    def encode(pictures: list[np.ndarray]) -> np.ndarray:
        calls.append(len(pictures))
        return np.stack([p[:16, 0].astype(np.float16) for p in pictures])

    (path,) = build_shards(tmp_path, [3], KIT, encode)
    assert path == shard_path(tmp_path, 3)
    assert sum(calls) == SHARD_SCENES
    shard = load_shard(path)
    for index in range(0, SHARD_SCENES, 16):
        scene = render_scene(3 * SHARD_SCENES + index, KIT)
        assert shard.scene_facts(index) == scene.facts
        shown = {label.words for label in scene.labels}
        covered = shard.token_shares[index, :, 0] > 0
        named = {str(shard.words[i]) for i in shard.token_words[index, covered, 0]}
        assert named
        assert named <= shown
        blocks = scene.coverage.reshape(8, 28, 8, 28).transpose(0, 2, 1, 3).reshape(64, -1)
        empty = shard.token_shares[index, :, 0] == 0
        assert (blocks[empty] > 0).mean() < 0.05
        assert 1 <= shard.centres[index].sum() <= len(scene.labels)

    assert list(build_shards(tmp_path, [3], KIT, encode)) == [path]
    assert sum(calls) == SHARD_SCENES


@pytest.fixture
def icon_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a downloaded set of two icons."""
    icons = {
        "width": 10,
        "height": 10,
        "icons": {
            "dot": {"body": '<circle cx="5" cy="5" r="5" fill="#f00"/>'},
            "post": {"body": '<path d="M0 0h5v10h-5z"/>', "width": 5},
            "bench": {"body": '<path d="M0 0h10v5h-10z"/>', "height": 5},
        },
        "aliases": {"point": {"parent": "dot"}, "blot": {"parent": "dot"}},
    }
    source = tmp_path / "icons.json"
    source.write_text(json.dumps(icons))
    with tarfile.open(tmp_path / "few-1.0.tgz", "w:gz") as archive:
        archive.add(source, "package/icons.json")
    few = IconSet(package="few", version="1.0", license="MIT", sha256="0" * 64, misnamed="blot")
    monkeypatch.setitem(ICON_SETS, "few", few)
    monkeypatch.setitem(ICON_SETS, "plain", replace(few, plain=True, misnamed=""))
    (tmp_path / "plain-1.0.tgz").symlink_to("few-1.0.tgz")
    things = {"ink": ("blot", "dash", "dot"), "speck": ("point",)}
    monkeypatch.setattr(icons_module, "_EMOJI", things)
    monkeypatch.setattr(icons_module, "PLAIN_ICONS", {"ink": ("blot",)})
    return tmp_path


def test_icons_are_rendered_with_their_transparency(icon_folder: Path):
    library = IconLibrary("few", icon_folder)
    for slug in ("dot", "point"):
        icon = library.icon(slug)
        assert icon.size == (ICON_PIXELS, ICON_PIXELS)
        assert icon.getpixel((ICON_PIXELS // 2, ICON_PIXELS // 2)) == (255, 0, 0, 255)
        assert icon.getpixel((0, 0))[3] == 0


def test_a_set_knows_what_it_has(icon_folder: Path):
    library = IconLibrary("few", icon_folder)
    assert [library.slugs(thing) for thing in ("ink", "speck", "dust")] == [
        ("dot",),
        ("point",),
        (),
    ]


def test_a_set_for_buttons_has_names_of_its_own(icon_folder: Path):
    library = IconLibrary("plain", icon_folder)
    assert [library.slugs(thing) for thing in ("ink", "speck")] == [("blot",), ()]


def test_names_in_sets_for_buttons_are_of_things_that_scenes_show():
    assert PLAIN_ICONS.keys() <= {thing.name for thing in THINGS}
    assert all(len(set(slugs)) == len(slugs) for slugs in PLAIN_ICONS.values())
    wrong = {slug for icons in ICON_SETS.values() if icons.plain for slug in icons.misnamed.split()}
    assert wrong <= {slug for slugs in PLAIN_ICONS.values() for slug in slugs}


def test_a_tall_icon_is_as_large_as_a_wide_one(icon_folder: Path):
    library = IconLibrary("few", icon_folder)
    tall, wide = library.icon("post"), library.icon("bench")
    assert (tall.width, tall.height) == (wide.height, wide.width) == (ICON_PIXELS // 2, ICON_PIXELS)


def test_an_unknown_icon_is_named(icon_folder: Path):
    with pytest.raises(AssetError, match="no icon 'dash'"):
        IconLibrary("few", icon_folder).icon("dash")


def test_fetching_without_npm_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(AssetError, match="apt install npm"):
        IconLibrary("noto", tmp_path)


def test_drawings_come_in_other_styles_and_show_the_same() -> None:
    drawing = DrawnIcons().icon("dog")
    shape = np.asarray(drawing.getchannel("A")) > 127
    changed = 0
    for seed in range(60):
        made = restyle(np.random.default_rng(seed), drawing)
        again = restyle(np.random.default_rng(seed), drawing)
        assert made.tobytes() == again.tobytes()
        changed += made is not drawing
        edge = (made.width - drawing.width) // 2
        assert 0 <= edge <= 7
        inside = np.asarray(made.getchannel("A"))[
            edge : edge + drawing.height, edge : edge + drawing.width
        ]
        assert (inside[shape] > 127).all()
    assert 15 <= changed <= 45
    assert drawing.tobytes() == DrawnIcons().icon("dog").tobytes()


def test_ink_surrounds_a_drawing() -> None:
    drawing = Image.new("RGBA", (40, 40))
    drawing.paste((200, 30, 30, 255), (10, 10, 30, 30))
    inked = restyle_module._inked(drawing, 5, 0)
    assert inked.getpixel((25, 25)) == (200, 30, 30, 255)
    assert inked.getpixel((13, 25)) == (0, 0, 0, 255)
    assert inked.getpixel((11, 25))[3] == 0


def test_lines_are_painted_between_and_not_around() -> None:
    lines = Image.new("RGBA", (96, 96))
    pen = ImageDraw.Draw(lines)
    pen.rectangle((16, 16, 80, 80), outline=(0, 0, 0, 255), width=8)
    pen.line((48, 16, 48, 80), fill=(0, 0, 0, 255), width=8)
    painted_ones = 0
    for seed in range(40):
        made = painted(np.random.default_rng(seed), lines)
        assert made.tobytes() == painted(np.random.default_rng(seed), lines).tobytes()
        assert made.size == lines.size
        assert made.getpixel((4, 48))[3] == 0
        ink = made.getpixel((20, 48))
        assert ink[3] == 255
        left, right = made.getpixel((34, 48)), made.getpixel((64, 48))
        assert left[3] == right[3]
        if left[3]:
            painted_ones += 1
            assert left[3] == 255
            assert max(ink[:3]) < 80 <= min(left[:3])
    assert 15 <= painted_ones <= 36


def test_scenes_paint_the_drawings_that_are_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    class PaintedError(Exception):
        pass

    def fail(*args: object) -> None:
        raise PaintedError

    monkeypatch.setattr("edge_et.tuning.mini.scenes.draw_scene.painted", fail)
    [render_scene(seed, KIT, "objects") for seed in range(8)]
    drawn = DrawnIcons()
    monkeypatch.setattr(drawn, "lines", True)
    with pytest.raises(PaintedError):
        [render_scene(s, SceneKit(icons=[drawn], fonts=FONTS), "objects") for s in range(8)]


def test_held_out_scenes_keep_their_drawings(monkeypatch: pytest.MonkeyPatch) -> None:
    class RestyledError(Exception):
        pass

    def fail(*args: object) -> None:
        raise RestyledError

    expected = [render_scene(seed, HELD_OUT, "objects").picture.tobytes() for seed in range(8)]
    monkeypatch.setattr("edge_et.tuning.mini.scenes.draw_scene.restyle", fail)
    found = [render_scene(seed, HELD_OUT, "objects").picture.tobytes() for seed in range(8)]
    assert found == expected
    with pytest.raises(RestyledError):
        [render_scene(seed, KIT, "objects") for seed in range(8)]
