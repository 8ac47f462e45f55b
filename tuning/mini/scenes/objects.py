"""Scenes of things and coloured shapes: one, several, many of a kind, or of different sizes.

And one thing that fills the picture, as in photographs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Protocol

import numpy as np
from PIL import Image, ImageDraw

from edge_et.tuning.mini.concepts import COLOURS, SHAPES, THINGS
from edge_et.tuning.mini.facts import Label, ObjectFacts, SceneObject
from edge_et.tuning.mini.scenes.scene import SCENE_PIXELS, Mark, Scene

COMPOSITIONS = ("single", "several", "counting", "sizes")
THING_LABELS = tuple(Label(thing.name, None, thing.plural) for thing in THINGS)
SHAPE_LABELS = tuple(Label(shape, colour, shape + "s") for colour in COLOURS for shape in SHAPES)
ALL_LABELS = THING_LABELS + SHAPE_LABELS

_LABELS = {label.words: label for label in ALL_LABELS}
_COMPOSITION_SHARES = (0.35, 0.3, 0.23, 0.12)
_SHAPE_SHARE = 0.35
_SIDE_BY_SIDE_HELD_OUT = 10
_THIRD = SCENE_PIXELS / 3
_PLACING_TRIES = 40
# Of a thing that fills the picture, in pixels: its longer side, and how far off the middle it is.
_FILLING = (160, 300)
_OFF_MIDDLE = 22


class Drawings(Protocol):
    """Where things get their looks; `mix.SceneKit` is one."""

    def drawing(self, name: str, rng: np.random.Generator) -> Image.Image:
        """Return an RGBA picture of a thing."""


def render_objects(
    rng: np.random.Generator,
    canvas: Image.Image,
    drawings: Drawings,
    composition: str | None = None,
    *,
    held_out: bool = False,
) -> Scene:
    """Draw things and shapes onto a background.

    Args:
        rng: chooses everything that is not given.
        canvas: RGB, `SCENE_PIXELS` square; drawn on.
        drawings: the looks of things.
        composition: one of `COMPOSITIONS`; by default `rng` chooses.
        held_out: which labels may stand side by side: a tenth of all pairs is never shown in
            training, and is all that held-out scenes show.
    """
    composition = composition or str(rng.choice(COMPOSITIONS, p=_COMPOSITION_SHARES))
    labels = _choose_labels(rng, composition, held_out)
    backdrop = np.asarray(canvas).reshape(-1, 3).mean(axis=0)
    places = _place(rng, composition, len(labels))
    return _composed(
        canvas,
        (
            (SceneObject(label, *_shares(x, y, size)), _draw(rng, label, size, drawings, backdrop))
            for label, (size, x, y) in zip(labels, places, strict=False)
        ),
    )


def render_photograph(
    rng: np.random.Generator, canvas: Image.Image, name: str, stamp: Image.Image
) -> Scene:
    """Put one photographed thing onto a background, about as large as the picture.

    Args:
        rng: chooses size and place.
        canvas: RGB, `SCENE_PIXELS` square; drawn on.
        name: of the thing.
        stamp: RGBA.
    """
    size = int(rng.integers(*_FILLING))
    x, y = (SCENE_PIXELS / 2 + rng.uniform(-_OFF_MIDDLE, _OFF_MIDDLE, size=2)).tolist()
    thing = SceneObject(_LABELS[name], *_shares(x, y, size))
    return _composed(canvas, [(thing, tilted(rng, stamp, size))])


def _shares(x: float, y: float, size: float) -> tuple[float, float, float]:
    return x / SCENE_PIXELS, y / SCENE_PIXELS, size / SCENE_PIXELS


def _composed(canvas: Image.Image, things: Iterable[tuple[SceneObject, Image.Image]]) -> Scene:
    """Paste drawings onto a canvas, RGB, and tell what is in it then."""
    coverage = np.zeros((SCENE_PIXELS, SCENE_PIXELS), np.uint8)
    placed: list[SceneObject] = []
    for thing, drawing in things:
        x, y = thing.x * SCENE_PIXELS, thing.y * SCENE_PIXELS
        corner = (round(x - drawing.width / 2), round(y - drawing.height / 2))
        canvas.paste(drawing, corner, drawing)
        mask = Image.new("L", canvas.size)
        mask.paste(drawing.getchannel("A"), corner)
        coverage[np.asarray(mask) > 127] = len(placed) + 1
        placed.append(thing)
    marks = tuple(Mark(item.label.words, item.x, item.y) for item in placed)
    in_reading_order = sorted(placed, key=lambda item: (int(item.y * 3), int(item.x * 3)))
    return Scene(canvas, ObjectFacts(tuple(in_reading_order)), marks, coverage)


def held_out_pair(first: Label, second: Label) -> bool:
    """Say whether two labels stand side by side in held-out scenes only."""
    words = "+".join(sorted((first.words, second.words)))
    return hashlib.sha256(words.encode()).digest()[0] % _SIDE_BY_SIDE_HELD_OUT == 0


def _choose_labels(rng: np.random.Generator, composition: str, held_out: bool) -> list[Label]:
    """List a scene's labels, one for each object."""

    def another(taken: list[Label]) -> Label:
        """Draw a label that may stand beside those taken; the last one taken decides."""
        while True:
            kind = SHAPE_LABELS if rng.random() < _SHAPE_SHARE else THING_LABELS
            label = kind[int(rng.integers(len(kind)))]
            if label in taken:
                continue
            if not taken or held_out_pair(label, taken[-1]) == held_out:
                return label

    kinds = [another([])]
    if composition == "single":
        return kinds
    if composition == "counting":
        number = int(rng.integers(1, 6) if rng.random() < 0.85 else rng.integers(6, 11))
        for _ in range(int(rng.integers(0, 3)) if number < 9 else 0):
            kinds.append(another(kinds))
        labels = [kinds[0]] * number
        for kind in kinds[1:]:
            labels += [kind] * int(rng.integers(1, 3) if number < 6 else 1)
        return [labels[i] for i in rng.permutation(len(labels))]
    most = 5 if composition == "several" else 4
    for _ in range(int(rng.integers(2, most)) - 1):
        kinds.append(another(kinds))
    return kinds


