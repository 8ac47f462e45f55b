"""Cells of a map are told the place that a thing at their centre is told."""

import numpy as np
import pytest
import torch

from edge_et.tuning.mini.concepts import PLACES
from edge_et.tuning.mini.facts import Label, SceneObject
from edge_et.tuning.mini.vision.places import places_of

NAMES = [place for row in PLACES for place in row]


@pytest.mark.parametrize("side", [8, 16])
def test_a_cell_is_where_a_thing_at_its_centre_is(side: int):
    rows, columns = np.mgrid[0:side, 0:side].reshape(2, -1)
    label = Label("dog", None, "dogs")
    expected = [
        SceneObject(label, (column + 0.5) / side, (row + 0.5) / side, 0.1).place
        for row, column in zip(rows, columns, strict=True)
    ]
    found = places_of(rows, columns, side)
    assert [NAMES[number] for number in found] == expected
    again = places_of(torch.from_numpy(rows), torch.from_numpy(columns), side)
    assert again.tolist() == found.tolist()
