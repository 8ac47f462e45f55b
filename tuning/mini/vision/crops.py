"""Crops of scenes, of which the crop encoder and the crop classifier learn to name things.

In: a range of seeds. Out: files that hold every thing in scenes of things, cut out with a margin,
and its name; beside them drawings of other kinds, made to look as if they were cut out. Building
goes on where it was stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from edge_et.tuning.mini.facts import ObjectFacts, SceneObject
from edge_et.tuning.mini.scenes.canvas import background, wear
from edge_et.tuning.mini.scenes.draw_scene import Icons, SceneKit, drawn_otherwise, render_scene
from edge_et.tuning.mini.scenes.objects import THING_LABELS, tilted
from edge_et.tuning.mini.vision.array_files import make_missing
from edge_et.tuning.mini.vision.backbone import PIXEL_MEAN, PIXEL_STD
from edge_et.tuning.mini.vision.crop_classifier import NAMES
from edge_et.tuning.mini.vision.crop_encoder import AROUND, CLOSER_PIXELS, cut_out
from edge_et.tuning.mini.vision.feature_shards import SHARD_SCENES
from edge_et.tuning.mini.vision.inventory import boxes_at

if TYPE_CHECKING:
    from edge_et.tuning.mini.vision.vision_head import VisionHead, VisionTrunk

CUTOUT_PIXELS = 160
"""Height and width of a cut-out, of which the closer look sees the middle."""
# Its height and width in those of what the closer look sees.
_MARGIN = 10 / 7

# A few photographs of a thing, shown as often as all of its drawings, would stand for it, and
# drawings of other styles not be known.
_STAMP_SHARE = 0.1
# Shapes look alike in all scenes; few teach as much as many.
_SHAPE_SHARE = 0.25
_SHAPES_SEED = 2

_NUMBERS = {name: number for number, name in enumerate(NAMES)}
_ENCODED_AT_ONCE = 16
# Of other kinds, how many there are in a file, and how many pixels large they are before they are
# enlarged, as things are in scenes.
_OTHERS = 768
_OTHERS_SEED = 1
_OTHER_SIZES = (40, 98)

# How otherwise things are shown: how much of the closer look's width is seen, then widths of ranges
# around none, of which some are of logarithms, and of which the turn is in radians and the shift in
# shares of half a cut-out.
_NEAREST, _FARTHEST = 0.8, 1.25
_STRETCH = 0.3
_TURN = 0.5
_SHIFT = 0.16
_LIGHT = 0.2
_BALANCE = 0.6
_CONTRAST = 0.8
_BRIGHTNESS = 0.3
_EXCHANGED_SHARE = 0.25
_GREY_SHARE = 0.15


@dataclass(frozen=True, slots=True, eq=False)
class Cutouts:
    """Things that are cut out.

    Attributes:
        pictures: uint8 [things, 3, `CUTOUT_PIXELS`, `CUTOUT_PIXELS`], or pixel values of these.
        kinds: int64 [things], numbers of what they are.
    """

    pictures: Tensor
    kinds: Tensor

    def __len__(self) -> int:
        return len(self.kinds)


def cutouts_path(folder: Path, index: int) -> Path:
    """Return where the things in the scenes of seeds `index * SHARD_SCENES` and on live."""
    return folder / f"cutouts-{index:05d}.npz"


def build_cutouts(
    folder: Path,
    indices: Sequence[int],
    kit: SceneKit,
    others: Mapping[str, Sequence[Icons]],
    trunk: VisionTrunk,
    head: VisionHead,
) -> Iterator[Path]:
    """Render scenes of things and cut these out, where that is not done yet.

    Args:
        folder: where the files are kept.
        indices: which files to make sure of, each of `SHARD_SCENES` scenes; 100 MB each.
        kit: what scenes are drawn with.
        others: slugs of drawings of other kinds, and the styles that have them.
        trunk: the tower's part that is not trained.
        head: its other part, of which the finder says how large things are; a file that is there
            is not made anew for another one.

    Returns:
        The path of each file, once it is complete.
    """
    kit = replace(kit, stamp_share=_STAMP_SHARE)

    def make(index: int) -> dict[str, np.ndarray]:
        first = index * SHARD_SCENES
        parts = [
            _cut_out_things(range(start, start + _ENCODED_AT_ONCE), kit, trunk, head)
            for start in range(first, first + SHARD_SCENES, _ENCODED_AT_ONCE)
        ]
        pictures, names = (np.concatenate(column) for column in zip(*parts, strict=True))
        other_pictures, other_kinds = _draw_others(index, kit, others)
        return {
            "pictures": pictures,
            "names": names,
            "other_pictures": other_pictures,
            "other_kinds": other_kinds,
        }

    return make_missing(indices, lambda index: cutouts_path(folder, index), make)


def load_cutouts(paths: Sequence[Path]) -> tuple[Cutouts, Cutouts]:
    """Read things, whose kinds are numbers of `NAMES`, and what is of other kinds."""
    columns: dict[str, list[np.ndarray]] = {}
    for path in paths:
        with np.load(path) as arrays:
            for name in arrays.files:
                columns.setdefault(name, []).append(arrays[name])
    made = {name: torch.from_numpy(np.concatenate(parts)) for name, parts in columns.items()}
    things = Cutouts(made["pictures"], made["names"])
    return things, Cutouts(made["other_pictures"], made["other_kinds"])


def middles(pictures: Tensor) -> Tensor:
    """Give pixel values of what the closer look sees of cut-outs.

    Args:
        pictures: uint8 [N, 3, `CUTOUT_PIXELS`, `CUTOUT_PIXELS`].

    Returns:
        float32 [N, 3, `CLOSER_PIXELS`, `CLOSER_PIXELS`].
    """
    edge = round(CUTOUT_PIXELS * (1 - 1 / _MARGIN) / 2)
    inside = slice(edge, CUTOUT_PIXELS - edge)
    seen = functional.interpolate(
        pictures[:, :, inside, inside].float() / 255, (CLOSER_PIXELS,) * 2, mode="bilinear"
    )
    return _pixel_values(seen)


def varied(pictures: Tensor, coloured: Tensor, generator: torch.Generator) -> Tensor:
    """Give what `middles` does of things that are shown a little otherwise.

    They are turned, mirrored, stretched, off the middle, nearer or farther, and in other colours
    where these are not part of the name.

    Args:
        pictures: see `middles`.
        coloured: bool [N], whose colour is part of its name; see `is_coloured`.
        generator: of the CPU.
    """
    count = len(pictures)

    def off(width: float, *shape: int) -> Tensor:
        return (torch.rand(count, *shape, generator=generator) - 0.5) * width

    nearness = (_NEAREST + (_FARTHEST - _NEAREST) * (off(1) + 0.5)) / _MARGIN
    stretch, turn, mirrored = off(_STRETCH).exp(), off(_TURN), off(1).sign()
    frame = torch.empty(count, 2, 3)
    frame[:, 0, 0] = nearness * stretch * mirrored * turn.cos()
    frame[:, 0, 1] = nearness * stretch * -turn.sin()
    frame[:, 1, 0] = nearness / stretch * mirrored * turn.sin()
    frame[:, 1, 1] = nearness / stretch * turn.cos()
    frame[:, :, 2] = off(_SHIFT, 2)
    size = [count, 3, CLOSER_PIXELS, CLOSER_PIXELS]
    grid = functional.affine_grid(frame, size, align_corners=False)
    shown = functional.grid_sample(
        pictures.float() / 255, grid, padding_mode="border", align_corners=False
    )
    shown = torch.where(coloured.view(-1, 1, 1, 1), shown, _recoloured(shown, off))
    return _pixel_values((shown * off(_LIGHT, 1, 1, 1).exp()).clamp(0, 1))


def is_coloured(names: Tensor) -> Tensor:
    """Say whether numbers of `NAMES` are of things whose colour is part of the name."""
    return names >= len(THING_LABELS)


def _recoloured(shown: Tensor, off: Callable[..., Tensor]) -> Tensor:
    """Exchange colour channels of some, take the colours of others, and change contrasts."""
    order = off(1, 3).argsort(dim=1)
    kept = off(1, 1) > _EXCHANGED_SHARE - 0.5
    order = torch.where(kept, torch.arange(3), order)
    changed = shown.gather(1, order[:, :, None, None].expand_as(shown))
    changed = changed * off(_BALANCE, 3, 1, 1).exp()
    grey = off(1, 1, 1, 1) < _GREY_SHARE - 0.5
    changed = torch.where(grey, changed.mean(dim=1, keepdim=True), changed)
    return (changed - 0.5) * off(_CONTRAST, 1, 1, 1).exp() + 0.5 + off(_BRIGHTNESS, 1, 1, 1)


def _pixel_values(pictures: Tensor) -> Tensor:
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (PIXEL_MEAN, PIXEL_STD))
    return (pictures - mean) / std


def _cut_out_things(
    seeds: Sequence[int], kit: SceneKit, trunk: VisionTrunk, head: VisionHead
) -> tuple[np.ndarray, np.ndarray]:
    scenes = [render_scene(seed, kit, "objects") for seed in seeds]
    pictures = [np.asarray(scene.picture) for scene in scenes]
    device = head.projector.place_codes.device
    patches = head.shard_patches(trunk.tower(pictures)).float().to(device)
    with torch.no_grad():
        sizes = head.inventory.finder(patches)[:, 1].cpu()
    side = sizes.shape[-1]
    made, names = [], []
    for number, scene in enumerate(scenes):
        assert isinstance(scene.facts, ObjectFacts)
        things = _without_most_shapes(scene.facts.objects, seeds[number])
        if not things:
            continue
        # As a finder would put it that finds all.
        centres = torch.tensor([[thing.y, thing.x] for thing in things])
        rows, columns = (centres * side).long().clamp(0, side - 1).T
        boxes = boxes_at(rows, columns, sizes[number, rows, columns], side)
        pixels = torch.from_numpy(pictures[number].astype(np.float32)).permute(2, 0, 1)
        around = AROUND * _MARGIN
        cut = cut_out(pixels.unsqueeze(0), boxes.unsqueeze(0), CUTOUT_PIXELS, around)
        made.append(cut.round().to(torch.uint8).numpy())
        names += [_NUMBERS[thing.label.words] for thing in things]
    return np.concatenate(made), np.array(names, np.int64)


def _without_most_shapes(objects: Sequence[SceneObject], seed: int) -> list[SceneObject]:
    kept = np.random.default_rng([_SHAPES_SEED, seed]).random(len(objects)) < _SHAPE_SHARE
    return [
        item for item, keep in zip(objects, kept, strict=True) if keep or item.label.colour is None
    ]


def _draw_others(
    index: int, kit: SceneKit, others: Mapping[str, Sequence[Icons]]
) -> tuple[np.ndarray, np.ndarray]:
    """Draw what looks like cut-outs of other kinds."""
    rng = np.random.default_rng([_OTHERS_SEED, index])
    slugs = list(others)
    kinds = rng.integers(len(slugs), size=_OTHERS)
    made = []
    for kind in kinds.tolist():
        styles = others[slugs[kind]]
        icons = styles[int(rng.integers(len(styles)))]
        size = int(rng.integers(*_OTHER_SIZES))
        drawing = tilted(rng, drawn_otherwise(rng, icons, slugs[kind]), size)
        side = round(size * AROUND * _MARGIN)
        canvas = background(rng, kit.backgrounds)
        left, top = rng.integers(canvas.width - side + 1, size=2).tolist()
        canvas = canvas.crop((left, top, left + side, top + side))
        canvas.paste(drawing, ((side - drawing.width) // 2, (side - drawing.height) // 2), drawing)
        seen = wear(rng, canvas).resize((CUTOUT_PIXELS,) * 2, Image.Resampling.BILINEAR)
        made.append(np.asarray(seen).transpose(2, 0, 1))
    return np.stack(made), kinds
