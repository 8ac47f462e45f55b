"""Draws pictures of five kinds of parts, to try `edge-et train own` on: docs/tuning.md.

Usage: python examples/make_parts.py FOLDER [PICTURES A PART]
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

PARTS = ("hex_bolt", "wing_nut", "washer", "coil_spring", "cog_wheel")
SIDE = 320
METALS = ((150, 152, 160), (188, 160, 90), (96, 98, 104), (178, 112, 78))

Colour = tuple[int, int, int]


def main(folder: Path, count: int) -> None:
    """Draw `count` pictures of each part into a folder of its own."""
    for number, part in enumerate(PARTS):
        (folder / part).mkdir(parents=True, exist_ok=True)
        for k in range(count):
            rng = np.random.default_rng([number, k])
            draw_part(part, rng).save(folder / part / f"{part}-{k:02d}.png")


def draw_part(part: str, rng: np.random.Generator) -> Image.Image:
    """Draw one part, turned, sized and lit at random, on a bench of some colour."""
    bench = tuple(int(c) for c in rng.integers(120, 245, size=3))
    picture = Image.new("RGB", (SIDE, SIDE), bench)
    metal = np.array(METALS[int(rng.integers(len(METALS)))])
    light = tuple(int(c) for c in np.clip(metal * rng.uniform(0.8, 1.25), 0, 255))
    dark = tuple(int(c * 0.55) for c in light)
    layer = Image.new("RGBA", (SIDE, SIDE))
    DRAW[part](ImageDraw.Draw(layer), light, dark, rng)
    size = int(SIDE * rng.uniform(0.55, 0.95))
    layer = layer.rotate(float(rng.uniform(0, 360)), Image.Resampling.BICUBIC)
    layer = layer.resize((size, size), Image.Resampling.LANCZOS)
    corner = tuple(int(c) for c in rng.integers(0, SIDE - size + 1, size=2))
    shadow = layer.getchannel("A").filter(ImageFilter.GaussianBlur(6)).point(lambda a: a // 3)
    picture.paste((0, 0, 0), (corner[0] + 6, corner[1] + 8), shadow)
    picture.paste(layer, corner, layer)
    noise = rng.normal(0, rng.uniform(2, 8), size=(SIDE, SIDE, 1))
    return Image.fromarray(np.clip(np.asarray(picture) + noise, 0, 255).astype(np.uint8))


def ring(sides: int, radius: float, centre: tuple[float, float] = (160, 160)) -> list:
    """Give the corners of a regular polygon."""
    turn = np.arange(sides) * 2 * np.pi / sides
    return [(centre[0] + radius * np.sin(a), centre[1] + radius * np.cos(a)) for a in turn]


def hex_bolt(pen: ImageDraw.ImageDraw, light: Colour, dark: Colour, rng) -> None:
    """Draw a bolt from the side: head and thread."""
    length = int(rng.integers(120, 190))
    pen.polygon([(100, 30), (220, 30), (235, 60), (220, 90), (100, 90), (85, 60)], light, dark, 4)
    pen.line([(125, 30), (125, 90)], dark, 3)
    pen.line([(195, 30), (195, 90)], dark, 3)
    pen.rectangle((130, 90, 190, 90 + length), light, dark, 3)
    for y in range(110, 90 + length, 12):
        pen.line([(130, y), (190, y + 7)], dark, 4)


def wing_nut(pen: ImageDraw.ImageDraw, light: Colour, dark: Colour, rng) -> None:
    """Draw a nut with two wings."""
    spread = int(rng.integers(10, 40))
    pen.polygon([(150, 190), (40, 60 + spread), (85, 40 + spread), (160, 130)], light, dark, 4)
    pen.polygon([(170, 190), (280, 60 + spread), (235, 40 + spread), (160, 130)], light, dark, 4)
    pen.rounded_rectangle((115, 140, 205, 240), 14, light, dark, 4)
    pen.ellipse((138, 165, 182, 209), dark)


def washer(pen: ImageDraw.ImageDraw, light: Colour, dark: Colour, rng) -> None:
    """Draw a flat ring."""
    hole = int(rng.integers(40, 75))
    pen.ellipse((40, 40, 280, 280), light, dark, 5)
    pen.ellipse((160 - hole, 160 - hole, 160 + hole, 160 + hole), (0, 0, 0, 0), dark, 5)


def coil_spring(pen: ImageDraw.ImageDraw, light: Colour, dark: Colour, rng) -> None:
    """Draw a spring from the side."""
    turns = int(rng.integers(5, 9))
    pitch = 240 / turns
    for k in range(turns):
        y = 40 + k * pitch
        pen.line([(100, y + pitch / 2), (220, y + pitch)], dark, 9)
    for k in range(turns):
        y = 40 + k * pitch
        pen.line([(220, y), (100, y + pitch / 2)], light, 13)


def cog_wheel(pen: ImageDraw.ImageDraw, light: Colour, dark: Colour, rng) -> None:
    """Draw a gear."""
    teeth = int(rng.integers(8, 14))
    for x, y in ring(teeth, 118):
        pen.ellipse((x - 20, y - 20, x + 20, y + 20), light, dark, 4)
    pen.ellipse((50, 50, 270, 270), light, dark, 4)
    for x, y in ring(5, 62):
        pen.ellipse((x - 17, y - 17, x + 17, y + 17), dark)
    pen.ellipse((138, 138, 182, 182), dark)


DRAW = {
    "hex_bolt": hex_bolt,
    "wing_nut": wing_nut,
    "washer": washer,
    "coil_spring": coil_spring,
    "cog_wheel": cog_wheel,
}

if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 10)
