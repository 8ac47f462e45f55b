"""Read questions with pictures and right answers from a user's file.

In: JSON Lines of image, question, answer, and perhaps choices and kind. Out: a `Question` a line,
or a `BrokenQuestion` that says where it stands and what is wrong. Pictures are not decoded here.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from edge_et.benchmarks.quality.scoring import MAX_CHOICES, is_right, plain, with_choices
from edge_et.bundle import file_ref
from edge_et.errors import BenchError
from edge_et.tuning.data.extraction_records import fault_in
from edge_et.tuning.data.instructions import picture_path

ANY_KIND = "questions"
"""The kind of a question that does not tell one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A question about a picture.

    Attributes:
        key: names it among all questions; equal picture and words, equal key.
        where: where it comes from, for people.
        kind: the row of the table that it counts in.
        text: as it is asked, choices included.
        picture: path, or bytes of the file.
        accepted: any of these answers is right; at least one.
        choices: what can be chosen from, told in the text; none: the answer is free.
        offered: what the mode `choices` is given to choose from, told or not; at least two, or
            none.
        truth: what stage 1 should write; empty: that is not known.
    """

    key: str
    where: str
    kind: str
    text: str
    picture: Path | bytes
    accepted: tuple[str, ...]
    choices: tuple[str, ...] = ()
    offered: tuple[str, ...] = ()
    truth: str = ""


class BrokenQuestion(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A question that cannot be asked."""

    where: str
    reason: str


class _Row(msgspec.Struct, kw_only=True):
    image: str
    question: str
    answer: str | int | float | list[str | int | float]
    choices: list[str | int | float] | None = None
    kind: str | None = None


def read_questions(path: Path) -> tuple[list[Question], list[BrokenQuestion]]:
    """Read a file of questions.

    Args:
        path: JSON Lines; pictures lie in its folder or below. An empty line is no question.

    Returns:
        The questions in order, and those that cannot be asked.

    Raises:
        BenchError: the file cannot be read, or none of its questions can be asked.
    """
    try:
        content = path.read_bytes().removeprefix(b"\xef\xbb\xbf")
    except OSError as err:
        raise BenchError(f"cannot read {path}: {err.strerror or err}") from err
    questions: dict[str, Question] = {}
    broken = []
    for number, line in enumerate(content.split(b"\n"), 1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            question = _parse(line, where, path.parent)
            if question.key in questions:
                raise ValueError(f"the same question as in {questions[question.key].where}")
            questions[question.key] = question
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as err:
            broken.append(BrokenQuestion(where=where, reason=f"no question in JSON: {err}"))
        except (ValueError, OSError) as err:
            broken.append(BrokenQuestion(where=where, reason=str(err)))
    if not questions:
        reason = f"; {broken[0].where}: {broken[0].reason}" if broken else ""
        raise BenchError(f"{path} holds no question that can be asked{reason}")
    return list(questions.values()), broken


def question_key(picture_sha256: str, text: str) -> str:
    """Return the key of a question: what is asked about which picture, not what is right.

    Args:
        picture_sha256: of the picture's file.
        text: as it is asked.
    """
    return hashlib.sha256(msgspec.json.encode([picture_sha256, text])).hexdigest()


def _parse(line: bytes, where: str, folder: Path) -> Question:
    row = msgspec.json.decode(line, type=_Row)
    answers = row.answer if isinstance(row.answer, list) else [row.answer]
    accepted = tuple(str(answer).strip() for answer in answers)
    choices = tuple(str(choice).strip() for choice in row.choices or ())
    kind = ANY_KIND if row.kind is None else row.kind.strip()
    texts = [("image", row.image), ("question", row.question), ("kind", kind)]
    texts += [("answer", text) for text in accepted] + [("choice", text) for text in choices]
    for name, text in texts:
        if fault := fault_in(text):
            raise ValueError(f"{name} {fault}")
    if not accepted:
        raise ValueError("answer is an empty list")
    if unreadable := [text for text in (*accepted, *choices) if not plain(text)]:
        raise ValueError(f"{unreadable[0]!r} has no letter or digit that could be compared")
    if choices:
        _check_choices(choices, accepted)
    picture = picture_path(row.image, folder)
    text = with_choices(row.question.strip(), choices)
    return Question(
        key=question_key(file_ref(picture).sha256, text),
        where=where,
        kind=kind,
        text=text,
        picture=picture,
        accepted=accepted,
        choices=choices,
        offered=choices,
    )


def _check_choices(choices: Sequence[str], accepted: Sequence[str]) -> None:
    if not 2 <= len(choices) <= MAX_CHOICES:
        raise ValueError(f"there are {len(choices)} choices, not 2 to {MAX_CHOICES}")
    if len({plain(choice) for choice in choices}) < len(choices):
        raise ValueError("two choices are the same")
    for text in accepted:
        if not any(is_right(choice, text) for choice in choices):
            raise ValueError(f"the answer {text!r} is none of the choices")
