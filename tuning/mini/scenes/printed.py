"""Scenes of print: signs, labels, clocks, meters, sums and receipts."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from edge_et.tuning.mini.concepts import COLOURS
from edge_et.tuning.mini.facts import Carrier, PrintFacts
from edge_et.tuning.mini.scenes.scene import SCENE_PIXELS, Mark, Scene
from edge_et.tuning.mini.scenes.seven_segments import draw_segments
from edge_et.tuning.mini.scenes.words import words

_CARRIERS: tuple[Carrier, ...] = ("sign", "label", "clock", "meter", "sum", "receipt")
_CARRIER_SHARES = (0.55, 0.1, 0.07, 0.1, 0.08, 0.1)
_WIDEST_CHARACTER = 50.0
_TALLEST_TEXT = 165.0
_LIT = ((250, 60, 50), (70, 240, 90), (255, 190, 40), (90, 220, 250), (20, 25, 20))

RGB = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Glyph:
    """A character with its box in pixels: left, top, right, bottom."""

    character: str
    box: tuple[float, float, float, float]


def render_print(
    rng: np.random.Generator,
    canvas: Image.Image,
    fonts: Sequence[Path],
    *,
    held_out: bool = False,
) -> Scene:
    """Print something onto a board, a paper or a display.

    Args:
        rng: chooses everything that is not given.
        canvas: RGB, `SCENE_PIXELS` square; drawn on.
        fonts: Font files.
        held_out: whether to print words that training never shows.
    """
    carrier = _CARRIERS[int(rng.choice(len(_CARRIERS), p=_CARRIER_SHARES))]
    lines = _choose_lines(rng, carrier, words(held_out=held_out))
    layer = Image.new("RGBA", canvas.size)
    pen = ImageDraw.Draw(layer)
    if carrier in ("clock", "meter") and rng.random() < 0.75:
        glyphs = _draw_display(rng, pen, lines[0])
    else:
        font = fonts[int(rng.integers(len(fonts)))]
        glyphs = _draw_board(rng, pen, carrier, lines, font)
    turn = rng.uniform(-6, 6) if carrier in ("sign", "label", "meter") else rng.uniform(-2, 2)
    canvas.paste(turned := layer.rotate(turn, Image.Resampling.BICUBIC), (0, 0), turned)
    coverage = Image.new("L", canvas.size)
    cover = ImageDraw.Draw(coverage)
    for number, glyph in enumerate(glyphs, 1):
        cover.rectangle(glyph.box, fill=number)
    coverage = coverage.rotate(turn, Image.Resampling.NEAREST)
    marks = tuple(_mark(glyph, turn) for glyph in glyphs)
    return Scene(canvas, PrintFacts(carrier, lines), marks, np.asarray(coverage).copy())


def _choose_lines(
    rng: np.random.Generator, carrier: Carrier, vocabulary: Sequence[str]
) -> tuple[str, ...]:
    def word(longest: int = 6) -> str:
        while True:
            drawn = vocabulary[int(rng.integers(len(vocabulary)))]
            if len(drawn) <= longest:
                return drawn

    def number(most_digits: int, least_digits: int = 1) -> str:
        digits = int(rng.integers(least_digits, most_digits + 1))
        return str(rng.integers(10 ** (digits - 1) if digits > 1 else 0, 10**digits))

    if carrier == "sign":
        return (word() if rng.random() < 0.7 else number(4),)
    if carrier == "label":
        return (word(), number(3)) if rng.random() < 0.3 else (word(),)
    if carrier == "clock":
        return (f"{rng.integers(1, 24)}:{rng.integers(60):02d}",)
    if carrier == "meter":
        return (number(4, 2),)
    if carrier == "sum":
        first, second = (int(n) for n in rng.integers(1, 21, size=2))
        if rng.random() < 0.6:
            return (f"{first} + {second}",)
        return (f"{max(first, second)} - {min(first, second)}",)
    items: dict[str, int] = {}
    while len(items) < int(rng.integers(2, 4)):
        items[word(5)] = int(rng.integers(1, 16))
    return tuple(f"{name} {price}" for name, price in items.items())


def _draw_board(
    rng: np.random.Generator,
    pen: ImageDraw.ImageDraw,
    carrier: Carrier,
    lines: Sequence[str],
    font: Path,
) -> list[Glyph]:
    """Draw a board with lines of text, as wide as the picture allows."""
    paper, ink = _board_colours(rng, white=carrier == "receipt")
    texts = [_cased(rng, line) for line in lines]
    width = SCENE_PIXELS * (0.92 if carrier in ("sum", "receipt") else rng.uniform(0.78, 0.92))
    size = 100
    face = _face(font, size)
    longest = max(face.getlength(text) for text in texts)
    widest = max(face.getlength(text) / len(text) for text in texts)
    scale = min(width / longest, _WIDEST_CHARACTER / widest)
    size = int(min(size * scale, _TALLEST_TEXT / (1.25 * len(texts))))
    face = _face(font, size)
    pitch = size * 1.25
    height = pitch * len(texts)
    middle = rng.uniform(height / 2 + 22, SCENE_PIXELS - height / 2 - 22)
    used = max(face.getlength(text) for text in texts)
    slack = max(0.0, SCENE_PIXELS * 0.95 - used) / 2
    centre = SCENE_PIXELS / 2 + rng.uniform(-0.6, 0.6) * slack
    _draw_paper(rng, pen, carrier, (centre, middle, used, height), paper, ink)
    glyphs = []
    for row, text in enumerate(texts):
        baseline = middle - height / 2 + pitch * (row + 0.5) + size * 0.36
        left = centre - used / 2 if carrier == "receipt" else centre - face.getlength(text) / 2
        for k, character in enumerate(text):
            if character == " ":
                continue
            x = left + face.getlength(text[:k])
            pen.text((x, baseline), character, font=face, fill=ink, anchor="ls")
            if character != ":":
                box = pen.textbbox((x, baseline), character, font=face, anchor="ls")
                glyphs.append(Glyph(character.lower(), _widened(box, size)))
    return glyphs


def _draw_paper(
    rng: np.random.Generator,
    pen: ImageDraw.ImageDraw,
    carrier: Carrier,
    place: tuple[float, float, float, float],
    paper: RGB,
    ink: RGB,
) -> None:
    """Draw what is printed on: a board, a tag or a bottle."""
    x, y, width, height = place
    margin = rng.uniform(6, 16)
    left, right = x - width / 2 - margin, x + width / 2 + margin
    top, bottom = y - height / 2 - margin * 0.6, y + height / 2 + margin * 0.6
    rim = ink if rng.random() < 0.4 else None
    if carrier == "label" and rng.random() < 0.5:
        glass = tuple(int(c) for c in rng.integers(20, 200, size=3))
        pen.rounded_rectangle((left - 8, top - 40, right + 8, bottom + 60), 22, fill=glass)
        pen.rectangle((x - 18, top - 90, x + 18, top - 30), fill=glass)
    if rng.random() < 0.5:
        pen.rounded_rectangle((left, top, right, bottom), 12, fill=paper, outline=rim, width=3)
    else:
        pen.rectangle((left, top, right, bottom), fill=paper, outline=rim, width=3)
    if carrier == "label":
        pen.ellipse((left + 2, top + 2, left + 8, top + 8), fill=ink)


def _draw_display(rng: np.random.Generator, pen: ImageDraw.ImageDraw, text: str) -> list[Glyph]:
    """Draw seven-segment digits on a dark or pale display."""
    lit = _LIT[int(rng.integers(len(_LIT)))]
    back = (175, 190, 165) if sum(lit) < 150 else (18, 20, 24)
    digits = sum(c.isdigit() for c in text)
    digit_width = min(
        46.0, SCENE_PIXELS * rng.uniform(0.72, 0.85) / (digits + 0.35 * (digits < len(text)))
    )
    height = digit_width * rng.uniform(1.5, 1.9)
    width = digit_width * digits + (digit_width * 0.35 if digits < len(text) else 0)
    x = (SCENE_PIXELS - width) / 2 + rng.uniform(-4, 4)
    y = rng.uniform(26, SCENE_PIXELS - height - 26)
    frame = (x - 10, y - 12, x + width + 6, y + height + 12)
    pen.rounded_rectangle(frame, 8, fill=back, outline=(90, 90, 95), width=4)
    glyphs = []
    for character in text:
        if character == ":":
            for share in (0.32, 0.68):
                cy = y + height * share
                pen.ellipse((x + 1, cy - 4, x + 9, cy + 4), fill=lit)
            x += digit_width * 0.35
            continue
        box = (x, y, x + digit_width * 0.82, y + height)
        draw_segments(pen, character, box, lit)
        glyphs.append(Glyph(character, box))
        x += digit_width
    return glyphs


def _board_colours(rng: np.random.Generator, *, white: bool) -> tuple[RGB, RGB]:
    """Choose paper and ink that differ enough to be read."""
    if white or rng.random() < 0.35:
        return (246, 246, 242), (25, 25, 30)
    palette = list(COLOURS.values())
    while True:
        paper, ink = (palette[i] for i in rng.integers(len(palette), size=2))
        if abs(_brightness(paper) - _brightness(ink)) > 95:
            return paper, ink


def _brightness(colour: RGB) -> float:
    return 0.3 * colour[0] + 0.59 * colour[1] + 0.11 * colour[2]


def _cased(rng: np.random.Generator, text: str) -> str:
    return (text.upper(), text.title(), text)[int(rng.choice(3, p=(0.5, 0.3, 0.2)))]


def _widened(
    box: tuple[float, float, float, float], size: float
) -> tuple[float, float, float, float]:
    """Widen a glyph's box a little; thin ones cover an image token no less than others."""
    left, top, right, bottom = box
    short = max(0.0, size * 0.35 - (right - left)) / 2 + 1
    low = max(0.0, size * 0.5 - (bottom - top)) / 2
    return (left - short, top - low, right + short, bottom + low)


def _mark(glyph: Glyph, turn: float) -> Mark:
    """Turn a glyph's centre about the picture's middle, as `Image.rotate` does."""
    left, top, right, bottom = glyph.box
    x, y = (left + right) / 2 - SCENE_PIXELS / 2, (top + bottom) / 2 - SCENE_PIXELS / 2
    cos, sin = np.cos(np.deg2rad(turn)), np.sin(np.deg2rad(turn))
    return Mark(
        glyph.character,
        float((x * cos + y * sin) / SCENE_PIXELS + 0.5),
        float((y * cos - x * sin) / SCENE_PIXELS + 0.5),
    )


@functools.lru_cache(maxsize=512)
def _face(path: Path, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(path), size)
