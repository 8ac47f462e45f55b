"""Asks a bundle about two or three pictures at once: `python scripts/ask_several_pictures.py`.

Each is drawn, one to four shapes of one kind and colour. A question about the second picture is
asked again with another first one, and about the second picture alone. Prints a Markdown table;
docs/embedding.md has that of the mini.
"""

import argparse
import random
from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image, ImageDraw

import edge_et

COLOURS = {"red": (220, 30, 30), "blue": (30, 60, 220), "green": (30, 160, 60)}
SHAPES = ("circle", "square", "triangle")
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SEED = 5


@dataclass(frozen=True)
class Drawn:
    """A picture and what is in it."""

    shape: str
    colour: str
    count: int
    picture: Image.Image


@dataclass(frozen=True)
class Question:
    """A question, its answer, and the same about one picture alone; None: it needs several."""

    text: str
    answer: str
    alone: str | None = None


def draw(rng: random.Random, avoid: Drawn | None = None) -> Drawn:
    """Draw one to four shapes; none that another picture shows."""
    shape = rng.choice([shape for shape in SHAPES if avoid is None or shape != avoid.shape])
    colour, count = rng.choice(list(COLOURS)), rng.randint(1, 4)
    picture = Image.new("RGB", (224, 224), (245, 245, 240))
    pen = ImageDraw.Draw(picture)
    for x, y in rng.sample([(x, y) for x in (56, 168) for y in (56, 168)], count):
        r = rng.randint(28, 40)
        box = (x - r, y - r, x + r, y + r)
        if shape == "circle":
            pen.ellipse(box, fill=COLOURS[colour])
        elif shape == "square":
            pen.rectangle(box, fill=COLOURS[colour])
        else:
            pen.polygon([(x, y - r), (x - r, y + r), (x + r, y + r)], fill=COLOURS[colour])
    return Drawn(shape, colour, count, picture)


def _is_there(drawn: list[Drawn], rng: random.Random) -> Question:
    shape = rng.choice((drawn[1].shape, drawn[0].shape))
    answer = "yes" if shape == drawn[1].shape else "no"
    return Question(f"Is there a {shape} in picture 2?", answer, f"Is there a {shape}?")


def _colour_in(drawn: list[Drawn], rng: random.Random) -> Question:
    shape, colour = drawn[1].shape, drawn[1].colour
    alone = f"What color is the {shape}?"
    return Question(f"What color is the {shape} in picture 2?", colour, alone)


def _count_in(drawn: list[Drawn], rng: random.Random) -> Question:
    shape, count = drawn[1].shape, str(drawn[1].count)
    return Question(f"How many {shape}s are in picture 2?", count, f"How many {shape}s are there?")


def _which(drawn: list[Drawn], rng: random.Random) -> Question:
    number = rng.randrange(2)
    return Question(f"Which picture shows a {drawn[number].shape}?", str(number + 1))


def _in_any(drawn: list[Drawn], rng: random.Random) -> Question:
    shape = rng.choice(SHAPES)
    answer = "yes" if any(one.shape == shape for one in drawn) else "no"
    return Question(f"Is there a {shape} in any picture?", answer)


def _count_all(drawn: list[Drawn], rng: random.Random) -> Question:
    shape = drawn[0].shape
    count = sum(one.count for one in drawn if one.shape == shape)
    return Question(f"How many {shape}s are there in all pictures together?", str(count))


def _same_colour(drawn: list[Drawn], rng: random.Random) -> Question:
    answer = "yes" if drawn[0].colour == drawn[1].colour else "no"
    return Question("Do picture 1 and picture 2 show the same color?", answer)


KINDS: dict[str, Callable[[list[Drawn], random.Random], Question]] = {
    "is there X in picture 2": _is_there,
    "colour in picture 2": _colour_in,
    "count in picture 2": _count_in,
    "which picture shows X": _which,
    "is there X in any": _in_any,
    "count over all": _count_all,
    "same colour": _same_colour,
}


def is_right(said: str, answer: str) -> bool:
    """Compare an answer's only fact; "picture 2", "two" and "2." are the same."""
    words = said.lower().removeprefix("picture ").strip(" .").split()
    words = [str(NUMBERS.index(word)) if word in NUMBERS else word for word in words]
    return words == [answer]


def main() -> None:
    """Ask, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("count", type=int, nargs="?", default=10, help="questions of each kind")
    parser.add_argument("--model", help="a bundle's name or folder")
    parser.add_argument("--say", action="store_true", help="print each answer")
    options = parser.parse_args()
    print("| Question | Right | Right about that picture alone | Changed with picture 1 |")
    print("|---|---|---|---|")
    with edge_et.load(options.model) as pipe:
        for name, ask in KINDS.items():
            right = alone = changed = 0
            has_alone = False
            for number in range(options.count):
                rng = random.Random(f"{SEED} {name} {number}")
                first = draw(rng)
                drawn = [first, draw(rng, avoid=first), *(draw(rng) for _ in range(number % 2))]
                question = ask(drawn, rng)
                pictures = [one.picture for one in drawn]
                answer = pipe.answer(pictures, question.text)
                right += is_right(answer.text, question.answer)
                if options.say:
                    print(question.text, question.answer, answer.text, answer.extraction, sep=" | ")
                if question.alone is not None:
                    has_alone = True
                    said = pipe.answer(pictures[1], question.alone).text
                    alone += is_right(said, question.answer)
                    other = [draw(rng, avoid=drawn[1]).picture, *pictures[1:]]
                    changed += pipe.answer(other, question.text).text != answer.text
            counts = [right, alone, changed] if has_alone else [right]
            cells = [f"{count} of {options.count}" for count in counts]
            print(f"| {name} | {' | '.join([*cells, '', ''][:3])} |", flush=True)


if __name__ == "__main__":
    main()
