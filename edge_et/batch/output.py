"""The output of a run: a line for each row that is done, which a later run goes on from.

In: lines, one for each row. Out: the same in a file, each whole; and of a file that is there, which
rows are done. Beside it lies what the run was asked, so that another one does not go on with it.
What a row says is not known here, but for its number, its picture and whether it has an error.
"""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, Self

import msgspec

from edge_et.errors import BatchOutputError
from edge_et.foreign_errors import raised_by
from edge_et.store import FileLock, atomic_write

FORMAT: Final = "edge-et-batch"
FORMAT_VERSION: Final = 1

_LONGEST_TOLD: Final = 80  # characters of a value in an error


class _Line(msgspec.Struct, frozen=True):
    """What is read of a line; it has more fields."""

    row: int
    picture_sha256: str | None
    error: dict[str, str] | None


class Output:
    """A file that lines are appended to. It is locked until it is closed.

    Attributes:
        done: the SHA-256 of the picture of each row that is done; None: that could not be read.
        failed: those rows of them that have an error.
    """

    def __init__(self, out: Path, lines: Path, run: Mapping[str, Any], rows: int) -> None:
        """Open the output, or go on with it; a line that a killed run left unfinished is cut off.

        Args:
            out: what the user knows the output as.
            lines: the file of lines: the same, or one beside it.
            run: what is asked, as plain values by names that people know.
            rows: how many there are.

        Raises:
            BatchOutputError: another run writes to it, or it is the output of something else.
            OSError: the operating system refuses.
        """
        self.done: dict[int, str | None] = {}
        self.failed: set[int] = set()
        self._out, self._lines, self._rows = out, lines, rows
        self._places: dict[int, int] = {}
        self._handle: int | None = None
        if out.is_dir():
            raise BatchOutputError(str(out), "it is a folder: name a file")
        out.parent.mkdir(parents=True, exist_ok=True)
        self._run_path = out.with_name(f"{out.name}.run.json")
        for path in (out, lines, self._run_path):
            if path.exists() and not path.is_file():  # of a pipe, opening might never end
                raise BatchOutputError(str(path), "it is no regular file: name another output")
        is_known = self._run_path.exists()
        self._run_path.touch()
        self._lock = FileLock(self._run_path, os.O_RDWR)
        try:
            if self._lock.take(shared=False) is False:
                raise BatchOutputError(str(out), "another run writes to it: wait for its end")
            asked = {"format": FORMAT, "format_version": FORMAT_VERSION, **run}
            self._begin(json.loads(json.dumps(asked)), is_known)
            self._handle = os.open(lines, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        except BaseException:
            self._lock.close()
            raise

    def append(self, row: Mapping[str, Any]) -> None:
        """Write a line.

        Args:
            row: plain values, ``row``, ``picture_sha256`` and ``error`` among them.

        Raises:
            BatchOutputError: the operating system refuses, for a full disk for instance; the line
                is cut off when the run goes on.
        """
        assert self._handle is not None
        line = json.dumps(row, allow_nan=False).encode() + b"\n"
        place = os.lseek(self._handle, 0, os.SEEK_END)
        left = memoryview(line)
        with writing(self._lines):
            while left:
                left = left[os.write(self._handle, left) :]
        self._note(row["row"], row["picture_sha256"], row["error"] is not None, place)

    def forget_failed(self) -> None:
        """Take the rows with errors out, so that they are asked again.

        Raises:
            BatchOutputError: the operating system refuses.
        """
        if not self.failed:
            return
        assert self._handle is not None
        with writing(self._lines), atomic_write(self._lines) as draft, draft.open("wb") as file:
            for line in self._read():
                if _read_line(line).error is None:
                    file.write(line)
        os.close(self._handle)
        self._handle = os.open(self._lines, os.O_WRONLY | os.O_APPEND)
        self._note_all()

    def row(self, number: int) -> dict[str, Any]:
        """Return what a line says.

        Args:
            number: of a row that is done.
        """
        with self._lines.open("rb") as file:
            file.seek(self._places[number])
            found: dict[str, Any] = json.loads(file.readline())
        return found

    def close(self) -> None:
        """End the lock; may be called again."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None
        self._lock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def _begin(self, run: dict[str, Any], is_known: bool) -> None:
        """Compare what is asked with what was, or note it."""
        is_there = any(
            path.exists() and path.stat().st_size > 0 for path in {self._lines, self._out}
        )
        before = self._read_run()
        if is_there and before is None:
            if not is_known:
                self._run_path.unlink()
            reason = "it is there, and of no run that is known here: remove it, or name another"
            raise BatchOutputError(str(self._out), reason)
        if is_there and before is not None:
            if different := list(_differences(before, run)):
                reason = f"it was begun with another request ({'; '.join(different)}): ask the "
                reason += f"same to go on, remove {self._files()} to begin anew, or name another"
                raise BatchOutputError(str(self._out), reason)
            if not self._lines.exists():
                reason = f"{self._lines} is missing, which it was made of: put it back, or remove "
                raise BatchOutputError(str(self._out), f"{reason}this one too, to begin anew")
            self._cut_torn_line()
            self._note_all()
            return
        if is_known and not self._is_note(before):
            reason = "it is there, and is no note of a run: move it away, or name another output"
            raise BatchOutputError(str(self._run_path), reason)
        # The file keeps its inode, which is locked.
        with writing(self._run_path):
            self._run_path.write_text(json.dumps(run, indent=2) + "\n")

    def _read_run(self) -> dict[str, Any] | None:
        with suppress(ValueError, RecursionError):
            found = json.loads(self._run_path.read_bytes())
            if isinstance(found, dict):
                return found
        return None

    def _is_note(self, found: dict[str, Any] | None) -> bool:
        if found is not None:
            return found.get("format") == FORMAT
        return self._run_path.read_bytes().strip(b"\0")[:1] in (b"", b"{")  # torn

    def _files(self) -> str:
        paths = dict.fromkeys((self._out, self._lines))
        return " and ".join(str(path) for path in paths if path.exists())

    def _cut_torn_line(self) -> None:
        with self._lines.open("r+b") as file:
            end = file.seek(0, os.SEEK_END)
            while end > 0:
                start = max(0, end - 2**16)
                file.seek(start)
                if (found := file.read(end - start).rfind(b"\n")) >= 0:
                    end = start + found + 1
                    break
                end = start
            file.truncate(end)

    def _note_all(self) -> None:
        self.done.clear()
        self.failed.clear()
        self._places.clear()
        place = 0
        for number, line in enumerate(self._read(), 1):
            try:
                found = _read_line(line)
            except (ValueError, RecursionError) as err:  # msgspec's is a ValueError too
                raise self._foreign(number, f"it is no row ({err})") from err
            if not 0 <= found.row < self._rows or found.row in self.done:
                raise self._foreign(number, f"row {found.row} is not expected there")
            self._note(found.row, found.picture_sha256, found.error is not None, place)
            place += len(line)

    def _note(self, row: int, sha256: str | None, has_failed: bool, place: int) -> None:
        self.done[row] = sha256
        self._places[row] = place
        if has_failed:
            self.failed.add(row)

    def _read(self) -> Iterator[bytes]:
        with self._lines.open("rb") as file:
            yield from file

    def _foreign(self, line: int, reason: str) -> BatchOutputError:
        told = f"line {line}: {reason}: something else wrote to it; remove it to begin anew"
        return BatchOutputError(str(self._lines), told)


@contextmanager
def writing(path: Path, *packages: str) -> Iterator[None]:
    """Say of what the operating system refuses which file it is, and how to go on.

    Args:
        path: is written to while the block runs.
        packages: that do so, beside Python's own.

    Raises:
        BatchOutputError: the operating system refuses.
    """
    try:
        yield
    except OSError as err:
        if not raised_by(err, *packages):
            raise
        reason = f"it cannot be written: {err.strerror or err}; mend that, and ask the same again"
        raise BatchOutputError(str(path), reason) from err


def _read_line(line: bytes) -> _Line:
    # Not by msgspec: it refuses half of a surrogate pair, which a path may hold.
    return msgspec.convert(json.loads(line), _Line)


def _differences(before: Any, now: Any, name: str = "") -> Iterator[str]:
    """Yield in words what two requests do not have in common."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in dict.fromkeys((*before, *now)):
            inner = f"{name} {key}".strip().replace("_", " ")
            yield from _differences(before.get(key), now.get(key), inner)
    elif before != now:
        yield f"{name} was {_told(before)} and is {_told(now)}"


def _told(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= _LONGEST_TOLD else f"{text[:_LONGEST_TOLD]}..."
