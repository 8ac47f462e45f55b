"""Makes extraction data, row by row.

In: instructions, a folder of pictures and a describer. Out: a file of `ExtractionRecord`s in the
order of the input, and one of the rows that cannot be used. Both are written at the end, whole;
until then a log holds what was made, so that a run that was killed goes on where it was. A
rejected row is not in the log: the next run tries it again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from edge_et.errors import ImageError, TuningError
from edge_et.export.errors import OutputError
from edge_et.export.steps import Progress, atomic_output, no_progress
from edge_et.image import load_image
from edge_et.tuning.data.describers import Describer, Description, RowError
from edge_et.tuning.data.description_log import DescriptionLog, entry_key
from edge_et.tuning.data.extraction_records import EXTRACT_PROMPT, ExtractionRecord
from edge_et.tuning.data.instructions import BrokenRow, Instruction, picture_path

# A describer that fails on so many rows one after another fails on all of them.
MAX_FAILURES_RUNNING = 5


class Rejected(msgspec.Struct, frozen=True, kw_only=True):
    """A row that was kept apart.

    Attributes:
        row: its number in the input, from 1: of the line, or of the list's element.
        reason: why it cannot be used.
        content: the row as it stands in the input.
    """

    row: int
    reason: str
    content: str


@dataclass(frozen=True, slots=True)
class Tally:
    """What a run did.

    Attributes:
        made: samples that were described now.
        skipped: samples that an earlier run had described.
        rejected: rows kept apart.
    """

    made: int
    skipped: int
    rejected: tuple[Rejected, ...]


def rejected_path(out: Path) -> Path:
    """Return where the rows go that cannot be used."""
    return out.with_name(f"{out.stem}.rejected.jsonl")


def log_path(out: Path) -> Path:
    """Return where a run keeps what it has done."""
    return out.with_name(f"{out.stem}.journal.jsonl")


def make_data(
    rows: Sequence[Instruction | BrokenRow],
    images: Path,
    out: Path,
    describer: Describer,
    progress: Progress = no_progress,
    prompt: str = EXTRACT_PROMPT,
) -> Tally:
    """Describe every row that no earlier run has described, and write all of them.

    Args:
        rows: in order.
        images: folder that the pictures' paths are relative to, and must stay in.
        out: JSON Lines of `ExtractionRecord`, one for each question.
        describer: writes the descriptions.
        progress: told after each row.
        prompt: what the perceiver will be asked, with a place for `{question}`.

    Returns:
        What was done.

    Raises:
        TuningError: the describer fails altogether, or the folder or the log cannot be used.
        OutputError: the output cannot be written.
        EdgeETError: whatever else the describer meets. What was made stays; another run goes on.
    """
    if not images.is_dir():
        raise TuningError(f"{images} is no folder: --images is what the pictures' paths start from")
    done: list[tuple[Instruction, Description]] = []
    rejected: list[Rejected] = []
    made = skipped = failures = 0
    with DescriptionLog(log_path(out)) as log:
        for count, row in enumerate(rows, 1):
            try:
                description, is_new = _describe(row, images, describer, log)
            except _UnusableRowError as err:
                content = row.content.decode("utf-8", "replace")
                rejected.append(Rejected(row=row.row, reason=str(err), content=content))
                failures = failures + 1 if isinstance(err.__cause__, RowError) else failures
                if failures == MAX_FAILURES_RUNNING:
                    raise TuningError(
                        f"{failures} rows running could not be described; row {row.row}: {err}"
                    ) from err
            else:
                assert isinstance(row, Instruction)
                done.append((row, description))
                made += len(row.pairs) if is_new else 0
                skipped += 0 if is_new else len(row.pairs)
                failures = 0 if is_new else failures
            progress("describing", count, len(rows))
    _write_lines(rejected_path(out), rejected)
    if not done:
        raise TuningError(
            f"none of the {len(rows)} rows can be used; {rejected_path(out)} says why; "
            f"row {rejected[0].row}: {rejected[0].reason}"
        )
    _write_lines(out, _records(done, describer.name, prompt))
    return Tally(made, skipped, tuple(rejected))


class _UnusableRowError(Exception):
    """A row that has to be kept apart."""


def _describe(
    row: Instruction | BrokenRow, images: Path, describer: Describer, log: DescriptionLog
) -> tuple[Description, bool]:
    """Return the description of a row, and whether it was made now."""
    if isinstance(row, BrokenRow):
        raise _UnusableRowError(row.reason)
    key = entry_key(row, describer.name)
    if found := log.find(key):
        return found, False
    try:
        picture = load_image(picture_path(row.image, images))
    except (ImageError, ValueError) as err:
        raise _UnusableRowError(str(err)) from err
    try:
        description = describer.describe(picture, row)
    except RowError as err:
        raise _UnusableRowError(str(err)) from err
    log.add(key, description)
    return description, True


def _records(
    done: Sequence[tuple[Instruction, Description]], describer: str, prompt: str
) -> list[ExtractionRecord]:
    """Make one record a question; an id that came before gets the row's number behind it."""
    records = []
    used: set[str] = set()
    for row, description in done:
        for number, pair in enumerate(row.pairs, 1):
            sample_id = row.id if len(row.pairs) == 1 else f"{row.id}-{number}"
            if sample_id in used:
                sample_id = f"{sample_id}-row-{row.row}"
            used.add(sample_id)
            records.append(
                ExtractionRecord(
                    id=sample_id,
                    image=row.image,
                    prompt=prompt.format(question=pair.question),
                    question=pair.question,
                    answer=pair.answer,
                    extraction=description.text,
                    statements=description.statements,
                    describer=describer,
                    reasoning=pair.reasoning,
                )
            )
    return records


def _write_lines(path: Path, lines: Sequence[msgspec.Struct]) -> None:
    """Write JSON Lines whole; where there are none, no older file stays."""
    if not lines:
        try:
            path.unlink(missing_ok=True)
        except OSError as err:
            raise OutputError(path, err.strerror or str(err)) from err
        return
    with atomic_output(path) as temporary:
        temporary.write_bytes(msgspec.json.Encoder().encode_lines(lines))
