"""Training state on disk: written whole or not at all, so that a killed run goes on."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from edge_et.errors import TuningError
from edge_et.export.steps import atomic_output


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a training state atomically."""
    import torch

    with atomic_output(path) as partial, partial.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())


def load_checkpoint(path: Path) -> dict[str, Any] | None:
    """Read a training state; None where there is none yet.

    Raises:
        TuningError: the file is no training state, or a damaged one.
        OSError: it cannot be read.
    """
    import torch

    if not path.exists():
        return None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as err:  # torch and pickle raise nearly anything, EOFError too
        raise TuningError(f"{path} is no training state, or a damaged one") from err
    if not isinstance(state, dict):
        raise TuningError(f"{path} holds a {type(state).__name__}, no training state")
    return state
