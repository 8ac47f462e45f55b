"""Draw the built-in questions: scenes that no training of the mini model saw, exam by exam."""

import dataclasses
import hashlib
import io
import random
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from edge_et.benchmarks.quality.questions import Question, question_key
from edge_et.benchmarks.quality.scoring import is_right, plain
from edge_et.export.steps import Progress, needing_extra, no_progress

with needing_extra("tuning"):
    from edge_et.tuning.mini.assets.scene_kit import scene_kit
    from edge_et.tuning.mini.exams import EXAMS, find_exam, questions


_OFFERED = 4
"""Texts that a question offers: the right answer, and others."""


def offer_answers(questions: Sequence[Question]) -> list[Question]:
    """Let every question offer its answer among some that are right elsewhere.

    They are those of other questions of its exam; of all exams where its own has none that would be
    wrong here. Which ones, and their order, depends on the question alone and on what else is
    asked.

    Args:
        questions: each with one accepted answer.
    """
    pools: dict[str, list[str]] = {}
    for question in questions:
        pools.setdefault(question.kind, []).append(question.accepted[0])
    everywhere = [text for pool in pools.values() for text in pool]
    offering = []
    for question in questions:
        (right,) = question.accepted
        wrong = _others(pools[question.kind], right) or _others(everywhere, right)
        rng = random.Random(question.key)
        offered = [right, *rng.sample(wrong, min(len(wrong), _OFFERED - 1))] if wrong else []
        rng.shuffle(offered)
        offering.append(dataclasses.replace(question, offered=tuple(offered)))
    return offering


def _others(pool: Sequence[str], right: str) -> list[str]:
    """Return the answers that are wrong where one is right, each once."""
    wrong = {plain(text): text for text in pool if not is_right(text, right)}
    return sorted(wrong.values())


def scene_questions(
    exams: Sequence[str], each: int, assets: Path, progress: Progress = no_progress
) -> Iterator[Question]:
    """Draw held-out scenes and ask about them, the same ones every time.

    Args:
        exams: names; none: all of them.
        each: questions an exam.
        assets: folder of downloads that scenes are drawn with; what is missing is fetched.
        progress: told about the drawing.

    Yields:
        Questions whose pictures are PNG files in memory.

    Raises:
        TuningError: there is no exam of that name.
        AssetError: something cannot be fetched.
    """
    chosen = [find_exam(name) for name in exams] or list(EXAMS)
    kit = dataclasses.replace(scene_kit(assets, held_out=True), held_out=True)
    for exam in chosen:
        for index, (picture, example) in enumerate(islice(questions(exam, kit), each)):
            progress(f"drawing: {exam.name}", index, each)
            buffer = io.BytesIO()
            picture.save(buffer, "PNG")
            yield Question(
                key=question_key(hashlib.sha256(picture.tobytes()).hexdigest(), example.question),
                where=f"{exam.name}, question {index + 1}",
                kind=exam.name,
                text=example.question,
                picture=buffer.getvalue(),
                accepted=(example.answer,),
                truth=example.extraction,
            )
