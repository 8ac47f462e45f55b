"""Half-finished tower features of scenes, computed once and kept in shards on disk.

In: a range of seeds. Out: shards with, for every scene, the tower's hidden states up to where its
training begins, what is under each image token, and the facts that questions are made from.
Building continues where it was stopped.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from edge_et.tuning.mini.facts import Facts
from edge_et.tuning.mini.scenes.draw_scene import SceneKit, render_scene
from edge_et.tuning.mini.scenes.scene import SCENE_PIXELS, Scene
from edge_et.tuning.mini.vision.array_files import make_missing, write_arrays

SHARD_SCENES = 256
TOKEN_GRID = 8
TOKEN_WORDS = 2

_CELL = SCENE_PIXELS // TOKEN_GRID
_COVERED = 0.3
_EMPTY = 0.04
_ENCODED_AT_ONCE = 16

Encode = Callable[[list[np.ndarray]], np.ndarray]
"""From uint8 [H, W, 3] pictures to float16 [N, ...] features; `vision_head.VisionTrunk` makes
them."""


@dataclass(frozen=True, slots=True, eq=False)
class FeatureShard:
    """What training knows of `SHARD_SCENES` scenes.

    Attributes:
        features: float16 [scenes, ...], what `Encode` gave.
        words: what tokens may show, a text each.
        token_words: int16 [scenes, S, TOKEN_WORDS] index into `words` of what covers an image
            token most; -1 pads.
        token_shares: float16 [scenes, S, TOKEN_WORDS] how much of the token each covers. All 0 is
            background; all -1 says that too little is covered to tell.
        centres: bool [scenes, S], true where something has its centre.
        facts: JSON of each scene's facts.
    """

    features: np.ndarray
    words: np.ndarray
    token_words: np.ndarray
    token_shares: np.ndarray
    centres: np.ndarray
    facts: np.ndarray

    def scene_facts(self, index: int) -> Facts:
        """Return the facts of one scene."""
        return msgspec.json.decode(str(self.facts[index]), type=Facts)


def shard_path(folder: Path, index: int) -> Path:
    """Return where the shard of seeds `index * SHARD_SCENES` and on lives."""
    return folder / f"scenes-{index:05d}.npz"


def load_shard(path: Path) -> FeatureShard:
    """Read one shard into memory (about 200 MB)."""
    with np.load(path) as arrays:
        return FeatureShard(**{f.name: arrays[f.name] for f in dataclasses.fields(FeatureShard)})


def write_shard(path: Path, shard: FeatureShard) -> None:
    """Write one shard, whole or not at all."""
    write_arrays(path, _arrays(shard))


def _arrays(shard: FeatureShard) -> dict[str, np.ndarray]:
    return {field.name: getattr(shard, field.name) for field in dataclasses.fields(shard)}


def build_shards(
    folder: Path, shard_indices: Sequence[int], kit: SceneKit, encode: Encode
) -> Iterator[Path]:
    """Render and encode the shards that are not there yet.

    Args:
        folder: where shards are kept.
        shard_indices: which shards to make sure of.
        kit: what scenes are drawn with.
        encode: the tower's part that is not trained.

    Returns:
        The path of each shard, once it is complete.
    """

    def make(index: int) -> dict[str, np.ndarray]:
        first = index * SHARD_SCENES
        scenes = [render_scene(seed, kit) for seed in range(first, first + SHARD_SCENES)]
        return _arrays(make_shard(scenes, encode))

    return make_missing(shard_indices, lambda index: shard_path(folder, index), make)


def make_shard(scenes: Sequence[Scene], encode: Encode) -> FeatureShard:
    """Encode scenes and write down what their tokens show."""
    words = sorted({label.words for scene in scenes for label in scene.labels})
    ids = {word: i for i, word in enumerate(words)}
    features = []
    for start in range(0, len(scenes), _ENCODED_AT_ONCE):
        some = scenes[start : start + _ENCODED_AT_ONCE]
        features.append(encode([np.asarray(scene.picture) for scene in some]))
    token_words, token_shares = zip(*(_token_words(s, ids) for s in scenes), strict=True)
    return FeatureShard(
        features=np.concatenate(features),
        words=np.array(words),
        token_words=np.stack(token_words),
        token_shares=np.stack(token_shares),
        centres=np.stack([_centres(scene) for scene in scenes]),
        facts=np.array([msgspec.json.encode(scene.facts).decode() for scene in scenes]),
    )


def _token_words(scene: Scene, ids: dict[str, int]) -> tuple[np.ndarray, np.ndarray]:
    """Find the labels that cover each image token most, with the shares that they cover."""
    grid = scene.coverage.reshape(TOKEN_GRID, _CELL, TOKEN_GRID, _CELL)
    blocks = grid.transpose(0, 2, 1, 3).reshape(TOKEN_GRID**2, _CELL**2)
    numbers = np.arange(1, len(scene.labels) + TOKEN_WORDS + 1)
    shares = np.stack([(blocks == k).mean(axis=1) for k in numbers], axis=1)
    order = np.argsort(-shares, axis=1, kind="stable")[:, :TOKEN_WORDS]
    strongest = np.take_along_axis(shares, order, axis=1)
    label_ids = np.array(
        [ids[label.words] for label in scene.labels] + [-1] * TOKEN_WORDS, np.int16
    )
    words = np.where(strongest > 0, label_ids[order], -1).astype(np.int16)
    covered = shares.sum(axis=1, keepdims=True)
    clear = np.where(covered < _EMPTY, 0.0, strongest)
    return words, np.where((covered < _COVERED) & (covered >= _EMPTY), -1.0, clear).astype(
        np.float16
    )


def _centres(scene: Scene) -> np.ndarray:
    centres = np.zeros((TOKEN_GRID, TOKEN_GRID), bool)
    for label in scene.labels:
        row, column = (min(max(int(v * TOKEN_GRID), 0), TOKEN_GRID - 1) for v in (label.y, label.x))
        centres[row, column] = True
    return centres.reshape(-1)
