"""Questions that relate objects to one another: how many of a sort, more, larger, left of, odd.

The reasoning decides between properties, and then looks up what has the property that was decided
on: "higher of bottom, top is top: top dog". The property stands before the name wherever that is
looked up, because a small model repeats what followed a word before, and seldom contradicts a name
that it has begun with.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from itertools import combinations

from edge_et.tuning.mini.concepts import COLOURS, PLACES
from edge_et.tuning.mini.facts import Label, ObjectFacts, SceneObject
from edge_et.tuning.mini.questions.dice import Draw
from edge_et.tuning.mini.questions.labels import (
    category_of,
    distinct,
    is_countable,
    is_or_are,
    is_plural,
)
from edge_et.tuning.mini.questions.objects import counted_up, describe, named, singles
from edge_et.tuning.training.example import Example

_CLEARLY_LARGER = 1.4
_ABSENT_SHARE = 0.07
_WHICH_SHARE = 0.5
_EXTREME_SHARE = 0.5
_LARGER = (("larger", "largest"), ("bigger", "biggest"))
_SMALLER = (("smaller", "smallest"),)
_SORTS = {
    "animal": "animals",
    "food": "food items",
    "vehicle": "vehicles",
    "building": "buildings",
    "plant": "plants",
    "clothing": "pieces of clothing",
    "instrument": "instruments",
    "shape": "shapes",
}
"""Categories that people agree on, in words for several."""
_ONE_OF_SORT = {
    "food": "food item",
    "vehicle": "vehicle",
    "building": "building",
    "plant": "plant",
    "clothing": "piece of clothing",
    "instrument": "instrument",
    "shape": "shape",
}
"""The same for one; animals are left out, as people in a scene may count as such."""
_COLUMN = {place: column for row in PLACES for column, place in enumerate(row)}
_ROW = {place: row for row, places in enumerate(PLACES) for place in places}
_AXES = {
    "column": (_COLUMN, ("left", "middle", "right")),
    "row": (_ROW, ("top", "middle", "bottom")),
}
_BEFORE = {
    "column": (("left of", "to the left of"), ("further left", "more to the left")),
    "row": (("above",), ("higher", "higher up", "further up")),
}
_AFTER = {
    "column": (("right of", "to the right of"), ("further right", "more to the right")),
    "row": (("below",), ("lower", "lower down", "further down")),
}

Sort = tuple[str, list[SceneObject]]
"""What is counted, in words for several, and the objects."""


def sorts(facts: ObjectFacts) -> list[Sort]:
    """List sorts of objects to count: all, of one category, of one colour, of one shape."""
    objects = facts.objects
    if len(objects) < 2:
        return []
    found: dict[str, list[SceneObject]] = {"objects": list(objects)}
    only_shapes = all(item.label.colour for item in objects)
    for item in objects:
        label, category = item.label, category_of(item.label)
        if category in _SORTS:
            found.setdefault(_SORTS[category], []).append(item)
        if label.colour is not None:
            found.setdefault(label.plural, []).append(item)
            for noun in ("shapes", "objects", "things") if only_shapes else ("shapes",):
                found.setdefault(f"{label.colour} {noun}", []).append(item)
    return list(found.items())


def count_condition(facts: ObjectFacts, sort: Sort, draw: Draw) -> Example:
    """Ask how many objects of a sort there are; seldom of one not there."""
    if draw.chance(_ABSENT_SHARE):
        return _count_absent(facts, draw)
    plural, matching = sort
    counts = Counter(item.label for item in matching)
    counted = counted_up(counts)
    if len(counts) > 1:
        counted += f"; {' + '.join(map(str, counts.values()))} = {len(matching)}"
    return Example(
        kind="count_condition",
        question=draw.words("count", plural=plural),
        extraction=describe(facts.objects, distinct(matching)),
        reasoning=f"Counting {plural}: {counted}.",
        answer=str(len(matching)),
    )


def _count_absent(facts: ObjectFacts, draw: Draw) -> Example:
    present = {item.label.colour for item in facts.objects}
    categories = {category_of(item.label) for item in facts.objects}
    absent = [
        (f"{colour} shape", f"{colour} shapes") for colour in COLOURS if colour not in present
    ]
    if draw.chance():
        absent = [
            (single, _SORTS[category])
            for category, single in _ONE_OF_SORT.items()
            if category not in categories
        ]
    single, plural = draw.one(absent)
    return Example(
        kind="count_condition",
        question=draw.words("count", plural=plural),
        extraction=describe(facts.objects, absent=single),
        reasoning=f"The description names no {single}.",
        answer="0",
    )


Pair = tuple[Label, Label]
"""Two labels; there are more of the first."""


def uneven(facts: ObjectFacts) -> list[Pair]:
    """List pairs of labels, of the first of which there are more."""
    counts = Counter(item.label for item in facts.objects if is_countable(item.label))
    pairs = [(a, b) if counts[a] > counts[b] else (b, a) for a, b in combinations(counts, 2)]
    return [(a, b) for a, b in pairs if counts[a] > counts[b]]


def more(facts: ObjectFacts, pair: Pair, draw: Draw) -> Example:
    """Ask of which of two labels there are more."""
    most, least = pair
    first, second = pair if draw.chance() else (least, most)
    which = draw.chance(_WHICH_SHARE)
    counts = Counter(item.label for item in facts.objects)
    numbers = {label: counts[label] for label in (first, second)}
    one, other = numbers.values()
    if which:
        seen = _turned_round((named(label, n), str(n)) for label, n in numbers.items())
        number = numbers[most]
        decided = f"more of {one}, {other} is {number}: {number} {named(most, number)}"
        answer = most.plural_words
    else:
        seen = counted_up(numbers)
        decided = f"{one} is {'more' if first == most else 'less'} than {other}"
        answer = "yes" if first == most else "no"
    return Example(
        kind="more",
        question=draw.words(
            "more.which" if which else "more.yes_no",
            first=first.plural_words,
            second=second.plural_words,
        ),
        extraction=describe(facts.objects, [first, second]),
        reasoning=f"{seen}; {decided}.",
        answer=answer,
    )


def _turned_round(told: Iterable[tuple[str, str]]) -> str:
    """Say of names and their properties both ways round, as the former are looked up next."""
    return "; ".join(f"{name} {its}: {its} {name}" for name, its in told)


def sized(facts: ObjectFacts) -> list[tuple[SceneObject, SceneObject]]:
    """List pairs of objects, the first of which is clearly larger."""
    pairs = [(a, b) if a.size > b.size else (b, a) for a, b in combinations(singles(facts), 2)]
    return [(a, b) for a, b in pairs if a.size >= _CLEARLY_LARGER * b.size]


def larger(facts: ObjectFacts, pair: tuple[SceneObject, SceneObject], draw: Draw) -> Example:
    """Ask which of two objects is larger or smaller, or is the largest or smallest of all."""
    big, small = pair
    first, second = pair if draw.chance() else (small, big)
    asks_large = draw.chance()
    wanted = big if asks_large else small
    comparative, superlative = draw.one(_LARGER if asks_large else _SMALLER)
    sizes = {item.label: _size(item, pair) for item in (first, second)}
    size = _size(wanted, pair)
    answer = wanted.label.words
    decided = f"{comparative} is {size}: {size} {answer}"
    if draw.chance(_EXTREME_SHARE) and _stands_out(wanted, facts, asks_large):
        sizes = dict.fromkeys(distinct(facts.objects), "small" if asks_large else "large")
        sizes[wanted.label] = size
        question = draw.words("larger.most", most=superlative)
        decided = f"{superlative} is {size}: {size} {answer}"
    elif draw.chance(_WHICH_SHARE):
        question = draw.words(
            "larger.which", more=comparative, first=first.label.words, second=second.label.words
        )
    else:
        question = draw.words(
            "larger.yes_no",
            more=comparative,
            first=first.label.words,
            second=second.label.words,
            **{"is": is_or_are(first.label)},
        )
        decided = f"{comparative} is {size}"
        answer = "yes" if first is wanted else "no"
    seen = _turned_round((label.words, its) for label, its in sizes.items())
    return Example(
        kind="larger",
        question=question,
        extraction=describe(facts.objects, list(sizes), sizes=sizes),
        reasoning=f"{seen}; {decided}.",
        answer=answer,
    )


def _size(item: SceneObject, pair: tuple[SceneObject, SceneObject]) -> str:
    return "large" if item is pair[0] else "small"


def _stands_out(wanted: SceneObject, facts: ObjectFacts, asks_large: bool) -> bool:
    """Say whether an object is clearly the largest, or smallest, of objects with own labels."""
    others = [item for item in facts.objects if item is not wanted]
    pairs = ((wanted, item) if asks_large else (item, wanted) for item in others)
    return len(singles(facts)) == len(facts.objects) and all(
        a.size >= _CLEARLY_LARGER * b.size for a, b in pairs
    )


Apart = tuple[str, SceneObject, SceneObject]
"""An axis, and two objects in the order of that axis."""


def apart(facts: ObjectFacts) -> list[Apart]:
    """List pairs of objects with the axes along which their places differ."""
    found: list[Apart] = []
    for a, b in combinations(singles(facts), 2):
        for axis, (steps, _) in _AXES.items():
            if steps[a.place] != steps[b.place]:
                ordered = (a, b) if steps[a.place] < steps[b.place] else (b, a)
                found.append((axis, *ordered))
    return found


def left_of(facts: ObjectFacts, candidate: Apart, draw: Draw) -> Example:
    """Ask how two objects lie to one another."""
    axis, before, after = candidate
    first, second = (before, after) if draw.chance() else (after, before)
    asks_before = draw.chance()
    wanted = before if asks_before else after
    relations, further = (_BEFORE if asks_before else _AFTER)[axis]
    steps, step_names = _AXES[axis]
    one, other, wanted_step = (step_names[steps[i.place]] for i in (first, second, wanted))
    if draw.chance(_WHICH_SHARE):
        word = draw.one(further)
        question = draw.words(
            "left_of.which", further=word, first=first.label.words, second=second.label.words
        )
        answer = wanted.label.words
        decided = f"{word} of {one}, {other} is {wanted_step}: {wanted_step} {answer}"
    else:
        question = draw.words(
            "left_of.yes_no",
            relation=draw.one(relations),
            first=first.label.words,
            second=second.label.words,
            **{"is": is_or_are(first.label)},
        )
        is_so = (_BEFORE if first is before else _AFTER)[axis][0][0]
        decided = f"{one} is {is_so} {other}"
        answer = "yes" if first is wanted else "no"
    seen = "; ".join(
        f"{item.label.words} {item.place}: {step_names[steps[item.place]]} {item.label.words}"
        for item in (first, second)
    )
    return Example(
        kind="left_of",
        question=question,
        extraction=describe(facts.objects, [first.label, second.label]),
        reasoning=f"{seen}; {decided}.",
        answer=answer,
    )


Odd = tuple[SceneObject, str]
"""The odd one, and what all the others are."""


def odd_ones(facts: ObjectFacts) -> list[Odd]:
    """List the odd one out, where every way to look at the scene finds the same one."""
    objects = facts.objects
    if len(objects) < 3:
        return []
    views: tuple[Callable[[Label], str | None], ...] = (
        lambda label: label.plural_words,
        lambda label: label.plural if label.colour else None,
        lambda label: _SORTS.get(category_of(label) or ""),
        lambda label: label.colour,
    )
    found: list[Odd] = []
    for view in views:
        keys = [view(item.label) for item in objects]
        counts = Counter(keys)
        if len(counts) != 2:
            continue
        (shared, _), (odd, number) = counts.most_common()
        if number == 1 and shared is not None:
            found.append((objects[keys.index(odd)], shared))
    return found[:1] if len({id(item) for item, _ in found}) == 1 else []


def odd_one_out(facts: ObjectFacts, candidate: Odd, draw: Draw) -> Example:
    """Ask which object is unlike all the others."""
    odd, shared = candidate
    words = odd.label.words
    be = "are" if is_plural(odd.label) else "is"
    return Example(
        kind="odd_one_out",
        question=draw.words("odd_one_out"),
        extraction=describe(facts.objects),
        reasoning=f"The others are {shared}, {words} {be} not.",
        answer=words,
    )
