"""What a run of `make-data` has done so far: the descriptions, by what they describe."""

from __future__ import annotations

import hashlib
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from edge_et.errors import TuningError
from edge_et.export.resume_log import ResumeLog
from edge_et.tuning.data.describers import Description
from edge_et.tuning.data.instructions import Instruction


class Entry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One described row.

    Attributes:
        key: from `entry_key`.
        statements: of the description.
        text: of the description.
    """

    key: str
    statements: tuple[str, ...]
    text: str


def entry_key(row: Instruction, describer: str) -> str:
    """Return what a row is known by: its picture, its questions and who describes it.

    Where the row stands in the file does not matter, so a data set may grow between two runs.
    """
    content = msgspec.json.encode([describer, row.image, row.pairs, row.facts])
    return hashlib.sha256(content).hexdigest()


class DescriptionLog:
    """The descriptions made so far, by key; a context manager."""

    def __init__(self, path: Path) -> None:
        """Open or make the file, and cut off a torn last line.

        Raises:
            TuningError: the file cannot be opened, or something else wrote it.
        """
        self._log = ResumeLog(path, Entry, writer="make-data", error=TuningError)
        self._entries = {
            entry.key: Description(entry.statements, entry.text) for entry in self._log.records
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._log.__exit__(kind, error, trace)

    def find(self, key: str) -> Description | None:
        """Return what was made for a key; None if nothing was."""
        return self._entries.get(key)

    def add(self, key: str, description: Description) -> None:
        """Keep a description; it is on the disk when this returns.

        Raises:
            TuningError: the disk is full, or the file cannot be written for another reason.
        """
        self._log.add(Entry(key=key, statements=description.statements, text=description.text))
        self._entries[key] = description
