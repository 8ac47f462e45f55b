"""Training state on disk: written whole or not at all, so that a killed run goes on."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from edge_et.export.steps import atomic_output


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a training state atomically."""
    import torch

    with atomic_output(path) as partial, partial.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())


def load_checkpoint(path: Path) -> dict[str, Any] | None:
    """Read a training state; None where there is none yet."""
    import torch

    if not path.exists():
        return None
    return torch.load(path, map_location="cpu", weights_only=True)
