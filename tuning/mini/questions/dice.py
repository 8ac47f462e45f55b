"""The dice of one question: what is drawn by lot, and how it is worded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from edge_et.tuning.mini.questions.phrasing import phrase

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Draw:
    """Chooses what a question is about and how it is worded.

    Attributes:
        rng: where all chance comes from.
        held_out: whether to word it as training never does.
    """

    rng: np.random.Generator
    held_out: bool

    def one(self, choices: Sequence[T]) -> T:
        """Return one of some choices."""
        return choices[int(self.rng.integers(len(choices)))]

    def chance(self, share: float = 0.5) -> bool:
        """Return True in a share of all cases."""
        return self.rng.random() < share

    def words(self, group: str, **slots: str) -> str:
        """Phrase the question; see `phrasing.phrase`."""
        return phrase(group, self.rng, held_out=self.held_out, **slots)
