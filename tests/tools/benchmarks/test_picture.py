"""The picture that is asked about unless another is given."""

from pathlib import Path

import numpy as np
from PIL import Image

from edge_et.benchmarks.picture import draw_picture

PIXEL_SUM = 104866486
CENTRE = [205, 40, 34]


def test_the_drawn_picture_is_the_same_everywhere(tmp_path: Path):
    pixels = np.asarray(Image.open(draw_picture(tmp_path / "a.png")))
    assert pixels.shape == (480, 640, 3)
    assert (int(pixels.sum()), pixels[240, 320].tolist()) == (PIXEL_SUM, CENTRE)


def test_it_has_the_size_asked_for(tmp_path: Path):
    pixels = np.asarray(Image.open(draw_picture(tmp_path / "a.png", (896, 448))))
    assert pixels.shape == (448, 896, 3)
    red, green, _ = pixels[224, 448].astype(int)
    assert red > 4 * green  # the disc is in the middle
