"""Photographs without a thing that anybody would name, to put things on."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
from PIL import Image

from edge_et.tuning.mini.assets.debian import DebianPackage, unpack

MATE_BACKGROUNDS = DebianPackage(
    name="mate-backgrounds",
    path="pool/main/m/mate-backgrounds/mate-backgrounds_1.26.0-1_all.deb",
    license="GPL-2.0-or-later",
    sha256="7bf4c2209f34b4f61ba6d24c8b58c28b361e82e4b943aae6d42c030169af9e04",
)

_NATURE = "usr/share/backgrounds/mate/nature"
_PHOTOGRAPHS = ("Garden", "Dune", "Wood", "Aqua", "Storm", "GreenMeadow", "RainDrops", "Blinds")
_KEPT_HEIGHT = 640


class BackgroundLibrary:
    """Random parts of the photographs.

    Args:
        folder: where downloads live.

    Raises:
        AssetError: the package cannot be had.
    """

    def __init__(self, folder: Path) -> None:
        root = unpack(MATE_BACKGROUNDS, folder) / _NATURE
        self._paths = [root / f"{name}.jpg" for name in _PHOTOGRAPHS]

    def crop(self, rng: np.random.Generator, pixels: int) -> Image.Image:
        """Return a square part of one of them, RGB, perhaps mirrored.

        Args:
            rng: chooses.
            pixels: side of the result.
        """
        photograph = _kept(self._paths[int(rng.integers(len(self._paths)))])
        side = int(rng.integers(pixels, _KEPT_HEIGHT))
        left = int(rng.integers(photograph.width - side + 1))
        top = int(rng.integers(photograph.height - side + 1))
        part = photograph.resize(
            (pixels, pixels), Image.Resampling.BILINEAR, (left, top, left + side, top + side)
        )
        return part.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else part


@functools.lru_cache(maxsize=32)
def _kept(path: Path) -> Image.Image:
    photograph = Image.open(path)
    photograph.draft("RGB", (2 * _KEPT_HEIGHT, 2 * _KEPT_HEIGHT))
    width = round(photograph.width * _KEPT_HEIGHT / photograph.height)
    return photograph.convert("RGB").resize((width, _KEPT_HEIGHT), Image.Resampling.LANCZOS)
