"""Makes extraction data row by row, in files that a kill leaves whole.

Goes in: instructions and a describer. Comes out: a file of records in input order, and beside it
one of rejected rows. Both only ever grow by whole lines; a rerun cuts a torn last line off and goes
on behind it, so that no row is lost and none is made twice.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import msgspec

from edge_et.errors import ImageError, TuningError
from edge_et.image import load_image
from edge_et.tuning import recipe
from edge_et.tuning.data.describers import Describer, RowError
from edge_et.tuning.data.readers import BadRow
from edge_et.tuning.data.records import ExtractionRecord, Instruction


class Rejected(msgspec.Struct, frozen=True, kw_only=True):
    """A row of the file of rejected rows."""

    row: int
    id: str
    reason: str


@dataclass(slots=True)
class Tally:
    """What a run did.

    Attributes:
        made: Records written now.
        kept: Records and rejected rows that an earlier run wrote.
        rejected: Rows set apart now.
    """

    made: int = 0
    kept: int = 0
    rejected: int = 0


def rejected_path(out: Path) -> Path:
    """Returns where the rejected rows of an output go."""
    return out.with_name(f"{out.stem}.rejected.jsonl")


def make_data(
    rows: Iterable[Instruction | BadRow],
    images: Path,
    out: Path,
    describer: Describer,
    on_row: Callable[[Tally], None] = lambda tally: None,
) -> Tally:
    """Describes every row that no earlier run has described.

    Args:
        rows: In order, and the same as in the earlier run.
        images: Folder that the rows' images are in.
        out: JSON Lines of `ExtractionRecord`, gone on with if it exists.
        describer: Writes the descriptions.
        on_row: Called after each row.

    Returns:
        What was done.

    Raises:
        TuningError: The describer cannot be reached, or a file cannot be read or written. What was
            made stays; another run goes on.
    """
    tally = Tally()
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        root = images.resolve(strict=True)
        with out.open("ab+") as made, rejected_path(out).open("ab+") as apart:
            done = _whole_lines(made, out, ExtractionRecord) | _whole_lines(
                apart, rejected_path(out), Rejected
            )
            for number, row in enumerate(rows, 1):
                if _key(row) in done:
                    tally.kept += 1
                    on_row(tally)
                    continue
                outcome = row if isinstance(row, BadRow) else _describe(row, root, describer)
                if isinstance(outcome, ExtractionRecord):
                    _append(made, outcome)
                    tally.made += 1
                else:
                    reason = outcome.reason if isinstance(outcome, BadRow) else outcome
                    _append(apart, Rejected(row=number, id=_key(row), reason=reason))
                    tally.rejected += 1
                on_row(tally)
    except OSError as err:
        raise TuningError(f"{err.filename or out}: {err.strerror}") from err
    return tally


def _key(row: Instruction | BadRow) -> str:
    """Names a row; a bad one by its number too, as its id may be another's."""
    return f"bad row {row.row}" if isinstance(row, BadRow) else row.id


def _describe(row: Instruction, root: Path, describer: Describer) -> ExtractionRecord | str:
    """Returns the record of a row, or why there is none."""
    path = root / row.image
    if not path.resolve().is_relative_to(root):
        return f"image {row.image!r} is outside of the folder of images"
    try:
        picture = load_image(path)
        statements, description = describer.describe(picture, row)
    except (ImageError, RowError) as err:
        return str(err)
    asked = " ".join(pair.question for pair in row.pairs)
    return ExtractionRecord(
        id=row.id,
        image=row.image,
        prompt=recipe.EXTRACT_PROMPT.format(image="", question=asked).strip(),
        extraction=description,
        pairs=row.pairs,
        statements=statements,
        describer=describer.name,
    )


def _whole_lines(
    file: BinaryIO, path: Path, kind: type[ExtractionRecord] | type[Rejected]
) -> set[str]:
    """Cuts a torn last line off a file, and returns the ids in the others."""
    file.seek(0)
    content = file.read()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        file.truncate(whole)
    ids = set()
    for number, line in enumerate(content[:whole].splitlines(), 1):
        try:
            ids.add(msgspec.json.decode(line, type=kind).id)
        except (msgspec.DecodeError, UnicodeDecodeError) as err:
            raise TuningError(
                f"{path}:{number} was not written by this command: {err}; choose another --out"
            ) from err
    file.seek(0, os.SEEK_END)
    return ids


def _append(file: BinaryIO, record: ExtractionRecord | Rejected) -> None:
    file.write(msgspec.json.encode(record) + b"\n")
    file.flush()
    os.fsync(file.fileno())
