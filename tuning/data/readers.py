"""Reads visual instruction data: LLaVA's JSON, or a JSON Lines file of questions and answers.

Goes in: a file. Comes out, row by row: an `Instruction`, or a `BadRow` that says what is wrong.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from edge_et.errors import TuningError
from edge_et.tuning.data.records import Instruction, Pair
from edge_et.tuning.facts import Facts

IMAGE_MARK = "<image>"
MAX_TEXT = 8000
"""Characters that a question or an answer may have."""

_Text = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_TEXT)]


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that cannot be used.

    Attributes:
        row: Its number in the file, from 1.
        id: As far as it is known.
        reason: What is wrong, for people.
    """

    row: int
    id: str
    reason: str


class _Turn(msgspec.Struct, rename={"speaker": "from"}):
    speaker: Literal["human", "gpt"]
    value: _Text


class _Conversation(msgspec.Struct):
    """LLaVA's row: https://github.com/haotian-liu/LLaVA, docs/Finetune_Custom_Data.md."""

    image: str
    conversations: list[_Turn]
    id: str | int | None = None


class _Question(msgspec.Struct):
    image: str
    question: _Text
    answer: _Text
    id: str | int | None = None
    facts: Facts | None = None


def read_instructions(path: Path) -> Iterator[Instruction | BadRow]:
    """Reads a file of either kind; which one it is, its first character tells.

    Args:
        path: The file.

    Raises:
        TuningError: It cannot be read, or is LLaVA's JSON as a whole and damaged.
    """
    try:
        content = path.read_bytes()
    except OSError as err:
        raise TuningError(f"{path} cannot be read: {err.strerror}") from err
    rows: list[bytes] | list[msgspec.Raw]
    if content.lstrip().startswith(b"["):
        try:
            rows = msgspec.json.decode(content, type=list[msgspec.Raw])
        except msgspec.DecodeError as err:
            raise TuningError(f"{path} is no JSON list: {err}") from err
    else:
        rows = [line for line in content.splitlines() if line.strip()]
    seen: set[str] = set()
    for number, row in enumerate(rows, 1):
        instruction = _read_row(bytes(row), number)
        if isinstance(instruction, Instruction):
            if instruction.id in seen:
                instruction = BadRow(number, instruction.id, "another row has the same id")
            seen.add(instruction.id)
        yield instruction


def _read_row(row: bytes, number: int) -> Instruction | BadRow:
    try:
        fields = msgspec.json.decode(row, type=dict[str, msgspec.Raw])
        if "conversations" in fields:
            talk = msgspec.json.decode(row, type=_Conversation)
            pairs = _pairs(talk.conversations)
            return Instruction(id=_id(talk.id, number), image=talk.image, pairs=pairs)
        asked = msgspec.json.decode(row, type=_Question)
    except (msgspec.DecodeError, UnicodeDecodeError) as err:
        return BadRow(number, str(number), f"not a row of a known form: {err}")
    except ValueError as err:
        return BadRow(number, str(number), str(err))
    return Instruction(
        id=_id(asked.id, number),
        image=asked.image,
        pairs=(Pair(asked.question, asked.answer),),
        facts=asked.facts,
    )


def _pairs(turns: list[_Turn]) -> tuple[Pair, ...]:
    speakers = [turn.speaker for turn in turns]
    if not turns or speakers != ["human", "gpt"] * (len(turns) // 2):
        raise ValueError("the turns do not go human, gpt, human, gpt ...")
    return tuple(
        Pair(asked.value.replace(IMAGE_MARK, "").strip(), told.value.strip())
        for asked, told in zip(turns[0::2], turns[1::2], strict=True)
    )


def _id(given: str | int | None, number: int) -> str:
    return f"row-{number}" if given is None else str(given)
