"""What a scene is: a picture, its facts, and what is drawn where."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from edge_et.tuning.mini.facts import Facts

SCENE_PIXELS = 224
# Training draws its scenes from seeds far below this one.
FIRST_HELD_OUT_SEED = 20_000_000


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that the vision side is taught to name where it is drawn.

    Attributes:
        words: what it is: "dog", "red square", a printed character in lower case, "red bar 8".
        x: of its centre, as a share of the width; of a bar, the middle of its upper end.
        y: of its centre, as a share of the height; of a bar, its upper end.
    """

    words: str
    x: float
    y: float


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """A picture and what is in it.

    Attributes:
        picture: RGB, `SCENE_PIXELS` square.
        facts: what questions are made from.
        marks: what is drawn, in an order of no meaning.
        coverage: uint8 [H, W]; 0 is background, k is the k-th mark, counted from 1.
    """

    picture: Image.Image
    facts: Facts
    marks: tuple[Mark, ...]
    coverage: np.ndarray
