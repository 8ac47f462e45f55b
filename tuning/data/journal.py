"""What a run has done so far, in a file that a kill leaves usable.

One line a described row, on the disk before the next row begins. A line that a kill tore is cut off
when the file is opened again, so a row is either known or it is not.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from edge_et.errors import TuningError
from edge_et.tuning.data.describers import Description
from edge_et.tuning.data.readers import Instruction


class Entry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One described row.

    Attributes:
        key: From `entry_key`.
        statements: Of the description.
        text: Of the description.
    """

    key: str
    statements: tuple[str, ...]
    text: str


def entry_key(row: Instruction, describer: str) -> str:
    """Returns what a row is known by: its picture, its questions and who describes it.

    Where the row stands in the file does not matter, so a data set may grow between two runs.
    """
    content = msgspec.json.encode([describer, row.image, row.pairs, row.facts])
    return hashlib.sha256(content).hexdigest()


class Journal:
    """The descriptions made so far, by key; a context manager."""

    def __init__(self, path: Path) -> None:
        """Opens or makes the file, and cuts off a torn last line.

        Raises:
            TuningError: If the file cannot be opened, or something else wrote it.
        """
        self._path = path
        self._entries: dict[str, Description] = {}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("ab+", buffering=0)
        except OSError as err:
            raise TuningError(f"cannot write {path}: {err.strerror or err}") from err
        try:
            self._recover()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def find(self, key: str) -> Description | None:
        """Returns what was made for a key; None if nothing was."""
        return self._entries.get(key)

    def add(self, key: str, description: Description) -> None:
        """Keeps a description; it is on the disk when this returns.

        Raises:
            TuningError: If the disk is full, or the file cannot be written for another reason.
        """
        entry = Entry(key=key, statements=description.statements, text=description.text)
        line = msgspec.json.encode(entry) + b"\n"
        try:
            while line:
                line = line[self._file.write(line) or 0 :]
            os.fsync(self._file.fileno())
        except OSError as err:
            raise TuningError(f"cannot write {self._path}: {err.strerror or err}") from err
        self._entries[key] = description

    def _recover(self) -> None:
        decoder = msgspec.json.Decoder(Entry)
        try:
            self._file.seek(0)
            content = self._file.read()
        except OSError as err:
            raise TuningError(f"cannot read {self._path}: {err.strerror or err}") from err
        *lines, torn = content.split(b"\n")
        for number, line in enumerate(lines, 1):
            try:
                entry = decoder.decode(line)
            except (msgspec.MsgspecError, UnicodeDecodeError) as err:
                raise TuningError(
                    f"{self._path}, line {number} was not written by make-data: {err}; "
                    "remove the line, or move the file away to begin anew"
                ) from err
            self._entries[entry.key] = Description(entry.statements, entry.text)
        if torn:
            self._file.truncate(len(content) - len(torn))
