"""Drawings as other hands would have drawn them.

A model that has seen eight drawing styles knows their strokes and fills, and misses a third of what
it knows in a ninth. So training shows every second drawing with fewer colours, with lines around
them, paler or brighter. What it shows is still there.
"""

import numpy as np
from PIL import Image, ImageChops, ImageEnhance, ImageFilter

_CHANGED_SHARE = 0.5
_FLAT_SHARE = 0.6
_INK_SHARE = 0.6
_TINT_SHARE = 0.6
# Of the difference between neighbours, 0..255, from which on there is a line.
_EDGE = 40


def restyle(rng: np.random.Generator, drawing: Image.Image) -> Image.Image:
    """Changes the style of some drawings.

    Args:
        rng: Chooses.
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


def _flattened(drawing: Image.Image, colours: int) -> Image.Image:
    """Leaves a few colours."""
    flat = drawing.convert("RGB").quantize(colours, dither=Image.Dither.NONE).convert("RGB")
    flat.putalpha(drawing.getchannel("A"))
    return flat


def _tinted(drawing: Image.Image, saturation: float, brightness: float) -> Image.Image:
    """Changes how strong and how light colours are."""
    tinted = ImageEnhance.Color(drawing.convert("RGB")).enhance(saturation)
    tinted = ImageEnhance.Brightness(tinted).enhance(brightness)
    tinted.putalpha(drawing.getchannel("A"))
    return tinted


def _inked(drawing: Image.Image, width: int, lightness: int) -> Image.Image:
    """Draws lines around the thing, and where its colours meet.

    Args:
        drawing: RGBA.
        width: Of the lines, pixels; odd.
        lightness: Of the ink, 0..255.
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
