"""A resume log: what a long run has done so far, as JSON Lines that survive a kill.

Each record is a line, and is on the disk before the next one begins. A line that a kill tore is cut
off when the file is opened again. So a record is there as a whole or not at all.
"""

import os
from pathlib import Path
from types import TracebackType
from typing import Generic, Self, TypeVar

import msgspec

from edge_et.errors import ToolError

R = TypeVar("R", bound=msgspec.Struct)


class ResumeLog(Generic[R]):
    """The records made so far, and a file that more are added to; a context manager."""

    def __init__(self, path: Path, kind: type[R], *, writer: str, error: type[ToolError]) -> None:
        """Open or make the file, and cut off a torn last line.

        Args:
            path: the file; its folder is made if need be.
            kind: what a line holds.
            writer: the command that writes such files, for messages.
            error: what is raised, with a message alone.

        Raises:
            ToolError: of the class `error`: the file cannot be opened, or something else wrote it.
        """
        self.path = path
        self.records: list[R] = []
        self._writer = writer
        self._error = error
        self._decoder = msgspec.json.Decoder(kind)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("ab+", buffering=0)
        except OSError as err:
            raise error(f"cannot write {path}: {err.strerror or err}") from err
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

    def add(self, record: R) -> None:
        """Keep a record; it is on the disk when this returns.

        Raises:
            ToolError: of the class given: the disk is full, or the file cannot be written for
                another reason.
        """
        line = msgspec.json.encode(record) + b"\n"
        try:
            while line:
                line = line[self._file.write(line) or 0 :]
            os.fsync(self._file.fileno())
        except OSError as err:
            raise self._error(f"cannot write {self.path}: {err.strerror or err}") from err
        self.records.append(record)

    def _recover(self) -> None:
        try:
            self._file.seek(0)
            content = self._file.read()
        except OSError as err:
            raise self._error(f"cannot read {self.path}: {err.strerror or err}") from err
        *lines, torn = content.split(b"\n")
        for number, line in enumerate(lines, 1):
            try:
                self.records.append(self._decoder.decode(line))
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as err:
                raise self._error(
                    f"{self.path}, line {number} was not written by {self._writer}: {err}; "
                    "remove the line, or move the file away to begin anew"
                ) from err
        if torn:
            self._file.truncate(len(content) - len(torn))
