"""Questions about a scene, with the extraction, the reasoning and the answer that are right.

Goes in: the objects of a scene. Comes out: `Example`s, which training learns and evaluation asks.
The extraction follows the paper (section 4): it tells the details that this question needs, the
asked-about objects first, and says so where something asked about is not there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from edge_et.tuning.concepts import SHAPES
from edge_et.tuning.scenes import ALL_LABELS, Label, SceneObject

KINDS = ("name", "colour", "exists", "where", "what_at", "count")


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One question about a picture, answered in two stages.

    Attributes:
        kind: One of `KINDS`.
        question: As a person would ask it.
        extraction: What stage 1 should write.
        reasoning: What stage 2 should think, given the extraction.
        answer: What stage 2 should answer after it.
    """

    kind: str
    question: str
    extraction: str
    reasoning: str
    answer: str


_NAME = (
    "What is this?",
    "What is in the picture?",
    "What object is shown?",
    "What do you see?",
    "What is it?",
    "Which object is in the image?",
    "Name the object.",
    "Can you tell me what this is?",
    "What does the picture show?",
    "What's in this image?",
)
_COLOUR = (
    "What color is the {name}?",
    "What colour is the {name}?",
    "Which color does the {name} have?",
    "What is the color of the {name}?",
    "Tell me the color of the {name}.",
    "The {name} has what color?",
)
_EXISTS = (
    "Is there {a} {name} in the picture?",
    "Is there {a} {name}?",
    "Do you see {a} {name}?",
    "Can you see {a} {name} in the image?",
    "Does the picture show {a} {name}?",
    "Does this image contain {a} {name}?",
    "Is {a} {name} visible?",
)
_IS_IT = ("Is this {a} {name}?", "Is it {a} {name}?")
_WHERE = (
    "Where is the {name}?",
    "Where in the picture is the {name}?",
    "Where can I find the {name}?",
    "In which part of the image is the {name}?",
    "What is the position of the {name}?",
)
_WHAT_AT = (
    "What is at the {place}?",
    "What is at the {place} of the picture?",
    "Which object is at the {place}?",
    "What do you see at the {place}?",
    "What is shown at the {place} of the image?",
)
_COUNT = (
    "How many {plural} are there?",
    "How many {plural} do you see?",
    "How many {plural} are in the picture?",
    "Count the {plural}.",
    "What is the number of {plural}?",
)


def ask(objects: Sequence[SceneObject], kind: str, rng: np.random.Generator) -> Example | None:
    """Makes one question of a kind about a scene.

    Args:
        objects: What the scene holds.
        kind: One of `KINDS`.
        rng: Chooses the object asked about and the phrasing.

    Returns:
        The question, or None where the scene has no answer of that kind.
    """
    return _MAKERS[kind](objects, rng)


def kinds_for(objects: Sequence[SceneObject]) -> list[str]:
    """Lists the kinds of question that a scene can be asked."""
    rng = np.random.default_rng(0)
    return [kind for kind in KINDS if ask(objects, kind, rng) is not None]


def describe(objects: Sequence[SceneObject], first: Sequence[Label], absent: str = "") -> str:
    """Writes the extraction: each label with the places of its objects.

    Args:
        objects: What the scene holds, in reading order.
        first: Labels that the question asks about; they come first.
        absent: What the question asks about and the scene lacks, in words.
    """
    places: dict[Label, list[str]] = {label: [] for label in first}
    for item in objects:
        places.setdefault(item.label, []).append(item.place)
    parts = [f"{label.words} ({', '.join(where)})" for label, where in places.items()]
    shown = "The picture shows " + ", ".join(parts) + "."
    return f"{shown} There is no {absent}." if absent else shown


def _name(objects: Sequence[SceneObject], rng: np.random.Generator) -> Example | None:
    if len(objects) != 1:
        return None
    words = objects[0].label.words
    return Example(
        kind="name",
        question=_pick(_NAME, rng),
        extraction=describe(objects, []),
        reasoning=f"The only object in the description is {words}.",
        answer=words,
    )


