"""Drawings as other hands would have drawn them.

A model that has seen eight drawing styles knows their strokes and fills, and misses a third of what
it knows in a ninth. So training shows every second drawing with fewer colours, with lines around
them, paler or brighter, and drawings that are lines alone with colours between these. What they
show is still there.
"""

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageEnhance, ImageFilter

_CHANGED_SHARE = 0.5
_FLAT_SHARE = 0.6
_INK_SHARE = 0.6
_TINT_SHARE = 0.6
# Of the difference between neighbours, 0..255, from which on there is a line.
_EDGE = 40
_BARE_SHARE = 0.35
_WHITE_SHARE = 0.3
_ONE_PAINT_SHARE = 0.5
# Areas between lines are looked for in a picture of this side.
_AREA_PIXELS = 64
_MOST_AREAS = 12
_OUTSIDE = 128


def restyle(rng: np.random.Generator, drawing: Image.Image) -> Image.Image:
    """Change the style of some drawings.

    Args:
        rng: chooses.
        drawing: RGBA.

    Returns:
        The same thing, RGBA, a few pixels larger if it got an outline.
    """
    if rng.random() >= _CHANGED_SHARE:
        return drawing
    if rng.random() < _FLAT_SHARE:
        drawing = _flattened(drawing, int(rng.integers(4, 12)))
    if rng.random() < _TINT_SHARE:
        drawing = _tinted(drawing, float(rng.uniform(0.2, 1.5)), float(rng.uniform(0.8, 1.2)))
    if rng.random() < _INK_SHARE:
        drawing = _inked(drawing, int(rng.choice([3, 5, 7])), int(rng.integers(0, 60)))
    return drawing


def painted(rng: np.random.Generator, lines: Image.Image) -> Image.Image:
    """Give lines of one colour another one, and most of them colours in between.

    Args:
        rng: chooses.
        lines: RGBA, opaque where there is a line.

    Returns:
        The same drawing, RGBA, of the same size.
    """
    alpha = lines.getchannel("A")
    bare = rng.random() < _BARE_SHARE
    ink = Image.new("RGBA", lines.size, _colour(rng, 0, 256 if bare else 80))
    ink.putalpha(alpha)
    if bare:
        return ink
    one = _colour(rng, 90, 256)
    several = rng.random() >= _ONE_PAINT_SHARE
    drawing = Image.new("RGBA", lines.size)
    for area in _areas(alpha):
        paint = _colour(rng, 90, 256) if several else one
        drawing.paste(Image.new("RGBA", lines.size, paint), mask=area)
    drawing.alpha_composite(ink)
    return drawing


def _colour(rng: np.random.Generator, darkest: int, lightest: int) -> tuple[int, int, int, int]:
    """Draw an opaque colour, often white where that is light enough."""
    if lightest > 255 and rng.random() < _WHITE_SHARE:
        return (255, 255, 255, 255)
    red, green, blue = (int(value) for value in rng.integers(darkest, lightest, size=3))
    return (red, green, blue, 255)


def _areas(alpha: Image.Image) -> list[Image.Image]:
    """Find what lines enclose: masks of the drawing's size, each a little wider than its area."""
    small = alpha.filter(ImageFilter.MaxFilter(3)).resize((_AREA_PIXELS,) * 2, Image.Resampling.BOX)
    plan = Image.new("L", (_AREA_PIXELS + 2,) * 2)
    plan.paste(small.point(lambda value: 255 * (value > 80)), (1, 1))
    ImageDraw.floodfill(plan, (0, 0), _OUTSIDE)
    areas = []
    for number in range(1, _MOST_AREAS + 1):
        empty = np.argwhere(np.asarray(plan) == 0)
        if not len(empty):
            break
        row, column = empty[0].tolist()
        ImageDraw.floodfill(plan, (column, row), number)
        mask = plan.point([255 * (value == number) for value in range(256)])
        mask = mask.crop((1, 1, _AREA_PIXELS + 1, _AREA_PIXELS + 1)).filter(
            ImageFilter.MaxFilter(3)
        )
        areas.append(mask.resize(alpha.size, Image.Resampling.BILINEAR))
    return areas


def _flattened(drawing: Image.Image, colours: int) -> Image.Image:
    """Leave a few colours."""
    flat = drawing.convert("RGB").quantize(colours, dither=Image.Dither.NONE).convert("RGB")
    flat.putalpha(drawing.getchannel("A"))
    return flat


def _tinted(drawing: Image.Image, saturation: float, brightness: float) -> Image.Image:
    """Change how strong and how light colours are."""
    tinted = ImageEnhance.Color(drawing.convert("RGB")).enhance(saturation)
    tinted = ImageEnhance.Brightness(tinted).enhance(brightness)
    tinted.putalpha(drawing.getchannel("A"))
    return tinted


def _inked(drawing: Image.Image, width: int, lightness: int) -> Image.Image:
    """Draw lines around the thing, and where its colours meet.

    Args:
        drawing: RGBA.
        width: of the lines, pixels; odd.
        lightness: of the ink, 0..255.
    """
    wide = Image.new("RGBA", (drawing.width + 2 * width, drawing.height + 2 * width))
    wide.paste(drawing, (width, width))
    alpha = wide.getchannel("A")
    # Where nothing is drawn there is no colour that could meet another one.
    opaque = Image.new("RGB", wide.size, (128, 128, 128))
    opaque.paste(wide, mask=alpha)
    grey = opaque.convert("L")
    change = ImageChops.difference(
        grey.filter(ImageFilter.MaxFilter(3)), grey.filter(ImageFilter.MinFilter(3))
    )
    inner = ImageChops.multiply(change.point(lambda value: 255 * (value > _EDGE)), alpha)
    around = alpha.filter(ImageFilter.MaxFilter(width))
    lines = ImageChops.lighter(
        inner.filter(ImageFilter.MaxFilter(max(3, width - 2))), ImageChops.subtract(around, alpha)
    )
    inked = wide.copy()
    inked.paste(Image.new("RGB", wide.size, (lightness,) * 3), mask=lines)
    inked.putalpha(around)
    return inked
