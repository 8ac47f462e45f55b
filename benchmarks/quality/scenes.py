"""Draw the built-in questions: scenes that no training of the mini model saw, exam by exam."""

import dataclasses
import hashlib
import io
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from edge_et.benchmarks.quality.questions import Question, question_key
from edge_et.export.steps import Progress, needing_extra, no_progress

with needing_extra("tuning"):
    from edge_et.tuning.mini.assets.scene_kit import scene_kit
    from edge_et.tuning.mini.exams import EXAMS, find_exam, questions


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
            )
