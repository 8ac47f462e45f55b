"""Room on disk: what a build needs, and whether it is there."""

from collections import namedtuple
from pathlib import Path

import pytest

from edge_et.export.building.disk_space import ModelSize, build_bytes, require_disk
from edge_et.export.errors import DiskSpaceError


def test_room_on_disk_is_counted_by_file_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage(10, 0, 3_000_000_000))
    places = tmp_path / "cache" / "deeper", tmp_path / "out"
    require_disk([(places[0], 1_000_000_000), (places[1], 2_000_000_000)])
    with pytest.raises(DiskSpaceError, match=r"needs 3\.00 GB and has 3\.00 GB") as caught:
        require_disk([(places[0], 1_000_000_000), (places[1], 2_000_000_001)])
    assert (caught.value.needed_bytes, caught.value.free_bytes) == (3_000_000_001, 3_000_000_000)


def test_disk_space_is_that_of_the_largest_step() -> None:
    perceiver = ModelSize(parameters=100, tower_parameters=50)
    reasoner = ModelSize(parameters=300, tower_parameters=0)
    # Float tower beside float tower; then F16 beside what is kept.
    assert build_bytes([perceiver], 2.0, 4.0) == 200 + 200 + 200
    assert build_bytes([perceiver, reasoner], 0.5, 1.0) == 50 + 50 + 150 + 600
