"""The exams of the mini's scenes: taken by a bundle, told in tables, their failures drawn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from edge_et.tuning.evaluation import compare_modes, contact_sheet, evaluate
from edge_et.tuning.evaluation.evaluate import Trial
from edge_et.tuning.evaluation.exam import Exam
from edge_et.tuning.mini.exams import EXAMS, SceneExam, questions

if TYPE_CHECKING:
    from edge_et.pipeline import ExtractThink
    from edge_et.tuning.mini.scenes.draw_scene import SceneKit


def exam_with(exam: SceneExam, kit: SceneKit) -> Exam:
    """Return an exam whose scenes are drawn with a kit."""
    return Exam(name=exam.name, two_steps=exam.two_steps, questions=partial(questions, exam, kit))


def take_exam(
    pipe: ExtractThink,
    exam: SceneExam,
    count: int,
    kit: SceneKit,
    style: str,
    modes: Sequence[str],
    results: Path,
    on_trial: Callable[[int], None] = lambda asked: None,
) -> None:
    """Ask a bundle about scenes that are drawn with a kit; see `evaluate.take_exam`."""
    evaluate.take_exam(pipe, exam_with(exam, kit), count, style, modes, results, on_trial)


def table(trials: Sequence[Trial]) -> str:
    """Write a Markdown table, the exams in their usual order; see `evaluate.table`."""
    return evaluate.table(trials, [exam.name for exam in EXAMS])


def comparison(trials: Sequence[Trial]) -> str:
    """Compare modes of answering; see `compare_modes.comparison`."""
    return compare_modes.comparison(trials, {exam.name for exam in EXAMS if exam.two_steps})


def write_failures(
    trials: Sequence[Trial], kit: SceneKit, out: Path, mode: str, per_exam: int = 5
) -> None:
    """Draw the first wrong answers of every exam; see `contact_sheet.write_failures`.

    Args:
        trials: results of one bundle and style.
        kit: what the scenes of that style are drawn with.
        out: the JPEG file, replaced if it exists.
        mode: of answering.
        per_exam: wrong answers an exam.
    """
    exams = [exam_with(exam, kit) for exam in EXAMS]
    contact_sheet.write_failures(trials, exams, out, mode, per_exam)
