"""The room on disk that a build takes, before anything is written."""

import math
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSize:
    """How many weights a checkpoint has.

    Attributes:
        parameters: of its language model.
        tower_parameters: of a vision tower and projector in it.
    """

    parameters: int
    tower_parameters: int


def build_bytes(models: Iterable[ModelSize], weight_bytes: float, tower_weight_bytes: float) -> int:
    """Bound what a build has on disk at any one time, downloads not counted.

    Args:
        models: in the order in which they are built.
        weight_bytes: of one weight of a language model in the bundle, at most.
        tower_weight_bytes: of one weight of a tower in the bundle, at most.
    """
    kept = peak = 0.0
    for model in models:
        # The tower in float32 beside what becomes of it; then the language model in F16 likewise.
        made = model.tower_parameters * tower_weight_bytes
        peak = max(peak, kept + made + 4 * model.tower_parameters)
        kept += made
        made = model.parameters * weight_bytes
        peak = max(peak, kept + made + 2 * model.parameters)
        kept += made
    return math.ceil(peak)
