"""Where positions stand for the rotary embedding, which is not always how many came before.

In: what positions hold. Out: their places, for an engine's batches; and where a prefix ends, by
which engines drop what is behind it. No model is touched here.

A token stands one place behind the one before it. So do rows of an image, but for models with
M-RoPE (Qwen2.5-VL, Qwen3.5): there an image has a grid. All its rows stand at one place in time,
and each in a row and a column of the grid; and what follows stands behind the largest of these
numbers. An engine knows positions by their time alone, so that it keeps an image with a grid whole,
or not at all.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edge_et.llm.kv_positions import GriddedRow, Position


@dataclass(frozen=True, slots=True)
class End:
    """Where a prefix ends.

    Attributes:
        count: how many positions it has.
        last: place in time of the last one; -1: there is none.
        following: place of a token behind it.
    """

    count: int
    last: int
    following: int


START: Final = End(0, -1, 0)


def follow(end: End, positions: Sequence[Position]) -> tuple[NDArray[np.int32], End]:
    """Return the places of positions behind a prefix, and where they end.

    Args:
        end: of the prefix.
        positions: what they hold; rows of an image in order.

    Returns:
        [n] int32; or [3,n], time, row and column, where an image with a grid is among them.
    """
    count = len(positions)
    if not any(isinstance(position, GriddedRow) for position in positions):
        behind = end.following + count
        places = np.arange(end.following, behind, dtype=np.int32)
        return places, End(end.count + count, behind - 1, behind) if count else end
    planes = np.empty((3, count), np.int32)
    for index, position in enumerate(positions):
        if isinstance(position, GriddedRow):
            place = end.following if position.row == 0 else end.last
            row, column = divmod(position.row, position.columns)
            planes[:, index] = place, place + row, place + column
            behind = place + max(position.rows, position.columns)
        else:
            place = end.following
            planes[:, index] = place
            behind = place + 1
        end = End(end.count + 1, place, behind)
    return planes, end


def places_of(positions: Sequence[Position]) -> NDArray[np.int32]:
    """Return the places of positions that begin a prompt; see `follow`."""
    return follow(START, positions)[0]


def end_of(positions: Sequence[Position]) -> End:
    """Return where positions end that begin a prompt."""
    return follow(START, positions)[1]


def cut_before_picture(positions: Sequence[Position], keep: int) -> int:
    """Return how many of the first positions an engine can keep: `keep`, or fewer.

    Args:
        positions: what they hold, `keep` of them or more.
        keep: at most so many.
    """
    last = positions[keep - 1] if keep else None
    if isinstance(last, GriddedRow) and last.row + 1 < last.rows * last.columns:
        return keep - last.row - 1
    return keep
