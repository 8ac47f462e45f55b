"""Draws the pictures of this folder that are no photographs: python draw_pictures.py.

They are committed, since fonts and rasterizers differ between versions of Pillow (13.0 made these).
"""

from collections.abc import Callable
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

FOLDER = Path(__file__).parent / "pictures"
PAPER, INK = (236, 236, 240), (20, 20, 30)
RED, BLUE, GREEN, YELLOW = (214, 40, 40), (40, 90, 205), (46, 152, 70), (240, 200, 40)
PURPLE, ORANGE = (130, 60, 170), (240, 130, 30)

Pen = ImageDraw.ImageDraw


def circle(pen: Pen, x: int, y: int, radius: int, colour: tuple[int, int, int]) -> None:
    pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)


def square(pen: Pen, x: int, y: int, radius: int, colour: tuple[int, int, int]) -> None:
    pen.rectangle((x - radius, y - radius, x + radius, y + radius), fill=colour)


def triangle(pen: Pen, x: int, y: int, radius: int, colour: tuple[int, int, int]) -> None:
    pen.polygon([(x, y - radius), (x - radius, y + radius), (x + radius, y + radius)], fill=colour)


Shape = Callable[[Pen, int, int, int, tuple[int, int, int]], None]


def sheet(
    *shapes: tuple[Shape, int, int, int, tuple[int, int, int]], size: tuple[int, int] = (224, 224)
) -> Image.Image:
    picture = Image.new("RGB", size, PAPER)
    pen = ImageDraw.Draw(picture)
    for shape, *where in shapes:
        shape(pen, *where)
    return picture


def sign(text: str) -> Image.Image:
    picture = Image.new("RGB", (448, 448), (150, 190, 160))
    pen = ImageDraw.Draw(picture)
    pen.rectangle((40, 140, 408, 290), fill=(245, 245, 240))
    pen.text((224, 215), text, INK, ImageFont.load_default(84), anchor="mm")
    return picture


def bars(heights: dict[str, int]) -> Image.Image:
    picture = Image.new("RGB", (448, 448), "white")
    pen = ImageDraw.Draw(picture)
    pen.line((50, 380, 430, 380), fill=INK, width=3)
    colours = (BLUE, RED, GREEN, ORANGE)
    for k, (label, height) in enumerate(heights.items()):
        left = 70 + 120 * k
        pen.rectangle((left, 380 - height, left + 80, 379), fill=colours[k])
        pen.text((left + 40, 405), label, INK, ImageFont.load_default(28), anchor="mm")
    return picture


def transparent() -> Image.Image:
    picture = Image.new("RGBA", (224, 224), (0, 0, 0, 0))
    square(ImageDraw.Draw(picture), 112, 112, 60, GREEN)
    return picture


def main() -> None:
    squares = ((50, 55), (170, 50), (60, 170), (168, 165))
    pictures = {
        "red-circle": sheet((circle, 112, 112, 62, RED)),
        "blue-square": sheet((square, 112, 112, 60, BLUE)),
        "transparent": transparent(),
        "grey": sheet((triangle, 112, 112, 70, (90, 90, 90))).convert("L"),
        "two-circles": sheet((circle, 60, 100, 30, RED), (circle, 165, 100, 30, RED)),
        "four-squares": sheet(*((square, x, y, 24, BLUE) for x, y in squares)),
        "corners": sheet((circle, 40, 40, 28, RED), (square, 184, 184, 28, BLUE)),
        "row": sheet(
            (triangle, 40, 112, 26, GREEN),
            (circle, 112, 112, 26, YELLOW),
            (square, 184, 112, 26, PURPLE),
        ),
        "sizes": sheet((circle, 70, 112, 55, ORANGE), (square, 180, 112, 20, BLUE)),
        "wide": sheet((circle, 500, 80, 60, BLUE), size=(600, 160)),
        "high": sheet((square, 80, 300, 60, RED), size=(160, 600)),
        "word": sign("BAKERY"),
        "number": sign("4207"),
        "bars": bars({"x": 80, "y": 160, "z": 320}),
        "empty": Image.new("RGB", (224, 224), PAPER),
        "small": sheet((circle, 8, 8, 5, RED), size=(16, 16)),
    }
    FOLDER.mkdir(exist_ok=True)
    for name, picture in pictures.items():
        picture.save(FOLDER / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main()
