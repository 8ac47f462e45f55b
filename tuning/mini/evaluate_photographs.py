"""How often a bundle names the main thing of real photographs, and a picture of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edge_et.benchmarks.quality.accuracy import Accuracy
from edge_et.benchmarks.quality.scoring import is_right
from edge_et.export.steps import atomic_output
from edge_et.tuning.evaluation.contact_sheet import Card, draw_sheet

if TYPE_CHECKING:
    from edge_et.pipeline import ExtractThink
    from edge_et.tuning.mini.assets.photographs import Photograph

QUESTION = "What is this?"
_THUMBNAIL_PIXELS = 88
_COLUMNS = 14


@dataclass(frozen=True, slots=True, eq=False)
class Naming:
    """One photograph and what the bundle called it."""

    photograph: Photograph
    answered: str

    @property
    def right(self) -> bool:
        """Says whether the answer is one of the accepted names."""
        return any(is_right(self.answered, name) for name in self.photograph.names)


def name_photographs(
    pipe: ExtractThink,
    photographs: Iterable[Photograph],
    on_naming: Callable[[Naming], None] = lambda naming: None,
) -> list[Naming]:
    """Ask a bundle what each photograph shows, with extraction and thinking."""
    namings = []
    for photograph in photographs:
        naming = Naming(photograph, pipe.answer(photograph.picture, QUESTION).text)
        namings.append(naming)
        on_naming(naming)
    return namings


def photograph_table(namings: Sequence[Naming]) -> str:
    """Write the accuracy, then a Markdown list of all photographs."""
    found = Accuracy(right=sum(naming.right for naming in namings), asked=len(namings))
    low, high = found.interval
    lines = [
        f"{found.right} of {found.asked} right: {found.share:.0%} ({low:.0%} to {high:.0%})",
        "",
        "| photograph | accepted | answer | |",
        "|---|---|---|---|",
    ]
    for naming in namings:
        names = ", ".join(naming.photograph.names)
        mark = "right" if naming.right else "wrong"
        lines.append(f"| {naming.photograph.id} | {names} | {naming.answered} | {mark} |")
    return "\n".join(lines)


def write_photograph_sheet(namings: Sequence[Naming], out: Path) -> None:
    """Write a JPEG of all photographs, each framed green or red, with its answer."""
    cards = [
        Card(naming.photograph.picture, (naming.answered,), naming.right) for naming in namings
    ]
    sheet = draw_sheet(cards, _COLUMNS, _THUMBNAIL_PIXELS)
    with atomic_output(out) as partial:
        sheet.convert("RGB").save(partial, "JPEG", quality=80)
