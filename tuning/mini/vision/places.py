"""Which of the nine places of a picture a cell of a map lies in."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from torch import Tensor

from edge_et.tuning.mini.concepts import PLACES

Cells = TypeVar("Cells", np.ndarray, Tensor)


def places_of(rows: Cells, columns: Cells, side: int) -> Cells:
    """Tell the place of cells, as `SceneObject.place` tells that of a point at their centres.

    Map sides are no multiples of three, so two lines of cells lie across a border between places.
    The centre decides: of eight cells, the sixth belongs to the last place and not to the middle.

    Args:
        rows: int64 [...] of the cells, from 0.
        columns: int64 [...] of the cells, from 0.
        side: cells a side.

    Returns:
        int64 [...], numbers of places in reading order, see `PLACES`.
    """
    down, across = ((2 * cells + 1) * len(PLACES) // (2 * side) for cells in (rows, columns))
    return down * len(PLACES) + across
