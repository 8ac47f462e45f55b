"""How labels go into sentences, and which labels a picture lacks."""

from __future__ import annotations

from collections.abc import Sequence

from edge_et.tuning.concepts import COLOURS, SHAPES, THINGS
from edge_et.tuning.facts import Label, SceneObject
from edge_et.tuning.questions.draw import Draw

THING_LABELS = tuple(Label(thing.name, None, thing.plural) for thing in THINGS)
SHAPE_LABELS = tuple(Label(shape, colour, shape + "s") for colour in COLOURS for shape in SHAPES)

_ALIKE_SHARE = 0.4
_SAME_FAMILY_SHARE = 0.8
_ONE_OR_MORE = {"sheep", "deer", "fish", "dice"}
_CATEGORY = {thing.name: thing.category for thing in THINGS}


def category_of(label: Label) -> str | None:
    """Returns what sort of thing a label is, such as "animal" or "shape"; None if unknown."""
    return _CATEGORY.get(label.name) if label.colour is None else "shape"


def is_plural(label: Label) -> bool:
    """Says whether one of them is spoken of as many, as scissors are."""
    return label.name == label.plural and label.name.endswith("s")


def is_countable(label: Label) -> bool:
    """Says whether one can ask how many there are; bread and jeans are left alone."""
    return label.name != label.plural or label.name in _ONE_OR_MORE


def is_or_are(label: Label) -> str:
    """Returns the verb for one of them."""
    return "are" if is_plural(label) else "is"


def with_article(label: Label) -> str:
    """Returns "a dog", "an apple", "grapes", "bread"."""
    if not is_countable(label):
        return label.words
    return f"{'an' if label.words[0] in 'aeiouAEIOU' else 'a'} {label.words}"


def distinct(objects: Sequence[SceneObject]) -> list[Label]:
    """Lists the labels of a scene, each once."""
    return list(dict.fromkeys(item.label for item in objects))


def absent_label(present: Sequence[Label], draw: Draw) -> Label:
    """Draws a label that is not there, mostly one that could be mistaken for one that is."""
    shapes = [label for label in present if label.colour is not None]
    things = len(present) - len(shapes)
    if shapes and draw.chance(_ALIKE_SHARE):
        like = draw.one(shapes)
        pool = [label for label in SHAPE_LABELS if _differ_once(label, like)]
    elif draw.chance(_SAME_FAMILY_SHARE):
        pool = list(
            SHAPE_LABELS if draw.rng.integers(len(present) or 1) >= things else THING_LABELS
        )
    else:
        pool = list(SHAPE_LABELS if things else THING_LABELS)
    while True:
        label = draw.one(pool)
        if label not in present:
            return label
        pool.remove(label)
        if not pool:
            pool = list(THING_LABELS)


def _differ_once(label: Label, like: Label) -> bool:
    return (label.name == like.name) != (label.colour == like.colour)
