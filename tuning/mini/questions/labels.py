"""How labels go into sentences, and which labels a picture lacks."""

from __future__ import annotations

from collections.abc import Sequence

from edge_et.tuning.mini.concepts import THINGS
from edge_et.tuning.mini.facts import Label, SceneObject
from edge_et.tuning.mini.questions.dice import Draw
from edge_et.tuning.mini.scenes.objects import SHAPE_LABELS, THING_LABELS

_ALIKE_SHARE = 0.4
_SAME_FAMILY_SHARE = 0.8
_ONE_OR_MORE = {"sheep", "deer", "fish", "shrimp", "dice"}
_INCLUDED = {
    "bird": "chicken duck penguin owl parrot flamingo swan eagle peacock turkey",
    "fish": "shark whale dolphin",
    "monkey": "gorilla",
    "tree": "pine_tree palm_tree",
    "flower": "rose tulip sunflower",
    "car": "taxi police_car ambulance",
    "truck": "fire_truck ambulance",
    "building": "house castle church factory stadium",
    "bicycle": "scooter",
    "motorcycle": "scooter",
    "ship": "sailboat canoe",
    "phone": "telephone",
    "clock": "watch",
    "hat": "cap",
    "shoe": "boot",
    "cake": "cupcake",
    "handbag": "backpack",
    "football": "soccer_ball",
    "baseball": "tennis_ball",
}
"""Words that also mean other things of the list, or nearly; one of two such is never absent."""
_MISTAKEN = {
    frozenset((name, other.replace("_", " ")))
    for name, others in _INCLUDED.items()
    for other in others.split()
}
_CATEGORY = {thing.name: thing.category for thing in THINGS}


def category_of(label: Label) -> str | None:
    """Return what sort of thing a label is, such as "animal" or "shape"; None if unknown."""
    return _CATEGORY.get(label.name) if label.colour is None else "shape"


def is_plural(label: Label) -> bool:
    """Say whether one of them is spoken of as many, as scissors are."""
    return label.name == label.plural and label.name.endswith("s")


def is_countable(label: Label) -> bool:
    """Say whether one can ask how many there are; bread and jeans are left alone."""
    return label.name != label.plural or label.name in _ONE_OR_MORE


def is_or_are(label: Label) -> str:
    """Return the verb for one of them."""
    return "are" if is_plural(label) else "is"


def with_article(label: Label) -> str:
    """Return "a dog", "an apple", "grapes", "bread"."""
    if not is_countable(label):
        return label.words
    return f"{'an' if label.words[0] in 'aeiouAEIOU' else 'a'} {label.words}"


def distinct(objects: Sequence[SceneObject]) -> list[Label]:
    """List the labels of a scene, each once."""
    return list(dict.fromkeys(item.label for item in objects))


def absent_label(present: Sequence[Label], draw: Draw) -> Label:
    """Draw a label that is not there, mostly one that could be mistaken for one that is."""
    shapes = [label for label in present if label.colour is not None]
    like = draw.one(present) if present else None
    if shapes and draw.chance(_ALIKE_SHARE):
        other = draw.one(shapes)
        pool = [label for label in SHAPE_LABELS if _differ_once(label, other)]
    elif like is not None and draw.chance(_SAME_FAMILY_SHARE):
        pool = list(SHAPE_LABELS if like.colour else THING_LABELS)
    else:
        pool = list(THING_LABELS if shapes or draw.chance() else SHAPE_LABELS)
    absent = [label for label in pool if not any(_may_be(label, other) for other in present)]
    return draw.one(absent)


def _may_be(label: Label, other: Label) -> bool:
    return label == other or frozenset((label.name, other.name)) in _MISTAKEN


def _differ_once(label: Label, like: Label) -> bool:
    return (label.name == like.name) != (label.colour == like.colour)
