"""Contact sheets: pictures with a few words under each, for the model card."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from edge_et.export.steps import atomic_output
from edge_et.tuning.evaluation.evaluate import Trial
from edge_et.tuning.evaluation.exam import Exam

_RIGHT, _WRONG = (40, 150, 60), (205, 50, 40)
_FRAME = 3
_TEXT_PIXELS = 11
_LINE = 13
_FAILURE_COLUMNS = 5
_FAILURE_PIXELS = 168


@dataclass(frozen=True, slots=True, eq=False)
class Card:
    """One picture of a sheet.

    Attributes:
        picture: shown small.
        lines: written under it, each cut to the card's width.
        right: frames it green or red.
    """

    picture: Image.Image
    lines: tuple[str, ...]
    right: bool


def draw_sheet(cards: Sequence[Card], columns: int, pixels: int) -> Image.Image:
    """Draw cards in rows.

    Args:
        cards: in reading order; as many lines on each.
        columns: cards a row.
        pixels: side of a picture.
    """
    lines = max(len(card.lines) for card in cards)
    width, height = pixels + 8, pixels + 8 + lines * _LINE
    rows = -(-len(cards) // columns)
    sheet = Image.new("RGB", (columns * width, rows * height), "white")
    pen = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(_TEXT_PIXELS)
    for k, card in enumerate(cards):
        x, y = k % columns * width + 2, k // columns * height + 2
        small = card.picture.copy()
        small.thumbnail((pixels - 2 * _FRAME, pixels - 2 * _FRAME))
        colour = _RIGHT if card.right else _WRONG
        pen.rectangle((x, y, x + pixels, y + pixels), outline=colour, width=_FRAME)
        left = x + (pixels - small.width) // 2 + 1
        sheet.paste(small, (left, y + (pixels - small.height) // 2 + 1))
        for n, line in enumerate(card.lines):
            pen.text(
                (x, y + pixels + 1 + n * _LINE), _cut(line, font, pixels), fill="black", font=font
            )
    return sheet


def write_failures(
    trials: Sequence[Trial], exams: Sequence[Exam], out: Path, mode: str, per_exam: int = 5
) -> None:
    """Write a JPEG of the first wrong answers of every exam.

    Args:
        trials: results of one bundle and style.
        exams: which the results are of, in the order of the sheet.
        out: the file, replaced if it exists.
        mode: of answering.
        per_exam: wrong answers an exam.
    """
    cards = []
    for exam in exams:
        wrong = {t.index: t for t in trials if t.exam == exam.name and not t.is_right(mode)}
        shown = dict(sorted(wrong.items())[:per_exam])
        for index, (picture, _) in enumerate(exam.questions()):
            if index > max(shown, default=-1):
                break
            if index in shown:
                cards.append(_failure(picture, shown[index], mode))
    sheet = draw_sheet(cards, _FAILURE_COLUMNS, _FAILURE_PIXELS)
    with atomic_output(out) as partial:
        sheet.save(partial, "JPEG", quality=72)


def _failure(picture: Image.Image, trial: Trial, mode: str) -> Card:
    reply = trial.replies[mode]
    asked = textwrap.wrap(trial.question, 30)[:2]
    seen = textwrap.wrap(reply.extraction, 30)[:3]
    lines = (
        *asked,
        *[""] * (2 - len(asked)),
        *seen,
        *[""] * (3 - len(seen)),
        f"said {reply.text}, right {trial.expected}",
    )
    return Card(picture, lines, right=False)


def _cut(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, pixels: int) -> str:
    while text and font.getlength(text) > pixels:
        text = text[:-1]
    return text
