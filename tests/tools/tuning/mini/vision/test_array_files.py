"""Array files: what is there is not made again, and a stopped run leaves no half of one."""

from pathlib import Path

import numpy as np
import pytest

from edge_et.tuning.mini.vision.array_files import make_missing


def test_a_stopped_run_goes_on_with_the_file_that_is_missing(tmp_path: Path):
    made: list[int] = []

    def path_of(index: int) -> Path:
        return tmp_path / f"{index}.npz"

    def make(index: int) -> dict[str, np.ndarray]:
        if index == 1 and made == [0]:
            made.append(-1)
            raise KeyboardInterrupt
        made.append(index)
        return {"numbers": np.full(3, index)}

    with pytest.raises(KeyboardInterrupt):
        list(make_missing(range(3), path_of, make))
    assert [path.name for path in tmp_path.iterdir()] == ["0.npz"]
    paths = list(make_missing(range(3), path_of, make))
    assert paths == [path_of(index) for index in range(3)]
    assert made == [0, -1, 1, 2]
    with np.load(paths[2]) as arrays:
        assert arrays["numbers"].tolist() == [2, 2, 2]
