"""Scenes of data: bar, line and pie charts, drawn by matplotlib, and small tables."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from edge_et.tuning.mini.concepts import COLOURS
from edge_et.tuning.mini.facts import ChartEntry, ChartFacts
from edge_et.tuning.mini.scenes.scene import SCENE_PIXELS, Mark, Scene
from edge_et.tuning.mini.scenes.words import words

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ChartKind = Literal["bar", "line", "pie", "table"]

_KINDS: tuple[ChartKind, ...] = ("bar", "line", "pie", "table")
_KIND_SHARES = (0.55, 0.12, 0.15, 0.18)
_INKS = tuple(name for name in COLOURS if name not in ("white", "black", "gray"))
_SHORT_LABELS = ("mon tue wed thu fri", "jan feb mar apr may", "tea oil rye nut fig", "x y z p q")
_DPI = 100
_LABEL_POINTS = 13


class _Marker:
    """Collects marks and what they cover."""

    def __init__(self) -> None:
        self.marks: list[Mark] = []
        self.coverage = Image.new("L", (SCENE_PIXELS, SCENE_PIXELS))
        self._pen = ImageDraw.Draw(self.coverage)

    def box(
        self, words: str, box: tuple[float, float, float, float], *, at_top: bool = False
    ) -> None:
        left, top, right, bottom = box
        self.polygon(
            words,
            [(left, top), (right, top), (right, bottom), (left, bottom)],
            ((left + right) / 2, top if at_top else (top + bottom) / 2),
        )

    def polygon(
        self, words: str, corners: Sequence[tuple[float, float]], centre: tuple[float, float]
    ) -> None:
        self.marks.append(Mark(words, centre[0] / SCENE_PIXELS, centre[1] / SCENE_PIXELS))
        self._pen.polygon(corners, fill=len(self.marks))

    def text(self, text: str, box: tuple[float, float, float, float]) -> None:
        """Mark the characters of a text, taken to be equally wide."""
        left, top, right, bottom = box
        step = (right - left) / len(text)
        for k, character in enumerate(text):
            if character != " ":
                self.box(character.lower(), (left + k * step, top, left + (k + 1) * step, bottom))


def render_chart(rng: np.random.Generator, fonts: Sequence[Path]) -> Scene:
    """Draw a chart or a table.

    Args:
        rng: chooses everything that is not given.
        fonts: Font files.
    """
    kind = _KINDS[int(rng.choice(len(_KINDS), p=_KIND_SHARES))]
    font = fonts[int(rng.integers(len(fonts)))]
    if kind == "table":
        return _table(rng, font)
    entries = _choose_entries(rng, kind)
    figure = _new_figure(rng)
    axes = figure.add_axes((0.14, 0.15, 0.82, 0.8) if kind != "pie" else (0.05, 0.05, 0.9, 0.9))
    marker = _Marker()
    draw = {"bar": _draw_bars, "line": _draw_line, "pie": _draw_pie}[kind]
    picture, shown = draw(rng, figure, axes, entries, marker, font)
    return Scene(
        picture, ChartFacts(kind, shown), tuple(marker.marks), np.asarray(marker.coverage).copy()
    )


def _choose_entries(rng: np.random.Generator, kind: ChartKind) -> tuple[ChartEntry, ...]:
    count = int(rng.integers(*{"bar": (2, 6), "line": (3, 6), "pie": (2, 5)}[kind]))
    colours = [_INKS[i] for i in rng.permutation(len(_INKS))[:count]]
    if kind == "pie":
        cuts = np.sort(rng.choice(np.arange(2, 19), size=count - 1, replace=False))
        shares = np.diff([0, *cuts.tolist(), 20]) * 5
        if (shares == shares.max()).sum() > 1 or shares.min() < 10:
            return _choose_entries(rng, kind)
        return tuple(ChartEntry(c, c, int(v)) for c, v in zip(colours, shares, strict=True))
    values = rng.integers(1, 11, size=count)
    ordered = np.sort(values)
    if ordered[-1] - ordered[-2] < rng.integers(1, 3) or ordered[1] == ordered[0]:
        return _choose_entries(rng, kind)
    labels = list("abcdefgh") if rng.random() < 0.7 else _SHORT_LABELS[rng.integers(4)].split()
    coloured = kind == "bar" and rng.random() < 0.75
    return tuple(
        ChartEntry(label, colour if coloured else None, int(value))
        for label, colour, value in zip(labels[:count], colours, values, strict=True)
    )


def _new_figure(rng: np.random.Generator) -> Figure:
    from matplotlib.figure import Figure

    side = SCENE_PIXELS / _DPI
    paper = "white" if rng.random() < 0.6 else tuple(rng.uniform(0.88, 1, size=3))
    return Figure(figsize=(side, side), dpi=_DPI, facecolor=paper)


def _draw_bars(
    rng: np.random.Generator,
    figure: Figure,
    axes: Axes,
    entries: tuple[ChartEntry, ...],
    marker: _Marker,
    font: Path,
) -> tuple[Image.Image, tuple[ChartEntry, ...]]:
    one = _INKS[int(rng.integers(len(_INKS)))]
    names = [entry.colour or one for entry in entries]
    heights = [entry.value for entry in entries]
    width = rng.uniform(0.5, 0.85)
    fills = [np.array(COLOURS[name]) / 255 for name in names]
    outline = "black" if rng.random() < 0.3 else None
    bars = axes.bar(range(len(entries)), heights, width, color=fills, edgecolor=outline)
    _finish_axes(rng, axes, entries, font)
    if rng.random() < 0.3:
        axes.bar_label(bars, fontsize=_LABEL_POINTS)
    picture = _render(figure)
    for name, bar, value in zip(names, bars, heights, strict=True):
        marker.box(f"{name} bar {value}", _pixels(bar.get_window_extent()), at_top=True)
    _mark_labels(axes, marker)
    return picture, entries


def _draw_line(
    rng: np.random.Generator,
    figure: Figure,
    axes: Axes,
    entries: tuple[ChartEntry, ...],
    marker: _Marker,
    font: Path,
) -> tuple[Image.Image, tuple[ChartEntry, ...]]:
    ink = np.array(COLOURS[_INKS[int(rng.integers(len(_INKS)))]]) / 255
    values = [entry.value for entry in entries]
    shape = str(rng.choice(["o", "s", "D"]))
    axes.plot(range(len(values)), values, color=ink, marker=shape, markersize=12, linewidth=3)
    axes.set_xlim(-0.5, len(values) - 0.5)
    _finish_axes(rng, axes, entries, font)
    picture = _render(figure)
    for k, value in enumerate(values):
        x, y = axes.transData.transform((k, value))
        y = SCENE_PIXELS - y
        marker.box(f"point {value}", (x - 12, y - 12, x + 12, y + 12))
    _mark_labels(axes, marker)
    return picture, entries


def _draw_pie(
    rng: np.random.Generator,
    figure: Figure,
    axes: Axes,
    entries: tuple[ChartEntry, ...],
    marker: _Marker,
    font: Path,
) -> tuple[Image.Image, tuple[ChartEntry, ...]]:
    fills = [_fill(entry.label) for entry in entries]
    gaps = {"edgecolor": "white", "linewidth": 2} if rng.random() < 0.5 else {}
    wedges, *_ = axes.pie(
        [entry.value for entry in entries],
        colors=fills,
        startangle=90,
        counterclock=False,
        wedgeprops=gaps,
    )
    picture = _render(figure)
    for entry, wedge in zip(entries, wedges, strict=True):
        turn = np.deg2rad(np.linspace(wedge.theta1, wedge.theta2, 24))
        rim = np.stack([np.cos(turn), np.sin(turn)], axis=1)
        corners = axes.transData.transform(np.concatenate([[[0.0, 0.0]], rim]))
        corners[:, 1] = SCENE_PIXELS - corners[:, 1]
        centre = corners.mean(axis=0)
        points = [(float(x), float(y)) for x, y in corners]
        marker.polygon(f"{entry.label} slice {entry.value}", points, (centre[0], centre[1]))
    return picture, entries


def _fill(colour: str) -> tuple[float, float, float]:
    red, green, blue = COLOURS[colour]
    return red / 255, green / 255, blue / 255


def _finish_axes(
    rng: np.random.Generator, axes: Axes, entries: Sequence[ChartEntry], font: Path
) -> None:
    from matplotlib.font_manager import FontProperties

    face = FontProperties(fname=str(font), size=_LABEL_POINTS)
    axes.set_xticks(range(len(entries)), [entry.label for entry in entries], fontproperties=face)
    axes.set_yticks(range(0, 11, int(rng.choice([2, 5]))))
    axes.tick_params(axis="y", labelsize=9, length=2, pad=1)
    axes.tick_params(axis="x", length=0, pad=3)
    axes.set_ylim(0, 11.2)
    if rng.random() < 0.5:
        axes.grid(visible=True, axis="y", alpha=0.4)
        axes.set_axisbelow(True)
    if rng.random() < 0.5:
        axes.spines[["top", "right"]].set_visible(False)


def _mark_labels(axes: Axes, marker: _Marker) -> None:
    for label in axes.get_xticklabels():
        left, top, right, bottom = _pixels(label.get_window_extent())
        wide = max(0.0, 12 - (right - left)) / 2
        marker.text(label.get_text(), (left - wide, top - 4, right + wide, bottom + 4))


def _render(figure: Figure) -> Image.Image:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())


def _pixels(extent) -> tuple[float, float, float, float]:
    """Return a matplotlib box, whose y counts from below, as left, top, right, bottom."""
    return (extent.x0, SCENE_PIXELS - extent.y1, extent.x1, SCENE_PIXELS - extent.y0)


def _table(rng: np.random.Generator, font: Path) -> Scene:
    vocabulary = [word for word in words(held_out=False) if len(word) <= 5]
    count = int(rng.integers(2, 5))
    names = rng.choice(vocabulary, size=count, replace=False).tolist()
    values = rng.choice(np.arange(1, 21), size=count, replace=False).tolist()
    paper = (255, 255, 255) if rng.random() < 0.6 else tuple(rng.integers(225, 256, size=3))
    picture = Image.new("RGB", (SCENE_PIXELS, SCENE_PIXELS), tuple(int(c) for c in paper))
    pen = ImageDraw.Draw(picture)
    marker = _Marker()
    top, row = rng.uniform(6, 22), min(52.0, 200 / count)
    left, middle, right = 8, 146, 216
    face = ImageFont.truetype(str(font), int(min(row * 0.62, 27)))
    for k, (name, value) in enumerate(zip(names, values, strict=True)):
        y = top + row * k
        if k % 2 and rng.random() < 0.5:
            pen.rectangle((left, y, right, y + row), fill=(235, 238, 245))
        for text, x in ((name, left + 8), (str(value), middle + 14)):
            at = (x, y + row / 2)
            pen.text(at, text, font=face, fill=(20, 20, 25), anchor="lm")
            x0, _, x1, _ = pen.textbbox(at, text, font=face, anchor="lm")
            marker.text(text, (x0, y + row * 0.15, x1, y + row * 0.85))
    lines = (60, 60, 70)
    for k in range(count + 1):
        pen.line((left, top + row * k, right, top + row * k), fill=lines, width=2)
    for x in (left, middle, right):
        pen.line((x, top, x, top + row * count), fill=lines, width=2)
    entries = tuple(ChartEntry(n, None, v) for n, v in zip(names, values, strict=True))
    facts = ChartFacts("table", entries)
    return Scene(picture, facts, tuple(marker.marks), np.asarray(marker.coverage).copy())