def _place(
    rng: np.random.Generator, composition: str, number: int
) -> list[tuple[int, float, float]]:
    """Give each object size and centre in pixels, such that nobody argues about its place."""
    if composition == "single":
        size = int(rng.integers(70, 235))
        cell = 4 if size > 120 else int(rng.integers(9))
        return [(size, *_centre(rng, cell, size, 12))]
    if composition == "sizes":
        sizes = [int(rng.integers(*bounds)) for bounds in ((90, 125), (36, 56), (58, 72))]
        sizes = [sizes[i] for i in rng.permutation(3)][:number]
    else:
        low, high = (46, 76) if number <= 6 else (36, 58)
        sizes = [int(rng.integers(low, high)) for _ in range(number)]
    gap = 0.75 if rng.random() < 0.12 else 1.0
    placed: list[tuple[int, float, float]] = []
    free = list(rng.permutation(9)) * 2 if number > 9 else list(rng.permutation(9))
    for size in sizes:
        for _ in range(_PLACING_TRIES):
            cell = int(free[int(rng.integers(len(free)))])
            x, y = _centre(rng, cell, size, 16)
            reach = [gap * 0.46 * (size + other) for other, _, _ in placed]
            apart = [np.hypot(x - ox, y - oy) for _, ox, oy in placed]
            if all(a >= r for a, r in zip(apart, reach, strict=True)):
                placed.append((size, x, y))
                break
    return placed


