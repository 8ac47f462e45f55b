"""What an exam is: a named series of questions about pictures, with right answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from PIL import Image

from edge_et.tuning.training.example import Example


@dataclass(frozen=True, slots=True, kw_only=True)
class Exam:
    """One row of the table.

    Attributes:
        name: of the row.
        two_steps: whether the answers take a step from what is seen.
        questions: gives pictures and what is asked about them, the same ones every time.
    """

    name: str
    two_steps: bool = False
    questions: Callable[[], Iterator[tuple[Image.Image, Example]]]
