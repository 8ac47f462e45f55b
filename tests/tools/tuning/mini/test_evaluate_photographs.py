"""Photographs: judged by any of their names, and shown on a sheet."""

from pathlib import Path

import numpy as np
from PIL import Image
from tiny.scripted_bundle import Pipe

from edge_et.tuning.mini.assets.photographs import Photograph
from edge_et.tuning.mini.evaluate_photographs import (
    name_photographs,
    photograph_table,
    write_photograph_sheet,
)


def test_photographs_are_right_by_any_of_their_names(tmp_path: Path):
    picture = Image.fromarray(np.full((40, 60, 3), 90, np.uint8))
    shown = [
        Photograph("a/1", ("hound", "dog"), picture),
        Photograph("a/2", ("cat", "kitten"), picture),
    ]
    namings = name_photographs(Pipe("A dog."), shown)
    assert [naming.right for naming in namings] == [True, False]
    text = photograph_table(namings)
    assert text.startswith("1 of 2 right: 50%")
    assert "| a/2 | cat, kitten | A dog. | wrong |" in text
    write_photograph_sheet(namings, tmp_path / "sheet.jpg")
    with Image.open(tmp_path / "sheet.jpg") as sheet:
        assert sheet.format == "JPEG"
