"""Digits of seven segments, as clocks and meters show them."""

from __future__ import annotations

from PIL import ImageDraw

# Top, upper left, upper right, middle, lower left, lower right, bottom.
_LIT = {
    "0": "1110111",
    "1": "0010010",
    "2": "1011101",
    "3": "1011011",
    "4": "0111010",
    "5": "1101011",
    "6": "1101111",
    "7": "1010010",
    "8": "1111111",
    "9": "1111011",
}


def draw_segments(
    pen: ImageDraw.ImageDraw,
    digit: str,
    box: tuple[float, float, float, float],
    colour: tuple[int, int, int],
) -> None:
    """Draw one digit.

    Args:
        pen: draws it.
        digit: "0" to "9".
        box: left, top, right, bottom in pixels.
        colour: of the lit segments.
    """
    left, top, right, bottom = box
    thick = (right - left) * 0.2
    gap = thick * 0.15
    middle = (top + bottom) / 2
    segments = (
        (left + thick, top, right - thick, top + thick),
        (left, top + thick / 2, left + thick, middle - gap),
        (right - thick, top + thick / 2, right, middle - gap),
        (left + thick, middle - thick / 2, right - thick, middle + thick / 2),
        (left, middle + gap, left + thick, bottom - thick / 2),
        (right - thick, middle + gap, right, bottom - thick / 2),
        (left + thick, bottom - thick, right - thick, bottom),
    )
    for lit, segment in zip(_LIT[digit], segments, strict=True):
        if lit == "1":
            pen.rectangle(segment, fill=colour)
