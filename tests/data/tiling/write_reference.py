"""Writes reference.json beside it: how transformers 5.24.0 cuts pictures, by its PIL backend.

In an environment of its own: pip install transformers==5.24.0 torch==2.13.0 pillow==12.2.0

Of 400 sizes the grid is told; of some, the SHA-256 of all tiles as 8-bit values [N,3,H,W].
"""

import hashlib
import json
import random
from pathlib import Path

import numpy as np
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import (
    GotOcr2ImageProcessorPil,
    get_optimal_tiled_canvas,
)
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil
from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil

PLAIN = {"do_rescale": False, "do_normalize": False}
EDGES = {"smolvlm": (2048, 512), "idefics3": (1456, 364), "small": (96, 32)}
RATIOS = {"internvl": (448, 12), "small": (32, 6)}
CUT = [(640, 480), (480, 640), (1000, 251), (37, 1200), (512, 512), (1500, 1000), (7, 5), (31, 33)]


def picture(width: int, height: int) -> np.ndarray:
    """Return what tests draw, too: noise that is told by its size."""
    return np.random.default_rng([width, height]).integers(0, 256, (height, width, 3), np.uint8)


def sizes() -> list[tuple[int, int]]:
    chance = random.Random(29)
    drawn = [(chance.randint(1, 4000), chance.randint(1, 4000)) for _ in range(330)]
    near = [(chance.randint(500, 530), chance.randint(500, 530)) for _ in range(50)]
    return [*drawn, *near, *CUT, (1, 1), (4000, 1), (1, 4000), (2048, 2048), (2048, 1536)][:400]


def digest(tiles: list[np.ndarray]) -> str:
    values = np.stack([np.asarray(tile) for tile in tiles])
    assert np.array_equal(values, values.astype(np.uint8))
    return hashlib.sha256(values.astype(np.uint8).tobytes()).hexdigest()


def by_edge(longest: int, tile: int) -> dict[str, object]:
    kinds = (SmolVLMImageProcessorPil, Idefics3ImageProcessorPil)
    first, second = (
        kind(size={"longest_edge": longest}, max_image_size={"longest_edge": tile}, **PLAIN)
        for kind in kinds
    )
    grids = []
    for width, height in sizes():
        empty = np.zeros((3, height, width), np.uint8)
        # The tiles that are made, not `get_number_of_image_patches`, which rounds otherwise.
        made = first.resize_for_vision_encoder(
            first.resize(empty, first.size, first.resample), tile, first.resample
        )
        _, rows, columns = first.split_images(made, first.max_image_size, first.resample)
        grids.append([width, height, columns, rows])
    cut = {}
    for width, height in CUT:
        values = [
            kind(picture(width, height), return_tensors="np").pixel_values[0]
            for kind in (first, second)
        ]
        assert np.array_equal(*values)
        cut[f"{width}x{height}"] = digest(list(values[0]))
    return {"edge_tiles": longest // tile, "tile": tile, "grids": grids, "cut": cut}


def by_ratio(tile: int, most: int) -> dict[str, object]:
    kind = GotOcr2ImageProcessorPil(
        size={"height": tile, "width": tile}, crop_to_patches=True, max_patches=most, **PLAIN
    )
    grids = [
        [width, height, *map(int, get_optimal_tiled_canvas((height, width), (tile, tile), 1, most))]
        for width, height in sizes()
    ]
    cut = {
        f"{width}x{height}": digest(
            list(kind(picture(width, height), return_tensors="np").pixel_values)
        )
        for width, height in CUT
    }
    return {"most": most, "tile": tile, "grids": grids, "cut": cut}


if __name__ == "__main__":
    content = {
        "edge": {name: by_edge(*numbers) for name, numbers in EDGES.items()},
        "ratio": {name: by_ratio(*numbers) for name, numbers in RATIOS.items()},
    }
    Path(__file__).with_name("reference.json").write_text(json.dumps(content) + "\n")
