"""Questions about pictures: what is asked, extracted and answered agrees with the facts."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator

import numpy as np
import pytest

from edge_et.tuning.mini.concepts import COLOURS, PLACES, THINGS
from edge_et.tuning.mini.facts import (
    Carrier,
    ChartEntry,
    ChartFacts,
    Facts,
    Label,
    ObjectFacts,
    PrintFacts,
    SceneObject,
)
from edge_et.tuning.mini.questions.ask import ask, caption, kinds_for
from edge_et.tuning.mini.questions.kinds import KINDS, TWO_STEP_KINDS
from edge_et.tuning.mini.questions.phrasing import GROUPS, count_templates, phrase, templates
from edge_et.tuning.mini.scenes.objects import ALL_LABELS, SHAPE_LABELS, THING_LABELS
from edge_et.tuning.training.example import Example

DOG, CAT = Label("dog", None, "dogs"), Label("cat", None, "cats")
APPLE = Label("apple", None, "apples")
RED_CIRCLE, BLUE_CIRCLE = Label("circle", "red", "circles"), Label("circle", "blue", "circles")
RED_STAR = Label("star", "red", "stars")
ITEMS = ("milk", "bread", "tea", "rice", "soup")
JOINING = """
the description names no only object in is are says so places puts at counting not others all more
less than larger bigger smaller largest biggest smallest large small row column left middle right
top bottom above below of further higher lower up down to which shows chart table
"""
CATEGORY = {thing.name: thing.category for thing in THINGS}


def objects(*items: tuple[Label, float, float] | tuple[Label, float, float, float]) -> ObjectFacts:
    made = [SceneObject(i[0], i[1], i[2], i[3] if len(i) > 3 else 0.3) for i in items]
    return ObjectFacts(tuple(sorted(made, key=lambda o: (int(o.y * 3), int(o.x * 3)))))


def random_objects(rng: np.random.Generator) -> ObjectFacts:
    pool = (THING_LABELS, SHAPE_LABELS, ALL_LABELS)[rng.integers(3)]
    labels = [pool[rng.integers(len(pool))] for _ in range(rng.integers(1, 5))]
    number = int(rng.choice([1, 2, 3, 4, 6, 9]))
    kinds = labels if rng.random() < 0.5 else [labels[0], labels[0], labels[0], labels[-1]]
    drawn = [kinds[rng.integers(len(kinds))] for _ in range(number)]
    if rng.random() < 0.3:
        drawn = list(dict.fromkeys(drawn))
    return objects(
        *((label, rng.random(), rng.random(), rng.choice([0.2, 0.25, 0.4])) for label in drawn)
    )


def random_print(rng: np.random.Generator) -> PrintFacts:
    carriers: list[Carrier] = ["sign", "label", "clock", "meter", "receipt", "sum"]
    carrier = carriers[rng.integers(len(carriers))]
    if carrier == "clock":
        return PrintFacts(carrier, (f"{rng.integers(1, 24)}:{rng.integers(60):02d}",))
    if carrier == "sum":
        b, a = sorted(int(n) for n in rng.integers(1, 21, size=2))
        return PrintFacts(carrier, (f"{a} {'+-'[rng.integers(2)]} {b}",))
    if carrier == "receipt":
        chosen = rng.choice(ITEMS, size=rng.integers(2, 4), replace=False)
        return PrintFacts(carrier, tuple(f"{item} {rng.integers(1, 16)}" for item in chosen))
    if carrier == "meter" or rng.random() < 0.3:
        return PrintFacts(carrier, (str(rng.integers(10000)),))
    if carrier == "label" and rng.random() < 0.3:
        return PrintFacts(carrier, ("soup", str(rng.integers(1000))))
    return PrintFacts(carrier, (str(rng.choice(ITEMS)),))


def random_chart(rng: np.random.Generator) -> ChartFacts:
    count = int(rng.integers(2, 6))
    colours = [str(name) for name in rng.permutation(list(COLOURS))[:count]]
    values = [int(value) for value in rng.integers(1, 12, size=count)]
    if rng.random() < 0.25:
        return ChartFacts("pie", tuple(map(ChartEntry, colours, colours, values)))
    if rng.random() < 0.3:
        return ChartFacts("table", tuple(map(ChartEntry, ITEMS, [None] * count, values)))
    if rng.random() < 0.3:
        return ChartFacts("line", tuple(map(ChartEntry, "abcde", [None] * count, values)))
    return ChartFacts("bar", tuple(map(ChartEntry, "abcde", colours, values)))


MAKERS = (random_objects, random_print, random_chart)


def random_facts(count: int) -> Iterator[tuple[Facts, np.random.Generator]]:
    for seed in range(count):
        rng = np.random.default_rng(seed)
        yield MAKERS[seed % len(MAKERS)](rng), rng


def examples(kind: str, scenes: int = 1500) -> Iterator[tuple[Facts, Example]]:
    for facts, rng in random_facts(scenes):
        example = ask(facts, kind, rng)
        if example is not None:
            yield facts, example


def object_examples(kind: str, scenes: int = 1500) -> Iterator[tuple[ObjectFacts, Example]]:
    for facts, example in examples(kind, scenes):
        assert isinstance(facts, ObjectFacts)
        yield facts, example


def chart_examples(kind: str) -> Iterator[tuple[dict[str, int], Example]]:
    for facts, example in examples(kind):
        assert isinstance(facts, ChartFacts)
        yield {entry.label: entry.value for entry in facts.entries}, example


def print_examples(kind: str) -> Iterator[tuple[PrintFacts, Example]]:
    for facts, example in examples(kind):
        assert isinstance(facts, PrintFacts)
        yield facts, example


def mentioned(question: str, labels: list[Label], *, plural: bool = False) -> list[Label]:
    """Lists the labels that a question names, in its order; longer names win over shorter ones."""
    found, rest = [], question.lower()
    for label in sorted(labels, key=lambda label: -len(label.words)):
        words = (label.plural_words if plural else label.words).lower()
        match = re.search(rf"(?<!\w){re.escape(words)}(?!\w)", rest)
        if match:
            found.append((match.start(), label))
            rest = rest.replace(words, "#" * len(words))
    return [label for _, label in sorted(found, key=lambda pair: pair[0])]


def distinct(facts: ObjectFacts) -> list[Label]:
    return list(dict.fromkeys(item.label for item in facts.objects))


def the_one(facts: ObjectFacts, label: Label) -> SceneObject:
    (item,) = [item for item in facts.objects if item.label == label]
    return item


def test_every_kind_is_asked_and_is_what_was_ordered():
    for kind in KINDS:
        asked = [example for _, example in examples(kind, 900)]
        assert len(asked) >= 10, kind
        assert {example.kind for example in asked} == {kind}
    assert set(TWO_STEP_KINDS) < set(KINDS)


def test_kinds_for_lists_what_can_be_asked():
    for facts, rng in random_facts(600):
        assert kinds_for(facts) == [kind for kind in KINDS if ask(facts, kind, rng) is not None]
    with pytest.raises(ValueError, match="no kind"):
        ask(objects((DOG, 0.5, 0.5)), "weight", np.random.default_rng(0))


def test_the_same_seed_asks_the_same():
    for facts, _ in random_facts(60):
        for kind in kinds_for(facts):
            once, again = (ask(facts, kind, np.random.default_rng(5)) for _ in range(2))
            assert once == again


def test_texts_are_whole():
    for facts, rng in random_facts(600):
        for kind in kinds_for(facts):
            example = ask(facts, kind, rng)
            assert example is not None
            for text in (example.question, example.extraction, example.reasoning, example.answer):
                assert text.strip() == text
                assert text
                assert not re.search(r"[{}<>\[\]|^]|  |None", text), text
            assert example.extraction.startswith("The ")
            assert example.extraction.endswith(".")
            assert example.reasoning.endswith(".")
            assert len(example.question) < 130


def test_reasoning_uses_what_the_extraction_and_the_question_say():
    joining = set(JOINING.split())
    for facts, rng in random_facts(600):
        for kind in kinds_for(facts):
            example = ask(facts, kind, rng)
            assert example is not None
            given = set(re.findall(r"[a-zA-Z]+", f"{example.extraction} {example.question}"))
            if kind == "odd_one_out":  # its plurals and sorts are the reasoning's own
                continue
            thought = set(re.findall(r"[a-zA-Z]+", example.reasoning))
            assert {word.lower() for word in thought} <= {w.lower() for w in given} | joining


def test_extractions_tell_all_that_captions_tell_but_of_one_place():
    for facts, rng in random_facts(300):
        told = set(re.findall(r"[\w:]+", caption(facts)))
        for kind in kinds_for(facts):
            if kind == "what_at":
                continue
            example = ask(facts, kind, rng)
            assert example is not None
            assert told <= set(re.findall(r"[\w:]+", example.extraction))


def test_captions_read_as_taught():
    assert caption(objects((DOG, 0.1, 0.1), (DOG, 0.9, 0.5), (RED_CIRCLE, 0.5, 0.5))) == (
        "The picture shows dogs (2), red circle (center)."
    )
    assert caption(PrintFacts("sign", ("open",))) == "The sign reads open."
    assert caption(PrintFacts("label", ("milk", "12"))) == "The label reads milk, 12."
    assert caption(PrintFacts("meter", ("472",))) == "The meter reads 472."
    assert caption(PrintFacts("clock", ("12:45",))) == "The clock reads 12:45."
    assert caption(PrintFacts("sum", ("12 + 5",))) == "The sum reads 12 + 5."
    assert caption(PrintFacts("receipt", ("milk 3", "bread 4"))) == (
        "The receipt reads milk 3, bread 4."
    )
    bars = (ChartEntry("a", "red", 3), ChartEntry("b", "blue", 8))
    assert caption(ChartFacts("bar", bars)) == "The bar chart shows red a 3, blue b 8."
    slices = (ChartEntry("red", "red", 25), ChartEntry("blue", "blue", 75))
    assert caption(ChartFacts("pie", slices)) == "The pie chart shows red 25, blue 75."
    rows = (ChartEntry("milk", None, 3), ChartEntry("tea", None, 5))
    assert caption(ChartFacts("table", rows)) == "The table shows milk 3, tea 5."


def test_what_is_asked_about_comes_first():
    facts = objects((CAT, 0.1, 0.1), (DOG, 0.5, 0.5), (DOG, 0.9, 0.9))
    for seed in range(20):
        where = ask(facts, "where", np.random.default_rng(seed))
        assert where is not None
        assert where.extraction == "The picture shows cat (top left), dogs (2)."
    facts = objects((CAT, 0.1, 0.1), (DOG, 0.5, 0.5))
    firsts = set()
    for seed in range(40):
        where = ask(facts, "where", np.random.default_rng(seed))
        assert where is not None
        asked = mentioned(where.question, [DOG, CAT])[0]
        assert where.extraction.startswith(f"The picture shows {asked.words} (")
        firsts.add(asked)
    assert firsts == {DOG, CAT}


def test_names_colours_and_places_are_true():
    for facts, example in object_examples("name"):
        assert [item.label.words for item in facts.objects] == [example.answer]
    for facts, example in object_examples("colour"):
        named = [item.label for item in facts.objects if f"{item.label.name}" in example.question]
        assert example.answer in {label.colour for label in named}
    for facts, example in object_examples("where"):
        (label,) = mentioned(example.question, distinct(facts))
        assert the_one(facts, label).place == example.answer
    for facts, example in object_examples("what_at"):
        named_places = [place for row in PLACES for place in row if place in example.question]
        place = max(named_places, key=len)
        assert [o.label.words for o in facts.objects if o.place == place] == [example.answer]
        assert example.extraction == f"The {place} of the picture shows {example.answer}."


def test_counts_are_true_and_stand_in_the_description():
    zeros = 0
    for facts, example in object_examples("count"):
        labels = mentioned(example.question, list(ALL_LABELS), plural=True)
        assert example.answer in {
            str(sum(item.label == label for item in facts.objects)) for label in labels
        }
        zeros += example.answer == "0"
        assert ("There is no" in example.extraction) == (example.answer == "0")
        if example.answer != "0":
            assert example.reasoning.endswith(f" {example.answer}.")
        if example.answer not in ("0", "1"):
            assert re.match(
                rf"The picture shows [A-Za-z ]+ \({example.answer}\)", example.extraction
            )
    assert zeros > 0


def test_one_thing_alone_is_counted_and_one_of_each_kind_is_not():
    cat, dog = (
        SceneObject(Label(name, None, f"{name}s"), x, 0.5, 0.3)
        for name, x in (("cat", 0.2), ("dog", 0.8))
    )
    answers = [ask(ObjectFacts((cat,)), "count", np.random.default_rng(seed)) for seed in range(60)]
    asked = [(example.question, example.answer) for example in answers if example is not None]
    assert len(asked) == 60
    assert {answer for question, answer in asked if "cats" in question} == {"1"}
    assert "count" not in kinds_for(ObjectFacts((cat, dog)))


def test_conditional_counts_are_true():
    sorts = {"food items": "food", "pieces of clothing": "clothing"} | {
        f"{name}s": name for name in ("animal", "vehicle", "building", "plant", "instrument")
    }
    seen = Counter()
    for facts, example in object_examples("count_condition"):
        question = example.question.lower()
        for noun, category in sorts.items():
            if noun in question:
                matching = [o for o in facts.objects if CATEGORY.get(o.label.name) == category]
                seen["category"] += 1
                break
        else:
            colour = next((c for c in COLOURS if f"{c} " in question), None)
            name = next((label.plural for label in SHAPE_LABELS if label.plural in question), None)
            matching = [
                item
                for item in facts.objects
                if (colour is None or item.label.colour == colour)
                and (name is None or item.label.plural == name)
                and ("shapes" not in question or item.label.colour)
            ]
            seen["colour" if colour else "shape" if name else "any"] += 1
        assert example.answer == str(len(matching)), example
        for label, number in Counter(item.label for item in matching).items():
            told = f"{label.words if number == 1 else label.plural_words} {number}"
            assert told in example.reasoning
    assert set(seen) == {"category", "colour", "shape", "any"}


def test_more_and_fewer_are_true():
    answers = Counter()
    for facts, example in object_examples("more", 2500):
        counts = Counter(item.label for item in facts.objects)
        first, second = mentioned(example.question, distinct(facts), plural=True)
        assert counts[first] != counts[second]
        if example.answer in ("yes", "no"):
            if "fewer" in example.question:
                first, second = second, first
            assert (counts[first] > counts[second]) == (example.answer == "yes")
            answers[example.answer] += 1
            compared = "more" if counts[first] > counts[second] else "less"
            assert example.reasoning.endswith(
                f"; {counts[first]} is {compared} than {counts[second]}."
            )
        else:
            most = first if counts[first] > counts[second] else second
            assert example.answer == most.plural_words
            both = f"{counts[first]}, {counts[second]}"
            named = most.words if counts[most] == 1 else most.plural_words
            decided = f"more of {both} is {counts[most]}: {counts[most]} {named}."
            assert example.reasoning.endswith(decided)
            answers["which"] += 1
        for label in (first, second):
            assert f"{counts[label]}" in example.reasoning
    assert set(answers) == {"yes", "no", "which"}


def test_larger_and_smaller_are_true_and_only_asked_where_plain():
    for facts, example in object_examples("larger", 2500):
        wants_large = re.search("larg|big", example.question) is not None
        labels = mentioned(example.question, distinct(facts))
        extreme = re.search("largest|biggest|smallest", example.question)
        items = [the_one(facts, label) for label in labels] if not extreme else [*facts.objects]
        by_size = sorted(items, key=lambda item: item.size, reverse=wants_large)
        ratio = by_size[0].size / by_size[1].size
        assert max(ratio, 1 / ratio) >= 1.4
        if example.answer in ("yes", "no"):
            assert (items[0] is by_size[0]) == (example.answer == "yes")
        else:
            assert example.answer == by_size[0].label.words
        seen = {
            item.label.words: "large" if (item is by_size[0]) == wants_large else "small"
            for item in items
        }
        for item in items:
            words = item.label.words
            assert f"{words} ({seen[words]}, {item.place})" in example.extraction
        asked = extreme or re.search("larger|bigger|smaller", example.question)
        assert asked is not None
        size = "large" if wants_large else "small"
        decided = f"{asked[0]} is {size}"
        if example.answer not in ("yes", "no"):
            decided += f": {size} {example.answer}"
        *parts, end = example.reasoning.split("; ")
        assert sorted(parts) == sorted(f"{word} {its}: {its} {word}" for word, its in seen.items())
        assert end == f"{decided}."


def test_left_right_above_and_below_are_true():
    columns = {place: column for row in PLACES for column, place in enumerate(row)}
    rows = {place: row for row, places in enumerate(PLACES) for place in places}
    ways = Counter()
    for facts, example in object_examples("left_of", 2500):
        one, other = (the_one(facts, o) for o in mentioned(example.question, distinct(facts)))
        question = re.sub(f"{one.label.words}|{other.label.words}", "", example.question)
        way = re.search(
            r"(left|right) of|above|below|to the (left|right)|further (left|right|up|"
            r"down)|higher|lower",
            question,
        )
        assert way is not None, question
        steps = columns if re.search("left|right", way[0]) else rows
        sign = -1 if re.search("left|above|up|higher", way[0]) else 1
        step_names = (
            ("left", "middle", "right") if steps is columns else ("top", "middle", "bottom")
        )
        names = [step_names[steps[item.place]] for item in (one, other)]
        relations = ("left of", "right of") if steps is columns else ("above", "below")
        is_so = relations[steps[one.place] > steps[other.place]]
        distance = sign * (steps[one.place] - steps[other.place])
        assert distance != 0
        if example.answer in ("yes", "no"):
            assert (distance > 0) == (example.answer == "yes")
            assert example.reasoning.endswith(f"{names[0]} is {is_so} {names[1]}.")
        else:
            nearer = 0 if distance > 0 else 1
            assert example.answer == (one, other)[nearer].label.words
            decided = f"{names[0]}, {names[1]} is {names[nearer]}: {names[nearer]} "
            assert example.reasoning.endswith(f" of {decided}{example.answer}.")
        ways[example.answer in ("yes", "no")] += 1
    assert set(ways) == {True, False}


@pytest.mark.parametrize(
    ("labels", "odd"),
    [
        ([DOG, DOG, CAT], "cat"),
        ([DOG, CAT, APPLE], "apple"),
        ([RED_CIRCLE, BLUE_CIRCLE, DOG], "dog"),
        ([RED_CIRCLE, RED_CIRCLE, RED_STAR], "red star"),
        ([RED_CIRCLE, BLUE_CIRCLE, RED_STAR], None),  # by colour the one, by shape the other
        ([DOG, DOG, CAT, CAT], None),
        ([DOG, CAT], None),
        ([DOG, DOG, DOG], None),
    ],
)
def test_the_odd_one_out(labels: list[Label], odd: str | None):
    facts = objects(*((label, 0.1 + 0.2 * k, 0.5) for k, label in enumerate(labels)))
    example = ask(facts, "odd_one_out", np.random.default_rng(0))
    assert (example.answer if example else None) == odd


def test_readings_are_true():
    for facts, example in print_examples("read_word"):
        asks_for_word = re.search(r"\bword|text on|text do|text can|text is", example.question)
        said = [line for line in facts.lines if line.isalpha() or not asks_for_word]
        assert example.answer == " ".join(said)
        assert all(line in example.extraction for line in facts.lines)
    for facts, example in print_examples("read_number"):
        assert example.answer in example.extraction
        if facts.carrier == "receipt":
            item = next(item for item in ITEMS if re.search(rf"\b{item}\b", example.question))
            assert f"{item} {example.answer}" in facts.lines
        else:
            assert example.answer in facts.lines


def test_results_are_true():
    for facts, example in print_examples("arithmetic"):
        prices = {line.rsplit(" ", 1)[0]: line.rsplit(" ", 1)[1] for line in facts.lines}
        if facts.carrier == "sum":
            first, sign, second = facts.lines[0].split()
            result = int(first) + int(second) if sign == "+" else int(first) - int(second)
        else:
            about = [
                int(price)
                for item, price in prices.items()
                if re.search(rf"\b{item}\b", example.question)
            ]
            values = [int(price) for price in prices.values()]
            result = max(about) - min(about) if about else sum(values)
        assert example.answer == str(result)
        assert 0 <= result <= 40
        assert f"= {result}." in example.reasoning


def test_charts_are_read_right():
    for kind, extreme in (("largest", max), ("smallest", min)):
        for values, example in chart_examples(kind):
            wanted = extreme(values, key=lambda label: values[label])
            assert example.answer == wanted or f"{example.answer} {wanted} " in example.extraction
            last = f"{extreme(values.values())} {example.answer} is the {kind}."
            assert example.reasoning.endswith(last)
            assert_goes_through(list(values.values()), example.reasoning, extreme)
    for kind in ("chart_value", "table_lookup"):
        for _, example in chart_examples(kind):
            about = re.search(r"says (?:\w+ )?(\w+) (\d+)\.", example.reasoning)
            assert about is not None
            assert example.answer == about[2]
            assert f"{about[1]} {about[2]}" in example.extraction


def assert_goes_through(values: list[int], reasoning: str, extreme) -> None:
    """Checks that each step names the best so far and the next entry, and the better of them."""
    *steps, last = reasoning.split("; ")
    assert len(steps) == len(values) - 1
    best = None
    for number, step in enumerate(steps, 1):
        match = re.fullmatch(r"(?:larger|smaller) of (\d+ \w+), (\d+ \w+) is (\d+ \w+)", step)
        assert match is not None
        first, second, better = match.groups()
        assert best in (None, first)
        assert better in (first, second)
        told = [int(entry.split()[0]) for entry in (first, second, better)]
        assert told == [extreme(values[:number]), values[number], extreme(values[: number + 1])]
        best = better
    assert best is None or last.startswith(f"{best} is the ")


def test_charts_are_compared_and_added_right():
    for values, example in chart_examples("chart_compare"):
        (first, a), (second, b) = re.findall(r"(\w+) (\d+)[,;]", example.reasoning)[:2]
        assert (values[first], values[second]) == (int(a), int(b))
        words = re.findall(r"\w+", example.question)
        assert words.index(first) < len(words) - 1 - words[::-1].index(second)
        asks_large = re.search("larger|higher|greater", example.question) is not None
        assert ((int(a) > int(b)) == asks_large) == (example.answer == "yes")
    for values, example in chart_examples("chart_sum"):
        pairs = re.findall(r"(\w+) (\d+)[,;]", example.reasoning)
        assert sum(values[label] for label, _ in pairs) == int(example.answer)
        assert f"{pairs[0][1]} + {pairs[1][1]} = {example.answer}." in example.reasoning


@pytest.mark.parametrize("kind", ["exists", "more", "larger", "left_of", "chart_compare"])
def test_yes_and_no_are_balanced(kind: str):
    answers = Counter(example.answer for _, example in examples(kind, 4000))
    share = answers["yes"] / (answers["yes"] + answers["no"])
    assert 0.42 < share < 0.58


def test_exists_is_true():
    for facts, example in object_examples("exists"):
        if example.answer == "yes":
            assert mentioned(example.question, distinct(facts))
            assert "There is no" not in example.extraction
        else:
            (absent,) = re.findall(r"There is no ([^.]+)\.", example.extraction)
            assert absent in example.question
            assert absent not in {label.words for label in distinct(facts)}


def test_what_is_not_there_is_said_not_to_be_there():
    families = defaultdict(set)
    for facts, example in examples("unknown"):
        absent = re.fullmatch(r"There is no ([^.]+)\.", example.answer)
        assert absent is not None
        assert example.extraction == f"{caption(facts)} {example.answer}"
        if absent[1] != "orange":  # the fruit is not the colour
            assert not re.search(rf"(?<!\w){re.escape(absent[1])}(?!\w)", caption(facts)), example
        assert absent[1] in example.reasoning
        families[type(facts)].add(absent[1])
    for absents in families.values():
        assert absents & {"clock", "receipt", "sum"}
        assert absents & {"bar chart", "pie chart", "table"}


def test_no_wording_gives_away_that_the_answer_is_a_refusal():
    assert {group.partition(".")[0] for group in GROUPS} <= set(KINDS) - {"unknown"}


def test_a_bird_is_not_denied_where_there_is_a_duck():
    facts = objects((Label("duck", None, "ducks"), 0.5, 0.5))
    for seed in range(2000):
        for kind in ("exists", "unknown"):
            example = ask(facts, kind, np.random.default_rng(seed))
            assert example is not None
            assert not example.extraction.endswith("There is no bird.")


def test_there_are_thousands_of_wordings():
    assert sum(count_templates(kind) for kind in KINDS) >= 2000
    for kind in KINDS:
        if kind not in ("unknown", "count_condition"):  # these borrow the words of other kinds
            assert count_templates(kind) >= 200


def test_held_out_wordings_are_never_trained():
    for group in GROUPS:
        names = {name for t in templates(group) for name in re.findall(r"{(\w+)}", t)}
        slots = dict.fromkeys(names, "it")
        trained, held_out = (
            {
                phrase(group, np.random.default_rng(seed), held_out=kept, **slots)
                for seed in range(200)
            }
            for kept in (False, True)
        )
        assert held_out
        assert not trained & held_out
    facts = objects((DOG, 0.5, 0.5))
    asked = [
        {
            example.question
            for seed in range(300)
            if (example := ask(facts, "name", np.random.default_rng(seed), held_out=kept))
        }
        for kept in (False, True)
    ]
    assert not asked[0] & asked[1]
