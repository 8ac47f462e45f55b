"""Questions about things and shapes.

The extraction follows the paper (section 4): it tells the details that this question needs, the
asked-about objects first, and says so where something asked about is not there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from edge_et.tuning.mini.concepts import SHAPES
from edge_et.tuning.mini.facts import Label, ObjectFacts, SceneObject
from edge_et.tuning.mini.questions.dice import Draw
from edge_et.tuning.mini.questions.labels import (
    absent_label,
    distinct,
    is_countable,
    is_or_are,
    with_article,
)
from edge_et.tuning.training.example import Example

_ABSENT_COUNT_SHARE = 0.07
_MOST_FREQUENT_SHARE = 0.75


def describe(
    objects: Sequence[SceneObject],
    first: Sequence[Label] = (),
    absent: str = "",
    sizes: Mapping[Label, str] | None = None,
) -> str:
    """Write the extraction: a single object with its place, several of a label with their number.

    Args:
        objects: what the scene holds, in reading order.
        first: labels that the question asks about; they come first.
        absent: what the question asks about and the scene lacks, in words.
        sizes: "large" or "small", of single objects whose size is asked about.

    Place, size and number come after the name, as they are looked up by it.
    """
    places: dict[Label, list[str]] = {label: [] for label in first}
    for item in objects:
        places.setdefault(item.label, []).append(item.place)
    sized = {label: f"{size}, " for label, size in (sizes or {}).items()}
    told = {
        label: f"{sized.get(label, '')}{where[0]}" if len(where) == 1 else str(len(where))
        for label, where in places.items()
    }
    parts = [f"{named(label, len(places[label]))} ({its})" for label, its in told.items()]
    shown = "The picture shows " + ", ".join(parts) + "."
    return f"{shown} There is no {absent}." if absent else shown


def named(label: Label, number: int) -> str:
    """Return "dog" for one, "dogs" for several."""
    return label.words if number == 1 else label.plural_words


def counted_up(counts: Mapping[Label, int]) -> str:
    """Return what is said in reasoning about numbers, such as "dogs 2, cat 1"."""
    return ", ".join(f"{named(label, number)} {number}" for label, number in counts.items())


def names(facts: ObjectFacts) -> list[Label]:
    """List the label of a single object."""
    return [facts.objects[0].label] if len(facts.objects) == 1 else []


def name(facts: ObjectFacts, label: Label, draw: Draw) -> Example:
    """Ask what the only object is."""
    return Example(
        kind="name",
        question=draw.words("name"),
        extraction=describe(facts.objects),
        reasoning=f"The only object in the description is {label.words}.",
        answer=label.words,
    )


def colours(facts: ObjectFacts) -> list[Label]:
    """List the shapes that are the only ones of their name."""
    counts = Counter(item.label.name for item in facts.objects)
    return [
        item.label
        for item in facts.objects
        if counts[item.label.name] == 1 and item.label.colour and item.label.name in SHAPES
    ]


def colour(facts: ObjectFacts, label: Label, draw: Draw) -> Example:
    """Ask for the colour of a shape."""
    assert label.colour is not None
    return Example(
        kind="colour",
        question=draw.words("colour", name=label.name),
        extraction=describe(facts.objects, [label]),
        reasoning=f"The description says {label.words}, so the {label.name} is {label.colour}.",
        answer=label.colour,
    )


def presents(facts: ObjectFacts) -> list[Label]:
    """List the labels that are there."""
    return distinct(facts.objects)


def exists(facts: ObjectFacts, label: Label, draw: Draw) -> Example:
    """Ask whether something is there; half the time it is not."""
    if draw.chance():
        extraction = describe(facts.objects, [label])
        reasoning = f"The description names {label.words}."
        answer = "yes"
    else:
        label = absent_label(distinct(facts.objects), draw)
        extraction = describe(facts.objects, absent=label.words)
        reasoning = f"The description names no {label.words}."
        answer = "no"
    is_it = len(facts.objects) == 1 and is_countable(label) and draw.chance(0.3)
    return Example(
        kind="exists",
        question=draw.words(
            "exists.single" if is_it else "exists",
            a_name=with_article(label),
            **{"is": is_or_are(label)},
        ),
        extraction=extraction,
        reasoning=reasoning,
        answer=answer,
    )


def singles(facts: ObjectFacts) -> list[SceneObject]:
    """List the objects that are the only ones of their label."""
    counts = Counter(item.label for item in facts.objects)
    return [item for item in facts.objects if counts[item.label] == 1]


def where(facts: ObjectFacts, item: SceneObject, draw: Draw) -> Example:
    """Ask for the place of an object."""
    words = item.label.words
    return Example(
        kind="where",
        question=draw.words("where", name=words, **{"is": is_or_are(item.label)}),
        extraction=describe(facts.objects, [item.label]),
        reasoning=f"The description places {words} at the {item.place}.",
        answer=item.place,
    )


def placed(facts: ObjectFacts) -> list[SceneObject]:
    """List the single objects that share their place with no other, if there are several."""
    counts = Counter(item.place for item in facts.objects)
    return [item for item in singles(facts) if counts[item.place] == 1 < len(facts.objects)]


def what_at(facts: ObjectFacts, item: SceneObject, draw: Draw) -> Example:
    """Ask what is at a place.

    The extraction says the place before the name, as the place is what the name is looked up by.
    """
    words = item.label.words
    return Example(
        kind="what_at",
        question=draw.words("what_at", place=item.place),
        extraction=f"The {item.place} of the picture shows {words}.",
        reasoning=f"The description puts {words} at the {item.place}.",
        answer=words,
    )


def counted(facts: ObjectFacts) -> list[Label]:
    """List the labels to count, the most frequent first.

    That is where there is more than one of any, or one thing alone.
    """
    counts = Counter(item.label for item in facts.objects)
    if max(counts.values(), default=0) < 2 and len(facts.objects) != 1:
        return []
    return [label for label, _ in counts.most_common() if is_countable(label)]


def count(facts: ObjectFacts, label: Label, draw: Draw) -> Example:
    """Ask how many there are; mostly of the most frequent label, seldom of one not there."""
    if draw.chance(_MOST_FREQUENT_SHARE):
        label = counted(facts)[0]
    if draw.chance(_ABSENT_COUNT_SHARE):
        missing = absent_label(distinct(facts.objects), draw)
        if is_countable(missing):
            return Example(
                kind="count",
                question=draw.words("count", plural=missing.plural_words),
                extraction=describe(facts.objects, absent=missing.words),
                reasoning=f"The description names no {missing.words}.",
                answer="0",
            )
    number = sum(item.label == label for item in facts.objects)
    return Example(
        kind="count",
        question=draw.words("count", plural=label.plural_words),
        extraction=describe(facts.objects, [label]),
        reasoning=f"Counting {label.plural_words}: {counted_up({label: number})}.",
        answer=str(number),
    )
