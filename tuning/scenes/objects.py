"""Pictures whose content is known: things and coloured shapes on varied backgrounds.

Goes in: a seed and a drawing style. Comes out: a `Scene`, the picture and its ground truth, the
same on every machine with the same libraries. Knows nothing of questions or of training.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from PIL import Image, ImageDraw

from edge_et.tuning.concepts import COLOURS, PLACES, SHAPES, THINGS

SCENE_PIXELS = 224
# Training draws its scenes from seeds far below this one.
FIRST_HELD_OUT_SEED = 20_000_000

COMPOSITIONS = ("single", "several", "counting")

_COMPOSITION_SHARES = (0.35, 0.35, 0.3)
_SHAPE_SHARE = 0.35
_THIRD = SCENE_PIXELS / 3


class Icons(Protocol):
    """Where drawings come from; `edge_et.tuning.assets.IconLibrary` is one."""

    def icon(self, slug: str) -> Image.Image:
        """Returns an RGBA drawing."""


@dataclass(frozen=True, slots=True)
class Label:
    """What an object is. Two objects with equal labels are the same kind of thing.

    Attributes:
        name: A thing's name ("dog") or a shape's ("square").
        colour: A shape's colour; None for a thing.
        plural: The name for two or more.
    """

    name: str
    colour: str | None
    plural: str

    @property
    def words(self) -> str:
        """The label in words, such as "dog" or "red square"."""
        return self.name if self.colour is None else f"{self.colour} {self.name}"

    @property
    def plural_words(self) -> str:
        """The label in words for two or more."""
        return self.plural if self.colour is None else f"{self.colour} {self.plural}"


@dataclass(frozen=True, slots=True)
class SceneObject:
    """One object of a scene, with the place of its centre among the nine places."""

    label: Label
    row: int
    column: int

    @property
    def place(self) -> str:
        """Where the object is, such as "top left"."""
        return PLACES[self.row][self.column]


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """A picture and what is in it.

    Attributes:
        picture: RGB, `SCENE_PIXELS` square.
        objects: In reading order of their places.
        coverage: uint8 [H, W]; 0 is background, k is the k-th object.
        composition: One of `COMPOSITIONS`.
    """

    picture: Image.Image
    objects: tuple[SceneObject, ...]
    coverage: np.ndarray
    composition: str


THING_LABELS = tuple(Label(thing.name, None, thing.plural) for thing in THINGS)
SHAPE_LABELS = tuple(Label(shape, colour, shape + "s") for colour in COLOURS for shape in SHAPES)
ALL_LABELS = THING_LABELS + SHAPE_LABELS

_ICONS = {thing.name: thing.icons for thing in THINGS}


def render_scene(seed: int, icons: Icons, composition: str | None = None) -> Scene:
    """Renders the scene of a seed in the style of an icon set.

    Args:
        seed: Any number from 0; equal seeds give equal scenes.
        icons: The drawings to use.
        composition: One of `COMPOSITIONS`; by default the seed chooses.
    """
    rng = np.random.default_rng(seed)
    drawn = str(rng.choice(COMPOSITIONS, p=_COMPOSITION_SHARES))
    composition = composition or drawn
    labels = _choose_labels(rng, composition)
    canvas, backdrop = _background(rng)
    coverage = np.zeros((SCENE_PIXELS, SCENE_PIXELS), np.uint8)
    cells = rng.permutation(9)[: len(labels)]
    placed: list[SceneObject] = []
    for label, cell in zip(
        labels, np.sort(cells) if composition != "single" else cells, strict=True
    ):
        size, centre = _size_and_centre(rng, composition, int(cell))
        drawing = _draw(rng, label, size, icons, backdrop)
        (x, y), (width, height) = centre, drawing.size
        corner = (round(x - width / 2), round(y - height / 2))
        canvas.paste(drawing, corner, drawing)
        mask = Image.new("L", canvas.size)
        mask.paste(drawing.getchannel("A"), corner)
        coverage[np.asarray(mask) > 127] = len(placed) + 1
        row, column = min(int(y / _THIRD), 2), min(int(x / _THIRD), 2)
        placed.append(SceneObject(label, row, column))
    return Scene(canvas, tuple(placed), coverage, composition)


def _choose_labels(rng: np.random.Generator, composition: str) -> list[Label]:
    def one_of(kind: tuple[Label, ...]) -> Label:
        return kind[int(rng.integers(len(kind)))]

    def any_label(taken: list[Label]) -> Label:
        while True:
            label = one_of(SHAPE_LABELS if rng.random() < _SHAPE_SHARE else THING_LABELS)
            if label not in taken:
                return label

    if composition == "single":
        return [any_label([])]
    if composition == "several":
        distinct: list[Label] = []
        for _ in range(int(rng.integers(2, 5))):
            distinct.append(any_label(distinct))
        return distinct
    repeated = any_label([])
    others: list[Label] = []
    for _ in range(int(rng.integers(0, 3))):
        others.append(any_label([repeated, *others]))
    labels = [repeated] * int(rng.integers(1, 6)) + others
    return [labels[i] for i in rng.permutation(len(labels))]


def _size_and_centre(
    rng: np.random.Generator, composition: str, cell: int
) -> tuple[int, tuple[float, float]]:
    if composition == "single":
        # Up to a close-up that the frame cuts, as in photographs.
        size = int(rng.integers(70, 270))
        low, high = sorted((size / 2 - 6, SCENE_PIXELS - size / 2 + 6))
        return size, (rng.uniform(low, high), rng.uniform(low, high))
    jitter = rng.uniform(-11, 11, size=2)
    centre = ((cell % 3 + 0.5) * _THIRD + jitter[0], (cell // 3 + 0.5) * _THIRD + jitter[1])
    return int(rng.integers(46, 76)), centre


def _draw(
    rng: np.random.Generator,
    label: Label,
    size: int,
    icons: Icons,
    backdrop: np.ndarray,
) -> Image.Image:
    if label.colour is None:
        slugs = _ICONS[label.name]
        drawing = icons.icon(slugs[int(rng.integers(len(slugs)))])
        if rng.random() < 0.3:
            drawing = drawing.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        turn = rng.uniform(-12, 12)
    else:
        drawing = _draw_shape(rng, label, backdrop)
        turn = rng.uniform(-8, 8)
    scale = size / max(drawing.size)
    width, height = (max(1, round(side * scale)) for side in drawing.size)
    resized = drawing.resize((width, height), Image.Resampling.LANCZOS)
    return resized.rotate(turn, Image.Resampling.BICUBIC, expand=True)


def _draw_shape(rng: np.random.Generator, label: Label, backdrop: np.ndarray) -> Image.Image:
    """Draws a filled shape; with an outline where its colour is close to the background's."""
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
    """Returns a shape's outline, float64 [points, 2] in the unit square, y down."""
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


def _background(rng: np.random.Generator) -> tuple[Image.Image, np.ndarray]:
    """Returns a background and its mean colour, float64 [3]."""
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
    pixels = np.clip(field, 0, 255).astype(np.uint8)
    return Image.fromarray(pixels), pixels.reshape(-1, 3).mean(axis=0)


def _blend_field(rng: np.random.Generator) -> np.ndarray:
    """Returns how far each pixel is from the first to the second colour, [H, W] in 0..1."""
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
