import hashlib
import json
from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np
import pytest
from PIL import Image
from tiny.bundle import PROCESSING
from tiny.places import DATA

from edge_et.bundle import Processing, Tiling
from edge_et.image import choose_grid, split_tiles

REFERENCE = json.loads((DATA / "tiling" / "reference.json").read_text())
"""How transformers cuts pictures; write_reference.py beside it wrote it."""


def processing(rule: str, reference: dict[str, Any]) -> Processing:
    if rule == "edge":
        tiling = Tiling(rule="edge", edge_tiles=reference["edge_tiles"], whole="last")
    else:
        sides = range(1, reference["most"] + 1)
        grids = [(columns, rows) for columns in sides for rows in sides]
        few = [grid for grid in grids if grid[0] * grid[1] <= reference["most"]]
        few.sort(key=lambda grid: grid[0] * grid[1])
        tiling = Tiling(rule="ratio", grids=tuple(few), whole="last")
    return msgspec.structs.replace(
        PROCESSING,
        height=reference["tile"],
        width=reference["tile"],
        fit="squash",
        resample="lanczos" if rule == "edge" else "bicubic",
        tiling=tiling,
    )


def cases() -> Iterator[Any]:
    for rule, references in REFERENCE.items():
        for name, reference in references.items():
            yield pytest.param(processing(rule, reference), reference, id=f"{rule}-{name}")


@pytest.mark.parametrize(("rules", "reference"), list(cases()))
def test_grids_are_those_of_the_reference(rules: Processing, reference: dict[str, Any]) -> None:
    assert len(reference["grids"]) > 390
    for width, height, columns, rows in reference["grids"]:
        expected = None if columns * rows < 2 else (columns, rows)
        assert choose_grid((width, height), rules, None) == expected, (width, height)


@pytest.mark.parametrize(("rules", "reference"), list(cases()))
def test_tiles_are_those_of_the_reference_bit_for_bit(
    rules: Processing, reference: dict[str, Any]
) -> None:
    for size, expected in reference["cut"].items():
        width, height = map(int, size.split("x"))
        values = np.random.default_rng([width, height]).integers(
            0, 256, (height, width, 3), np.uint8
        )
        tiles = split_tiles(
            Image.fromarray(values), rules, choose_grid((width, height), rules, None)
        )
        pixels = np.stack([np.asarray(tile).transpose(2, 0, 1) for tile in tiles])
        assert hashlib.sha256(pixels.tobytes()).hexdigest() == expected, size


@pytest.mark.parametrize(("rules", "reference"), list(cases()))
def test_there_are_never_more_tiles_than_asked(
    rules: Processing, reference: dict[str, Any]
) -> None:
    for width, height, *_ in reference["grids"][::10]:
        unbounded = choose_grid((width, height), rules, None)
        for most in range(1, 19):
            grid = choose_grid((width, height), rules, most)
            assert grid is None or grid[0] * grid[1] + 1 <= most
            if unbounded is not None and unbounded[0] * unbounded[1] + 1 <= most:
                assert grid == unbounded
