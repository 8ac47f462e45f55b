"""How tens of thousands of things look, for the namer: rendered, encoded and forgotten again.

Goes in: a range of seeds. Comes out: files with the look and the name of every thing in scenes of
things, a hundredth of what `features` keeps of as many. Building continues where it was stopped.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from edge_et.export.steps import atomic_output
from edge_et.tuning.facts import ObjectFacts
from edge_et.tuning.features import SHARD_SCENES
from edge_et.tuning.inventory import boxes_at
from edge_et.tuning.namer import NAMES
from edge_et.tuning.scenes.mix import SceneKit, render_scene
from edge_et.tuning.tower import pixel_values

if TYPE_CHECKING:
    from edge_et.tuning.vision_head import VisionHead, VisionTrunk

_NUMBERS = {name: number for number, name in enumerate(NAMES)}
_ENCODED_AT_ONCE = 16


def sights_path(folder: Path, index: int) -> Path:
    """Returns where the things in the scenes of seeds `index * SHARD_SCENES` and on live."""
    return folder / f"sights-{index:05d}.npz"


def build_sights(
    folder: Path, indices: Sequence[int], kit: SceneKit, trunk: VisionTrunk, head: VisionHead
) -> Iterator[Path]:
    """Renders scenes of things and writes down how each looks, where that is not done yet.

    Args:
        folder: Where the files are kept.
        indices: Which files to make sure of, each of `SHARD_SCENES` scenes.
        kit: What scenes are drawn with.
        trunk: The tower's part that is not trained.
        head: Its other part; a file that is there is not made anew for another one.

    Yields:
        The path of each file, once it is complete.
    """
    for index in indices:
        path = sights_path(folder, index)
        if not path.exists():
            first = index * SHARD_SCENES
            parts = [
                _see(range(start, start + _ENCODED_AT_ONCE), kit, trunk, head)
                for start in range(first, first + SHARD_SCENES, _ENCODED_AT_ONCE)
            ]
            looks, names = (np.concatenate(column) for column in zip(*parts, strict=True))
            with atomic_output(path) as partial, partial.open("wb") as file:
                np.savez(file, looks=looks, names=names)
        yield path


def load_sights(paths: Sequence[Path]) -> tuple[torch.Tensor, torch.Tensor]:
    """Reads looks, float16 [things, C], and numbers of `NAMES`, int64 [things]."""
    looks, names = [], []
    for path in paths:
        with np.load(path) as arrays:
            looks.append(arrays["looks"])
            names.append(arrays["names"])
    return torch.from_numpy(np.concatenate(looks)), torch.from_numpy(np.concatenate(names))


def _see(
    seeds: Sequence[int], kit: SceneKit, trunk: VisionTrunk, head: VisionHead
) -> tuple[np.ndarray, np.ndarray]:
    scenes = [render_scene(seed, kit, "objects") for seed in seeds]
    pictures = [np.asarray(scene.picture) for scene in scenes]
    device = head.projector.place_codes.device
    pixels = pixel_values(pictures).to(device)
    patches = head.shard_patches(trunk.tower(pictures)).float().to(device)
    with torch.no_grad():
        sizes = head.inventory.finder(patches)[:, 1].cpu()
    side = sizes.shape[-1]
    looks, names = [], []
    for number, scene in enumerate(scenes):
        assert isinstance(scene.facts, ObjectFacts)
        things = scene.facts.objects
        # As a finder would put it that finds all.
        centres = torch.tensor([[thing.y, thing.x] for thing in things])
        rows, columns = (centres * side).long().clamp(0, side - 1).T
        boxes = boxes_at(rows, columns, sizes[number, rows, columns], side)
        seen = head.look_closer(pixels[number, None], boxes[None].to(device))
        looks.append(seen[0].half().cpu().numpy())
        names += [_NUMBERS[thing.label.words] for thing in things]
    return np.concatenate(looks), np.array(names, np.int64)
