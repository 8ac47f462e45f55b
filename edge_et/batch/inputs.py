"""What a user names, as rows: folders, patterns, pictures and tables.

In: paths and patterns. Out: tables, their rows counted on from one to the next, and what tells them
from the rows of another run. No picture is opened here.
"""

import glob
import hashlib
import json
import os
import re
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from edge_et.batch.answering import FIELDS
from edge_et.batch.parquet import read_parquet
from edge_et.batch.tables import IMAGE, QUESTION, ListTable, Table, read_csv, read_json_lines
from edge_et.errors import BatchInputError

_READERS: Final[Mapping[str, Callable[[Path], Table]]] = {
    ".csv": read_csv,
    ".jsonl": read_json_lines,
    ".ndjson": read_json_lines,
    ".parquet": read_parquet,
}
_PICTURES: Final = frozenset(
    ".bmp .gif .heic .heif .jpe .jpeg .jpg .pbm .pgm .png .pnm .ppm .tif .tiff .webp".split()  # noqa: SIM905
)

_DEEP: Final = re.compile(r"(?:^|(?P<root>^/)|/)(?:\*\*(?:/|$))+")
"""Where a pattern goes into all folders."""


class Inputs:
    """The rows of all inputs, counted from 0.

    Attributes:
        tables: where they lie.
        starts: the number of the first row of each table.
        skipped: files in folders, and matches of patterns, that are no pictures by their names.
    """

    def __init__(self, tables: Sequence[Table], skipped: int, question: str | None) -> None:
        """Put tables one behind the other.

        Args:
            tables: at least one.
            skipped: how many files were left out.
            question: of rows that have none.

        Raises:
            BatchInputError: a column has the name of a field of the output, or nobody asks.
        """
        self.tables = tables
        self.skipped = skipped
        self.starts: list[int] = []
        self._question = question
        self._rows = 0
        for table in tables:
            for name in table.names:
                if name in FIELDS:
                    reason = f"the output has a field {name!r} of its own: rename the column"
                    raise BatchInputError(table.path, reason)
            if question is None and QUESTION not in table.names:
                reason = f"it has no column {QUESTION!r}: give --question"
                raise BatchInputError(table.path, reason)
            self.starts.append(self._rows)
            self._rows += len(table)

    def __len__(self) -> int:
        return self._rows

    def picture(self, row: int) -> object:
        """Return a row's picture; see `Table`."""
        table, index = self._place(row)
        return table.picture(index)

    def question(self, row: int) -> Any:
        """Return what is asked about a row's picture; what is no text is an error of the row."""
        return self.columns(row)[QUESTION]

    def columns(self, row: int) -> dict[str, Any]:
        """Return a row's columns, the question that is asked among them."""
        table, index = self._place(row)
        columns = dict(table.columns(index))
        columns[QUESTION] = self.asked(columns.get(QUESTION))
        return columns

    def asked(self, written: object) -> Any:
        """Return the question of a row.

        Args:
            written: in its table; None or empty: nothing.
        """
        return self._question if written is None or written == "" else written

    def sha256(self) -> str:
        """Return the digest of all rows, but for what pictures hold."""
        found = hashlib.sha256()
        for row in range(len(self)):
            found.update(json.dumps(self.columns(row), default=repr).encode() + b"\n")
        return found.hexdigest()

    def _place(self, row: int) -> tuple[Table, int]:
        number = bisect_right(self.starts, row) - 1
        return self.tables[number], row - self.starts[number]


def read_inputs(names: Sequence[str], question: str | None) -> Inputs:
    """Find the rows.

    Args:
        names: folders, files, and patterns of these.
        question: of rows that have none; None: tables bring their own.

    Raises:
        BatchInputError: there is no such file, it cannot be read, or it has no rows.
        MissingExtraError: a table is Parquet, and pyarrow is not installed.
    """
    tables: list[Table] = []
    pictures: list[str] = []
    skipped = 0

    def end_pictures() -> None:
        if pictures:
            tables.append(ListTable(pictures[0], [{IMAGE: path} for path in pictures]))
            pictures.clear()

    for name in names:
        for path, is_named in _files(name):
            suffix = os.path.splitext(path)[1].lower()
            if suffix in _PICTURES:
                pictures.append(path)
            elif suffix in _READERS and is_named:
                end_pictures()
                tables.append(_read(path, suffix))
            elif is_named and path == name:
                known = " ".join(sorted(_READERS) + sorted(_PICTURES))
                raise BatchInputError(path, f"neither a folder, nor a file with one of {known}")
            else:
                skipped += 1
    end_pictures()
    if not tables:
        raise BatchInputError(", ".join(names), "there are no pictures")
    return Inputs(tables, skipped, question)


def _files(name: str) -> Iterator[tuple[str, bool]]:
    """Yield files, and whether a path or a pattern names them; of folders what is in them."""
    try:
        if os.path.isdir(name):
            yield from ((path, False) for path in sorted(_files_below(name)))
        elif os.path.lexists(name):
            yield name, True
        else:
            found = sorted(set(_matches(name))) if glob.has_magic(name) else []
            if not found:
                raise BatchInputError(name, "there is no such file or folder")
            yield from ((path, True) for path in found if not os.path.isdir(path))
    except ValueError as err:  # a null character
        raise BatchInputError(repr(name), f"this is no path: {err}") from err


def _matches(pattern: str) -> Iterator[str]:
    """Yield what a pattern names; unlike `glob`, ``**`` follows no links and is never endless."""
    deep = _DEEP.search(pattern)
    if deep is None:
        yield from glob.iglob(pattern)
        return
    before = pattern[: deep.start()] + (deep["root"] or "")
    behind = pattern[deep.end() :] or "*"
    for base in _matches(before) if glob.has_magic(before) else (before,):
        if os.path.isdir(base or "."):
            for folder, _ in _walk(base):
                yield from _matches(os.path.join(glob.escape(folder), behind))


def _files_below(folder: str) -> Iterator[str]:
    for _, files in _walk(folder):
        yield from files


def _walk(folder: str) -> Iterator[tuple[str, list[str]]]:
    """Yield a folder and those in it, each with its files; neither hidden nor linked ones.

    Not by `os.walk`, which fails by Python's limit where folders are a thousand levels deep.
    """
    left = [folder]
    while left:
        parent = left.pop()
        files = []
        try:
            with os.scandir(parent or ".") as entries:
                for entry in entries:
                    path = os.path.join(parent, entry.name)
                    if entry.name.startswith("."):
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        left.append(path)
                    elif not (entry.is_symlink() and os.path.isdir(path)):
                        files.append(path)
        except OSError as err:
            raise BatchInputError(parent, f"it cannot be read: {err.strerror}") from err
        yield parent, files


def _read(path: str, suffix: str) -> Table:
    try:
        return _READERS[suffix](Path(path))
    except OSError as err:
        raise BatchInputError(path, f"it cannot be read: {err.strerror or err}") from err
