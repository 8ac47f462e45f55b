"""Training states on disk."""

from pathlib import Path

import pytest
import torch

from edge_et.errors import TuningError
from edge_et.tuning.training.training_checkpoint import load_checkpoint, save_checkpoint


def test_a_state_survives_writing_and_reading(tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path / "none.pt") is None
    save_checkpoint(tmp_path / "state.pt", {"step": 3})
    assert load_checkpoint(tmp_path / "state.pt") == {"step": 3}


def test_what_is_no_state_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    for content in (b"", b"no pickle"):
        path.write_bytes(content)
        with pytest.raises(TuningError, match=r"state\.pt is no training state"):
            load_checkpoint(path)
    torch.save([1, 2], path)
    with pytest.raises(TuningError, match="holds a list"):
        load_checkpoint(path)
