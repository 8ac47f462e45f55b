"""Tower features of rendered scenes, computed once and kept in shards on disk.

Goes in: a range of seeds. Comes out: shards with, for every scene, its patch features, the label
under each image token, and its objects. Building continues where it was stopped.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge_et.tuning.scenes import (
    ALL_LABELS,
    SCENE_PIXELS,
    Icons,
    Scene,
    SceneObject,
    render_scene,
)

SHARD_SCENES = 256
TOKEN_GRID = 8

_MAX_OBJECTS = 7
_LABEL_IDS = {label: i for i, label in enumerate(ALL_LABELS)}
_CELL = SCENE_PIXELS // TOKEN_GRID
_COVERED = 0.3


@dataclass(frozen=True, slots=True, eq=False)
class FeatureShard:
    """What training knows of `SHARD_SCENES` scenes.

    Attributes:
        features: float16 [scenes, P, C] patch features.
        token_labels: int16 [scenes, S] index into `ALL_LABELS` under each image token, -1 for
            background, -2 where an object covers too little of the token to say.
        objects: int16 [scenes, _MAX_OBJECTS, 3] of label index, row, column; -1 pads.
    """

    features: np.ndarray
    token_labels: np.ndarray
    objects: np.ndarray

    def scene_objects(self, index: int) -> tuple[SceneObject, ...]:
        """Returns the objects of one scene, in reading order."""
        return tuple(
            SceneObject(ALL_LABELS[label], int(row), int(column))
            for label, row, column in self.objects[index]
            if label >= 0
        )


def shard_path(folder: Path, index: int) -> Path:
    """Returns where the shard of seeds `index * SHARD_SCENES` and on lives."""
    return folder / f"scenes-{index:05d}.npz"


def load_shard(path: Path) -> FeatureShard:
    """Reads one shard into memory (about 50 MB)."""
    with np.load(path) as arrays:
        return FeatureShard(**{f.name: arrays[f.name] for f in dataclasses.fields(FeatureShard)})


def build_shards(
    folder: Path,
    shard_indices: Sequence[int],
    libraries: Sequence[Icons],
    encode: Callable[[list[np.ndarray]], np.ndarray],
) -> Iterator[Path]:
    """Renders and encodes the shards that are not there yet.

    Args:
        folder: Where shards are kept.
        shard_indices: Which shards to make sure of.
        libraries: Drawing styles; seeds take turns.
        encode: From uint8 [H, W, 3] pictures to float16 [N, P, C] features.

    Yields:
        The path of each shard, once it is complete.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for index in shard_indices:
        path = shard_path(folder, index)
        if not path.exists():
            write_shard(path, _make_shard(index, libraries, encode))
        yield path


def _make_shard(
    index: int,
    libraries: Sequence[Icons],
    encode: Callable[[list[np.ndarray]], np.ndarray],
) -> FeatureShard:
    features, labels, objects = [], [], []
    first = index * SHARD_SCENES
    for start in range(first, first + SHARD_SCENES, 16):
        scenes = [
            render_scene(seed, libraries[seed % len(libraries)])
            for seed in range(start, start + 16)
        ]
        features.append(encode([np.asarray(scene.picture) for scene in scenes]))
        labels += [token_labels(scene) for scene in scenes]
        objects += [_object_rows(scene.objects) for scene in scenes]
    return FeatureShard(np.concatenate(features), np.stack(labels), np.stack(objects))


def token_labels(scene: Scene) -> np.ndarray:
    """Names what is under each image token by the objects' masks, int16 [S]."""
    grid = scene.coverage.reshape(TOKEN_GRID, _CELL, TOKEN_GRID, _CELL)
    blocks = grid.transpose(0, 2, 1, 3).reshape(TOKEN_GRID**2, _CELL**2)
    ids = np.array([-1] + [_LABEL_IDS[o.label] for o in scene.objects])
    counts = np.stack([(blocks == k).mean(axis=1) for k in range(len(ids))], axis=1)
    counts[:, 0] = 0
    strongest = counts.argmax(axis=1)
    share = counts.max(axis=1)
    labels = np.where(share >= _COVERED, ids[strongest], np.where(share > 0.04, -2, -1))
    return labels.astype(np.int16)


def _object_rows(objects: Sequence[SceneObject]) -> np.ndarray:
    rows = np.full((_MAX_OBJECTS, 3), -1, np.int16)
    for k, item in enumerate(objects):
        rows[k] = _LABEL_IDS[item.label], item.row, item.column
    return rows


def write_shard(path: Path, shard: FeatureShard) -> None:
    """Writes one shard, whole or not at all."""
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        arrays = {f.name: getattr(shard, f.name) for f in dataclasses.fields(shard)}
        np.savez(file, **arrays)
    partial.replace(path)
