"""Compares reference.json beside it with how InternVL's own code cuts pictures.

    python compare_original.py dataset.py

The argument is `internvl_chat/internvl/train/dataset.py` of github.com/OpenGVLab/InternVL. That of
commit 2410d1dbf208f0e799459aff9376e5747dbf41a2 cuts all of it alike. Only its two functions that
cut are run; the cards show the same. The environment is that of write_reference.py.

Candidates of equally many tiles are there in the order of a Python set, which decides where two of
them are equally near. No picture meets that with 1 to N tiles, as a config has it.
"""

import ast
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from write_reference import digest, picture

NAMES = ("find_closest_aspect_ratio", "dynamic_preprocess")


class Empty:
    """A picture without pixels, which remembers to which sizes it was resized."""

    def __init__(self, size: tuple[int, int]) -> None:
        self.size = size
        self.resized: list[tuple[int, int]] = []

    def resize(self, size: tuple[int, int]) -> "Empty":
        self.resized.append(size)
        return self

    def crop(self, box: tuple[int, int, int, int]) -> "Empty":
        return self


def load_functions(source: Path) -> dict[str, Any]:
    tree = ast.parse(source.read_text())
    tree.body = [
        node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name in NAMES
    ]
    content: dict[str, Any] = {}
    exec(compile(tree, str(source), "exec"), content)
    return content


def compare(cut: Any, reference: dict[str, Any]) -> None:
    tile, most = reference["tile"], reference["most"]
    for width, height, *grid in reference["grids"]:
        empty = Empty((width, height))
        cut(empty, 1, most, tile, use_thumbnail=True)
        assert [side // tile for side in empty.resized[0]] == grid, (width, height)
    for size, expected in reference["cut"].items():
        image = Image.fromarray(picture(*map(int, size.split("x"))))
        tiles = cut(image, 1, most, tile, use_thumbnail=True)
        assert digest([np.asarray(each).transpose(2, 0, 1) for each in tiles]) == expected, size


if __name__ == "__main__":
    cut = load_functions(Path(sys.argv[1]))["dynamic_preprocess"]
    for each in json.loads(Path(__file__).with_name("reference.json").read_text())[
        "ratio"
    ].values():
        compare(cut, each)
