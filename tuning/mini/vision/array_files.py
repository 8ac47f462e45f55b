"""Folders of array files that take hours to make: a stopped run goes on with the next file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edge_et.export.steps import atomic_output


def make_missing(
    indices: Sequence[int],
    path_of: Callable[[int], Path],
    make: Callable[[int], Mapping[str, np.ndarray]],
) -> Iterator[Path]:
    """Make the files that are not there yet.

    Args:
        indices: which files there shall be.
        path_of: tells where each of them is.
        make: makes the arrays of one.

    Yields:
        The path of each file, once it is complete.
    """
    for index in indices:
        path = path_of(index)
        if not path.exists():
            write_arrays(path, make(index))
        yield path


def write_arrays(path: Path, arrays: Mapping[str, Any]) -> None:
    """Write arrays, each under its name, to one file, whole or not at all."""
    with atomic_output(path) as partial, partial.open("wb") as file:
        np.savez(file, **arrays)