def _colour(objects: Sequence[SceneObject], rng: np.random.Generator) -> Example | None:
    label = _pick_label(_unique(objects, lambda o: o.label.name, SHAPES), rng)
    if label is None:
        return None
    assert label.colour is not None
    return Example(
        kind="colour",
        question=_pick(_COLOUR, rng).format(name=label.name),
        extraction=describe(objects, [label]),
        reasoning=f"The description says {label.words}, so the {label.name} is {label.colour}.",
        answer=label.colour,
    )


def _exists(objects: Sequence[SceneObject], rng: np.random.Generator) -> Example:
    present = list(dict.fromkeys(item.label for item in objects))
    templates = _EXISTS + _IS_IT if len(objects) == 1 else _EXISTS
    if rng.random() < 0.5:
        label = present[int(rng.integers(len(present)))]
        extraction = describe(objects, [label])
        reasoning = f"The description names {label.words}."
        answer = "yes"
    else:
        label = _absent_label(present, rng)
        extraction = describe(objects, [], absent=label.words)
        reasoning = f"The description names no {label.words}."
        answer = "no"
    question = _pick(templates, rng).format(a=_article(label.words), name=label.words)
    return Example(
        kind="exists",
        question=question,
        extraction=extraction,
        reasoning=reasoning,
        answer=answer,
    )


def _where(objects: Sequence[SceneObject], rng: np.random.Generator) -> Example | None:
    label = _pick_label(_unique(objects, lambda o: o.label), rng)
    if label is None:
        return None
    place = next(item.place for item in objects if item.label == label)
    return Example(
        kind="where",
        question=_pick(_WHERE, rng).format(name=label.words),
        extraction=describe(objects, [label]),
        reasoning=f"The description places {label.words} at the {place}.",
        answer=place,
    )


def _what_at(objects: Sequence[SceneObject], rng: np.random.Generator) -> Example | None:
    if len(objects) < 2:
        return None
    item = objects[int(rng.integers(len(objects)))]
    words = item.label.words
    return Example(
        kind="what_at",
        question=_pick(_WHAT_AT, rng).format(place=item.place),
        extraction=describe(objects, [item.label]),
        reasoning=f"The description puts {words} at the {item.place}.",
        answer=words,
    )


def _count(objects: Sequence[SceneObject], rng: np.random.Generator) -> Example | None:
    if len(objects) < 2:
        return None
    counts = Counter(item.label for item in objects)
    label = max(counts, key=lambda candidate: counts[candidate])
    places = [item.place for item in objects if item.label == label]
    counted = ", ".join(f"{place} {number}" for number, place in enumerate(places, 1))
    return Example(
        kind="count",
        question=_pick(_COUNT, rng).format(plural=label.plural_words),
        extraction=describe(objects, [label]),
        reasoning=f"Counting {label.plural_words}: {counted}.",
        answer=str(counts[label]),
    )


_MAKERS: dict[str, Callable[[Sequence[SceneObject], np.random.Generator], Example | None]] = {
    "name": _name,
    "colour": _colour,
    "exists": _exists,
    "where": _where,
    "what_at": _what_at,
    "count": _count,
}


def _pick(templates: Sequence[str], rng: np.random.Generator) -> str:
    return templates[int(rng.integers(len(templates)))]


def _pick_label(labels: Sequence[Label], rng: np.random.Generator) -> Label | None:
    return labels[int(rng.integers(len(labels)))] if labels else None


def _unique(
    objects: Sequence[SceneObject],
    key: Callable[[SceneObject], object],
    names: Sequence[str] | None = None,
) -> list[Label]:
    """Lists labels whose key occurs once in the scene, only those of some names if given."""
    counts = Counter(key(item) for item in objects)
    return [
        item.label
        for item in objects
        if counts[key(item)] == 1 and (names is None or item.label.name in names)
    ]


def _absent_label(present: Sequence[Label], rng: np.random.Generator) -> Label:
    """Picks a label that is not there, more often of the kinds (thing, shape) that are."""
    near = [
        label
        for label in ALL_LABELS
        if any((label.colour is None) == (other.colour is None) for other in present)
    ]
    pool = near if rng.random() < 0.7 else ALL_LABELS
    while True:
        label = pool[int(rng.integers(len(pool)))]
        if label not in present:
            return label


def _article(words: str) -> str:
    return "an" if words[0] in "aeiou" else "a"
