"""Cut-outs are what the closer look sees; varied, they show the same thing."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny.icons import Squares
from tiny.mini_vision import set_recipe, split_tiny
from torch.nn import functional

from edge_et.tuning.mini.scenes.draw_scene import SceneKit, render_scene
from edge_et.tuning.mini.vision import crops as cutouts_module
from edge_et.tuning.mini.vision.backbone import PIXEL_MEAN, PIXEL_STD, pixel_values
from edge_et.tuning.mini.vision.crop_classifier import NAMES
from edge_et.tuning.mini.vision.crop_encoder import CLOSER_PIXELS, cut_out
from edge_et.tuning.mini.vision.crops import (
    CUTOUT_PIXELS,
    build_cutouts,
    is_coloured,
    load_cutouts,
    middles,
    varied,
)

SIDE = 16
SEEN_PIXELS = 112
MIDDLE = CLOSER_PIXELS // 2
KIT = SceneKit(icons=[Squares()], fonts=())
OTHERS = {"bell": KIT.icons, "drum": KIT.icons}
DOG, RED_SQUARE = NAMES.index("dog"), NAMES.index("red square")


def test_cutouts_are_what_the_closer_look_sees(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    set_recipe(monkeypatch)
    monkeypatch.setattr(cutouts_module, "SHARD_SCENES", 32)
    trunk, head, _ = split_tiny()
    (path,) = build_cutouts(tmp_path, [3], KIT, OTHERS, trunk, head)
    made = path.stat().st_mtime_ns
    assert [*build_cutouts(tmp_path, [3], KIT, OTHERS, trunk, head)] == [path]
    assert path.stat().st_mtime_ns == made
    things, other_things = load_cutouts([path])
    assert things.pictures.shape == (len(things), 3, CUTOUT_PIXELS, CUTOUT_PIXELS)
    assert other_things.pictures.shape == (len(other_things), 3, CUTOUT_PIXELS, CUTOUT_PIXELS)
    assert set(other_things.kinds.tolist()) == {0, 1}
    scenes = [render_scene(seed, KIT, "objects") for seed in range(96, 128)]
    made_things = [item for scene in scenes for item in scene.facts.objects]
    named = [item.label.words for item in made_things if item.label.colour is None]
    cut_out_names = [NAMES[name] for name in things.kinds[~is_coloured(things.kinds)]]
    assert cut_out_names == named
    shapes = len(things) - len(named)
    assert 0 < shapes < 0.5 * (len(made_things) - len(named)), "shapes are thinned out"

    first = 0
    for scene in scenes:
        coloured = [item.label.colour is not None for item in scene.facts.objects]
        if not any(coloured):
            break
        first += coloured.count(False)
    picture = np.asarray(scene.picture)
    with torch.no_grad():
        patches = head.patches(torch.from_numpy(trunk([picture])).float())
        sizes = head.inventory.finder(patches)[0, 1].exp2()
    cells = [(int(item.y * SIDE), int(item.x * SIDE)) for item in scene.facts.objects]
    boxes = [[(x + 0.5) / SIDE, (y + 0.5) / SIDE, float(sizes[y, x])] for y, x in cells]
    cut = cut_out(pixel_values([picture]), torch.tensor([boxes]), SEEN_PIXELS)
    wanted = functional.interpolate(cut, (CLOSER_PIXELS,) * 2, mode="bilinear")
    own = torch.nonzero(~is_coloured(things.kinds))[:, 0][first : first + len(cells)]
    torch.testing.assert_close(middles(things.pictures[own]), wanted, atol=0.05, rtol=0)


class WhiteStamps:
    """Stands in for photographs: everything is a white square."""

    def names(self) -> tuple[str, ...]:
        return tuple(NAMES)

    def cutout(self, name: str, rng: np.random.Generator) -> Image.Image:
        return Image.new("RGBA", (64, 64), "white")


def test_photographs_do_not_stand_for_drawings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    set_recipe(monkeypatch)
    monkeypatch.setattr(cutouts_module, "SHARD_SCENES", 64)
    trunk, head, _ = split_tiny()
    kit = replace(KIT, stamps=WhiteStamps())
    (path,) = build_cutouts(tmp_path, [3], kit, OTHERS, trunk, head)
    things, _ = load_cutouts([path])
    middle = things.pictures[~is_coloured(things.kinds)][:, :, 72:88, 72:88].float()
    white = middle.mean(dim=(1, 2, 3)) > 225
    assert 0.02 < white.float().mean() < 0.25


def test_other_kinds_are_drawn_as_large_as_things_are_cut_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    set_recipe(monkeypatch)
    monkeypatch.setattr(cutouts_module, "SHARD_SCENES", 16)
    trunk, head, _ = split_tiny()
    (path,) = build_cutouts(tmp_path, [3], KIT, OTHERS, trunk, head)
    _, drawn = load_cutouts([path])
    changes = (drawn.pictures[:, :, 80].int() - drawn.pictures[:, :, 80, :1].int()).abs().sum(1)
    widths = (changes > 150).sum(dim=1).float()
    assert abs(widths[widths > 40].median() - SEEN_PIXELS / 1.15) < 12


def colours(pixels: torch.Tensor) -> torch.Tensor:
    """Gives pictures [N, 3, H, W] in 0..1 for pixel values."""
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (PIXEL_MEAN, PIXEL_STD))
    return pixels * std + mean


def marked(count: int) -> torch.Tensor:
    """Gives cut-outs of a red thing on black."""
    cutouts = torch.zeros(count, 3, CUTOUT_PIXELS, CUTOUT_PIXELS, dtype=torch.uint8)
    cutouts[:, 0, 40:120, 60:100] = 200
    return cutouts


def shown(name: int, count: int = 64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    coloured = is_coloured(torch.full((count,), name))
    return colours(varied(marked(count), coloured, generator))


def test_variations_are_drawn_from_the_generator():
    again = shown(DOG)
    assert again.shape == (64, 3, CLOSER_PIXELS, CLOSER_PIXELS)
    assert torch.equal(again, shown(DOG))
    assert len({picture.numpy().tobytes() for picture in again}) == 64
    assert again.min() >= -1e-6
    assert again.max() <= 1 + 1e-6


def test_a_colour_stays_where_it_is_part_of_the_name():
    red, green, blue = shown(RED_SQUARE)[:, :, MIDDLE, MIDDLE].T
    assert red.min() > 0.6
    assert torch.cat((green, blue)).abs().max() < 0.01
    middle = shown(DOG)[:, :, MIDDLE, MIDDLE]
    spread = middle.amax(dim=1) - middle.amin(dim=1)
    assert 0 < (spread < 0.01).sum() < 32, "some lose their colours"
    assert 0 < (middle.argmax(dim=1) != 0).sum() < 48, "some get others"


def test_a_thing_is_moved_and_turned_but_stays_in_sight():
    things = shown(RED_SQUARE)[:, 0] > 0.3
    shares = things.float().mean(dim=(1, 2))
    as_it_is = 80 * 40 / SEEN_PIXELS**2
    assert shares.min() > as_it_is / 1.25**2 * 0.9
    assert shares.max() < as_it_is / 0.8**2 * 1.1
    assert shares.std() > 0.02
    assert not things[:, :, 0].any()
    assert not things[:, :, -1].any()
