"""Reads visual instruction data: LLaVA's JSON, or JSON Lines of image, question and answer.

In: a file. Out: one `Instruction` a row, or a `BrokenRow` that says what is wrong with it. Pictures
are not opened here; where their paths may lead is checked by `picture_path`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from edge_et.errors import TuningError
from edge_et.tuning.data.extraction_records import fault_in

# Instruction sets append how to answer; that is no part of what is asked.
_ANSWER_FORM = re.compile(
    r"([.?!]\s|\n)\s*answer (?:the question )?(?:using|with|in) (?:a|one) .*", re.IGNORECASE
)
_IMAGE_MARK = "<image>"


@dataclass(frozen=True, slots=True)
class Pair:
    """A question and its answer.

    Attributes:
        question: without the place of the image, and without how to answer.
        answer: the right one.
        reasoning: what should be thought before the answer; empty if nobody wrote it.
    """

    question: str
    answer: str
    reasoning: str = ""


@dataclass(frozen=True, slots=True)
class Instruction:
    """A usable row: one picture with questions about it.

    Attributes:
        row: its number in the file, from 1: of the line, or of the list's element.
        content: the row as it stands in the file.
        id: the row's own, or "row-" and the number.
        image: path of the picture, as the row tells it; not checked yet.
        pairs: at least one.
        facts: JSON of the ground truth, where the row has it; a recipe knows its form.
    """

    row: int
    content: bytes
    id: str
    image: str
    pairs: tuple[Pair, ...]
    facts: msgspec.Raw | None = None


@dataclass(frozen=True, slots=True)
class BrokenRow:
    """A row that cannot be used.

    Attributes:
        row: as of `Instruction`.
        content: as of `Instruction`.
        reason: what is wrong.
    """

    row: int
    content: bytes
    reason: str


class _Turn(msgspec.Struct, rename={"speaker": "from"}):
    speaker: Literal["human", "gpt"]
    value: str


class _Conversation(msgspec.Struct):
    """LLaVA's row. Source: docs/Finetune_Custom_Data.md of haotian-liu/LLaVA."""

    image: str
    conversations: list[_Turn]
    id: str | int | None = None


class _Question(msgspec.Struct):
    image: str
    question: str
    answer: str | int | float
    id: str | int | None = None
    reasoning: str = ""
    facts: msgspec.Raw = msgspec.Raw()


def read_instructions(path: Path) -> list[Instruction | BrokenRow]:
    """Read a file of either format; a row tells by its keys which one it is of.

    Args:
        path: a JSON list, or JSON Lines; an empty line is no row.

    Raises:
        TuningError: the file cannot be read, is a damaged JSON list, or has no rows.
    """
    try:
        content = path.read_bytes().removeprefix(b"\xef\xbb\xbf")
    except OSError as err:
        raise TuningError(f"cannot read {path}: {err.strerror or err}") from err
    if content.lstrip().startswith(b"["):
        try:
            elements = msgspec.json.decode(content, type=list[msgspec.Raw])
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as err:
            raise TuningError(f"{path} begins as a JSON list and is none: {err}") from err
        numbered = [(number, bytes(element)) for number, element in enumerate(elements, 1)]
    else:
        lines = content.split(b"\n")
        numbered = [(number, line) for number, line in enumerate(lines, 1) if line.strip()]
    if not numbered:
        raise TuningError(f"{path} has no rows")
    return [_read_row(number, row) for number, row in numbered]


def picture_path(image: str, folder: Path) -> Path:
    """Find the picture of a row.

    Args:
        image: as the row tells it.
        folder: which the picture must lie in, links followed.

    Raises:
        ValueError: the path leads out of the folder, or to no file.
    """
    root = folder.resolve()
    try:
        path = (root / image).resolve()
        inside = path.is_relative_to(root)
        is_file = inside and path.is_file()
    except (OSError, RuntimeError) as err:  # RuntimeError: links that lead in a circle
        raise ValueError(f"image {image!r} cannot be found: {err}") from err
    if not inside or Path(image).is_absolute():
        raise ValueError(f"image {image!r} lies outside the folder of pictures")
    if not is_file:
        raise ValueError(f"image {image!r} is no file of the folder of pictures")
    return path


def _read_row(number: int, content: bytes) -> Instruction | BrokenRow:
    try:
        return _parse(number, content)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as err:
        return BrokenRow(number, content, f"not JSON of a known form: {err}")
    except ValueError as err:
        return BrokenRow(number, content, str(err))


def _parse(number: int, content: bytes) -> Instruction:
    facts = None
    row: _Conversation | _Question
    if "conversations" in msgspec.json.decode(content, type=dict[str, msgspec.Raw]):
        row = msgspec.json.decode(content, type=_Conversation)
        pairs = _pairs(row.conversations)
    else:
        row = msgspec.json.decode(content, type=_Question)
        pairs = (Pair(_asked(row.question), str(row.answer).strip(), row.reasoning.strip()),)
        facts = _compact(row.facts)
    row_id = f"row-{number}" if row.id is None else str(row.id)
    texts = [("id", row_id), ("image", row.image)]
    for pair in pairs:
        texts += [("question", pair.question), ("answer", pair.answer)]
        texts += [("reasoning", pair.reasoning)] if pair.reasoning else []
    for name, text in texts:
        if fault := fault_in(text):
            raise ValueError(f"{name} {fault}")
    return Instruction(number, content, row_id, row.image, pairs, facts)


def _compact(facts: msgspec.Raw) -> msgspec.Raw | None:
    """Return JSON without spaces; None where there is none, or null."""
    text = msgspec.json.format(bytes(facts), indent=-1) if bytes(facts) else b"null"
    return None if text == b"null" else msgspec.Raw(text)


def _pairs(turns: list[_Turn]) -> tuple[Pair, ...]:
    speakers = [turn.speaker for turn in turns]
    if not turns or speakers != ["human", "gpt"] * (len(turns) // 2):
        raise ValueError("the turns do not go human, gpt, human, gpt, ...")
    if sum(turn.value.count(_IMAGE_MARK) for turn in turns) > 1:
        raise ValueError("more than one <image>: questions about several pictures are not read")
    return tuple(
        Pair(_asked(asked.value), told.value.strip())
        for asked, told in zip(turns[0::2], turns[1::2], strict=True)
    )


def _asked(question: str) -> str:
    """Remove what is no question: the image's place, line ends of DOS, how to answer."""
    text = question.replace(_IMAGE_MARK, "").replace("\r\n", "\n").strip()
    return _ANSWER_FORM.sub(r"\1", text).strip() or text
