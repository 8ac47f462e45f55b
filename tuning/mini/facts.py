"""The ground truth of a picture: what is in it, in a form that questions can be made from.

Every family of scenes has its own facts. They are plain data, so that feature shards and data
files can carry them as JSON.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from edge_et.tuning.mini.concepts import PLACES


class Label(msgspec.Struct, frozen=True):
    """What an object is. Two objects with equal labels are the same kind of thing.

    Attributes:
        name: a thing's name ("dog") or a shape's ("square").
        colour: a shape's colour; None for a thing.
        plural: the name for two or more.
    """

    name: str
    colour: str | None
    plural: str

    @property
    def words(self) -> str:
        """The label in words, such as "dog" or "red square"."""
        return self.name if self.colour is None else f"{self.colour} {self.name}"

    @property
    def plural_words(self) -> str:
        """The label in words for two or more."""
        return self.plural if self.colour is None else f"{self.colour} {self.plural}"


class SceneObject(msgspec.Struct, frozen=True):
    """One object of a scene.

    Attributes:
        label: what it is.
        x: of its centre, as a share of the picture's width from the left.
        y: of its centre, as a share of the picture's height from the top.
        size: its longer side, as a share of the picture's side.
    """

    label: Label
    x: float
    y: float
    size: float

    @property
    def place(self) -> str:
        """Where the object's centre is, such as "top left"."""
        return PLACES[min(int(self.y * 3), 2)][min(int(self.x * 3), 2)]


class ObjectFacts(msgspec.Struct, frozen=True, tag="objects"):
    """Things and shapes.

    Attributes:
        objects: in reading order of their places.
    """

    objects: tuple[SceneObject, ...]


Carrier: TypeAlias = Literal["sign", "label", "clock", "meter", "receipt", "sum"]


class PrintFacts(msgspec.Struct, frozen=True, tag="print"):
    """Something with words or numbers printed on it.

    Attributes:
        carrier: what the print is on.
        lines: what it says, a line each, in lower case, such as ("open",) or ("milk 3", "bread 4").
    """

    carrier: Carrier
    lines: tuple[str, ...]


class ChartEntry(msgspec.Struct, frozen=True):
    """One bar, point, slice or table row.

    Attributes:
        label: printed beside it, in lower case.
        colour: of the bar or slice, one of `concepts.COLOURS`; None where colour tells nothing.
        value: a whole number; of a pie, the share in per cent.
    """

    label: str
    colour: str | None
    value: int


class ChartFacts(msgspec.Struct, frozen=True, tag="chart"):
    """A small chart or table.

    Attributes:
        kind: which.
        entries: from left to right, or from top to bottom; clockwise from the top for a pie.
    """

    kind: Literal["bar", "line", "pie", "table"]
    entries: tuple[ChartEntry, ...]


Facts: TypeAlias = ObjectFacts | PrintFacts | ChartFacts


def printed_words(facts: Facts) -> frozenset[str]:
    """List the words of two letters and more that are printed in a picture, in lower case."""
    if isinstance(facts, PrintFacts):
        printed = " ".join(facts.lines).split()
    elif isinstance(facts, ChartFacts):
        printed = [entry.label for entry in facts.entries if entry.label != entry.colour]
    else:
        printed = []
    return frozenset(word for word in printed if word.isalpha() and len(word) > 1)
