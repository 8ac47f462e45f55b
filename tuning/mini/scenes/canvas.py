"""Backgrounds of scenes, and what a camera or a bad copy does to a finished picture."""

from __future__ import annotations

import io
from typing import Protocol

import numpy as np
from PIL import Image, ImageFilter

from edge_et.tuning.mini.scenes.scene import SCENE_PIXELS

_PHOTOGRAPH_SHARE = 0.25
_BLUR_SHARE = 0.1
_JPEG_SHARE = 0.25


class Backgrounds(Protocol):
    """Photographs to put things on; `assets.backgrounds.BackgroundLibrary` is one."""

    def crop(self, rng: np.random.Generator, pixels: int) -> Image.Image:
        """Return a square part of one of them, RGB."""


def background(rng: np.random.Generator, photographs: Backgrounds | None) -> Image.Image:
    """Make a background: a texture, or a part of a photograph where there are any.

    Args:
        rng: chooses.
        photographs: to take parts of.
    """
    if rng.random() < _PHOTOGRAPH_SHARE and photographs is not None:
        return photographs.crop(rng, SCENE_PIXELS)
    return texture(rng)


def texture(rng: np.random.Generator) -> Image.Image:
    """Blend two related colours in a pattern, with some noise."""
    first, second = rng.uniform(0, 255, size=(2, 3))
    lightness = rng.choice([0.25, 0.6, 1.0], p=[0.2, 0.25, 0.55])
    if lightness == 1.0:
        first, second = 200 + first * 0.21, 200 + second * 0.21
    else:
        first, second = first * lightness, second * lightness
    second = first + (second - first) * rng.uniform(0.1, 0.7)
    blend = _blend_field(rng)[..., None]
    field = first * (1 - blend) + second * blend
    field += rng.normal(0, rng.choice([0.0, 3.0, 9.0]), size=field.shape)
    return Image.fromarray(np.clip(field, 0, 255).astype(np.uint8))


def wear(rng: np.random.Generator, picture: Image.Image) -> Image.Image:
    """Blur some pictures a little, and give some the marks of JPEG compression."""
    if rng.random() < _BLUR_SHARE:
        picture = picture.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.4, 1.2))))
    if rng.random() < _JPEG_SHARE:
        packed = io.BytesIO()
        picture.save(packed, "JPEG", quality=int(rng.integers(25, 80)))
        picture = Image.open(packed).convert("RGB")
    return picture


def _blend_field(rng: np.random.Generator) -> np.ndarray:
    """Return how far each pixel is from the first to the second colour, [H, W] in 0..1."""
    y, x = np.mgrid[0:SCENE_PIXELS, 0:SCENE_PIXELS] / SCENE_PIXELS
    kind = rng.choice(["plain", "gradient", "stripes", "checks", "blobs"])
    if kind == "plain":
        return np.zeros_like(x)
    angle = rng.uniform(0, 2 * np.pi)
    along = np.cos(angle) * x + np.sin(angle) * y
    if kind == "gradient":
        return (along - along.min()) / np.ptp(along)
    if kind == "stripes":
        return (np.sin(along * rng.uniform(15, 60)) > 0).astype(np.float64)
    if kind == "checks":
        steps = int(rng.integers(4, 14))
        return ((np.floor(x * steps) + np.floor(y * steps)) % 2).astype(np.float64)
    coarse = Image.fromarray(rng.uniform(0, 1, size=(6, 6)).astype(np.float32))
    smooth = coarse.resize((SCENE_PIXELS, SCENE_PIXELS), Image.Resampling.BICUBIC)
    return np.clip(np.asarray(smooth, dtype=np.float64), 0, 1)