def _centre(rng: np.random.Generator, cell: int, size: int, jitter: float) -> tuple[float, float]:
    """Draw a centre well inside one of the nine places, with most of the object in the frame."""
    column, row = cell % 3, cell // 3
    inside = 0.36 * size
    x, y = (
        float(np.clip((k + 0.5) * _THIRD + shift, inside, SCENE_PIXELS - inside))
        for k, shift in zip((column, row), rng.uniform(-jitter, jitter, size=2), strict=True)
    )
    return x, y


def tilted(rng: np.random.Generator, drawing: Image.Image, size: int) -> Image.Image:
    """Turn a thing a little, mirror some, and make it as large as it is to be in a scene.

    Args:
        rng: chooses.
        drawing: RGBA.
        size: of the longer side before it is turned, pixels.
    """
    if rng.random() < 0.3:
        drawing = drawing.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    turn = rng.uniform(-40, 40) if rng.random() < 0.1 else rng.uniform(-12, 12)
    return _turned(drawing, size, turn)


def _draw(
    rng: np.random.Generator, label: Label, size: int, drawings: Drawings, backdrop: np.ndarray
) -> Image.Image:
    if label.colour is None:
        return tilted(rng, drawings.drawing(label.name, rng), size)
    shape = _draw_shape(rng, label, backdrop)
    return _turned(shape, size, rng.uniform(-8, 8))


def _turned(drawing: Image.Image, size: int, degrees: float) -> Image.Image:
    scale = size / max(drawing.size)
    width, height = (max(1, round(side * scale)) for side in drawing.size)
    resized = drawing.resize((width, height), Image.Resampling.LANCZOS)
    return resized.rotate(degrees, Image.Resampling.BICUBIC, expand=True)


def _draw_shape(rng: np.random.Generator, label: Label, backdrop: np.ndarray) -> Image.Image:
    """Draw a filled shape; with an outline where its colour is close to the background's."""
    side = 192
    assert label.colour is not None
    jitter = rng.integers(-14, 15, size=3)
    fill = tuple(np.clip(np.array(COLOURS[label.colour]) + jitter, 0, 255).tolist())
    close = np.abs(np.array(fill) - backdrop).sum() < 130
    dark_outline = sum(fill) > 380
    outline = ((40, 40, 40) if dark_outline else (235, 235, 235)) if close else None
    drawing = Image.new("RGBA", (side, side))
    pen = ImageDraw.Draw(drawing)
    points = _shape_points(label.name) * (side - 12) + 6
    corners = [(x, y) for x, y in points.tolist()]
    pen.polygon(corners, fill=fill, outline=outline, width=8 if outline else 0)
    return drawing


def _shape_points(shape: str) -> np.ndarray:
    """Return a shape's outline, float64 [points, 2] in the unit square, y down."""
    turn = np.linspace(0, 2 * np.pi, 96, endpoint=False)
    if shape == "circle":
        return np.stack([np.sin(turn), np.cos(turn)], axis=1) / 2 + 0.5
    if shape == "heart":
        x = 16 * np.sin(turn) ** 3
        y = 13 * np.cos(turn) - 5 * np.cos(2 * turn) - 2 * np.cos(3 * turn) - np.cos(4 * turn)
        return np.stack([x / 34 + 0.5, (12 - y) / 30], axis=1)
    if shape == "star":
        angle = np.arange(10) * np.pi / 5
        radius = np.where(np.arange(10) % 2 == 0, 0.5, 0.21)
        return np.stack([radius * np.sin(angle), -radius * np.cos(angle)], axis=1) + 0.5
    corners = {
        "square": [(0.06, 0.06), (0.94, 0.06), (0.94, 0.94), (0.06, 0.94)],
        "triangle": [(0.5, 0.04), (1, 0.94), (0, 0.94)],
        "diamond": [(0.5, 0), (0.86, 0.5), (0.5, 1), (0.14, 0.5)],
    }
    return np.array(corners[shape])
