"""The exams of the mini: which questions about which held-out scenes make up a row."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image

from edge_et.errors import TuningError
from edge_et.tuning.mini.facts import ChartFacts, Facts, ObjectFacts
from edge_et.tuning.mini.questions.ask import ask
from edge_et.tuning.mini.scenes.draw_scene import Family, SceneKit, render_scene
from edge_et.tuning.mini.scenes.scene import FIRST_HELD_OUT_SEED
from edge_et.tuning.training.example import Example


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneExam:
    """One row of the table, whatever its scenes are drawn with.

    Attributes:
        name: of the row.
        kinds: kinds of question, asked in turn.
        family: of the scenes.
        compositions: of scenes of objects, in turn; None lets the seed choose.
        counts: whether a question belongs to the row, given facts and answer.
        two_steps: whether the answer takes a step from what is seen.
    """

    name: str
    kinds: tuple[str, ...]
    family: Family = "objects"
    compositions: tuple[str | None, ...] = (None,)
    counts: Callable[[Facts, str], bool] = lambda facts, answer: True
    two_steps: bool = False


def _holds_several(facts: Facts) -> bool:
    """Say whether counting is asked more than to see that there is one thing alone."""
    return isinstance(facts, ObjectFacts) and len(facts.objects) > 1


EXAMS = (
    SceneExam(name="naming an object", kinds=("name",), compositions=("single",)),
    SceneExam(name="colour", kinds=("colour",)),
    SceneExam(name="yes or no", kinds=("exists",)),
    SceneExam(
        name="counting to five",
        kinds=("count",),
        compositions=("counting",),
        counts=lambda facts, answer: _holds_several(facts) and 1 <= int(answer) <= 5,
    ),
    SceneExam(
        name="counting from six to ten",
        kinds=("count",),
        compositions=("counting",),
        counts=lambda facts, answer: int(answer) > 5,
    ),
    SceneExam(name="position", kinds=("where", "what_at")),
    SceneExam(
        name="comparison",
        kinds=("more", "larger", "left_of"),
        compositions=("counting", "sizes", "several"),
        two_steps=True,
    ),
    SceneExam(
        name="counting with a condition",
        kinds=("count_condition",),
        compositions=("several", "counting"),
        two_steps=True,
    ),
    SceneExam(name="odd one out", kinds=("odd_one_out",), compositions=("several", "counting")),
    SceneExam(name="reading a word", kinds=("read_word",), family="print"),
    SceneExam(name="reading a number", kinds=("read_number",), family="print"),
    SceneExam(
        name="arithmetic",
        kinds=("arithmetic", "chart_sum"),
        family="print",
        two_steps=True,
    ),
    SceneExam(
        name="largest bar",
        kinds=("largest",),
        family="chart",
        counts=lambda facts, answer: isinstance(facts, ChartFacts) and facts.kind == "bar",
    ),
    SceneExam(
        name="other chart questions",
        kinds=("smallest", "chart_value", "table_lookup", "chart_compare"),
        family="chart",
    ),
    SceneExam(name="what is not there", kinds=("unknown",)),
)

_SEEDS_APART = 1_000_000


def find_exam(name: str) -> SceneExam:
    """Return the exam of a name.

    Raises:
        TuningError: there is none.
    """
    for exam in EXAMS:
        if exam.name == name:
            return exam
    known = ", ".join(repr(exam.name) for exam in EXAMS)
    raise TuningError(f"there is no exam {name!r}; there are {known}")


def questions(exam: SceneExam, kit: SceneKit) -> Iterator[tuple[Image.Image, Example]]:
    """Make the questions of an exam, without end, the same ones every time.

    Args:
        exam: which.
        kit: what the scenes are drawn with; questions are worded as training never words them if
            it is held out.
    """
    first = FIRST_HELD_OUT_SEED + _SEEDS_APART * (1 + EXAMS.index(exam))
    asked = 0
    for seed in range(first, first + _SEEDS_APART):
        turn = asked % len(exam.kinds)
        kind = exam.kinds[turn]
        composition = exam.compositions[asked % len(exam.compositions)]
        family: Family = "chart" if kind.startswith("chart_") else exam.family
        scene = render_scene(seed, kit, family, composition)
        example = ask(scene.facts, kind, np.random.default_rng(seed), held_out=kit.held_out)
        if example is not None and exam.counts(scene.facts, example.answer):
            asked += 1
            yield scene.picture, example
