"""Tables of text: CSV and JSON Lines.

In: a file. Out: its rows with their columns as they are written: text of a CSV file stays text. A
file that is no such table is refused as a whole, with the line. What the values are for is told by
the names of two columns alone, `IMAGE` and `QUESTION`.
"""

import csv
import io
import json
import math
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

from edge_et.errors import BatchInputError

IMAGE: Final = "image"
QUESTION: Final = "question"

_BOM: Final = b"\xef\xbb\xbf"
_OTHER_MARKS: Final = ";\t|"  # between columns, where programs put no commas
_MAX_LEVELS: Final = 100  # of objects and arrays in a row; writing it must not meet Python's limit


class Table(Protocol):
    """Rows with a picture each."""

    @property
    def path(self) -> str:
        """What the user knows it as."""

    @property
    def names(self) -> Sequence[str]:
        """The columns that go through to the output, in their order."""

    def __len__(self) -> int:
        """Return the number of rows."""

    def picture(self, index: int) -> object:
        """Return a row's picture: a path or bytes; anything else is an error of the row."""

    def columns(self, index: int) -> Mapping[str, Any]:
        """Return a row's columns as plain values."""


class ListTable:
    """Rows in memory."""

    def __init__(self, path: str, rows: list[dict[str, Any]], folder: str = "") -> None:
        """Keep the rows.

        Args:
            path: what the user knows the table as.
            rows: the columns of each, `IMAGE` among them.
            folder: what paths of pictures are relative to.
        """
        self.path = path
        self.rows = rows
        self.names = tuple(dict.fromkeys(name for row in rows for name in row))
        self._folder = folder

    def __len__(self) -> int:
        return len(self.rows)

    def picture(self, index: int) -> object:
        """Return a row's picture; see `Table`."""
        value = self.rows[index][IMAGE]
        return os.path.join(self._folder, value) if isinstance(value, str) else value

    def columns(self, index: int) -> Mapping[str, Any]:
        """Return a row's columns; see `Table`."""
        return self.rows[index]


def read_csv(path: Path) -> ListTable:
    """Read a CSV file in UTF-8, whose first line names the columns.

    Args:
        path: the file.

    Raises:
        BatchInputError: it is no such file.
        OSError: it cannot be read.
    """
    try:
        text = path.read_bytes().removeprefix(_BOM).decode()
    except UnicodeDecodeError as err:
        raise BatchInputError(str(path), f"it is not UTF-8: {err}; save it as UTF-8") from err
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows: list[dict[str, Any]] = []
    names: list[str] | None = None
    try:
        for fields in reader:
            if not fields:
                continue
            if names is None:
                names = fields
                check_names(str(path), names)
            elif len(fields) != len(names):
                reason = f"{len(fields)} fields, where the first line names {len(names)} columns"
                raise BatchInputError(str(path), reason, reader.line_num)
            else:
                rows.append(dict(zip(names, fields, strict=True)))
    except csv.Error as err:
        reason = f"it is not CSV: {err}; is a quote not closed?"
        if "limit" in str(err):
            reason += " Write longer texts as JSON Lines"
        raise BatchInputError(str(path), reason, reader.line_num) from err
    return _table(path, rows)


def read_json_lines(path: Path) -> ListTable:
    """Read a file with a JSON object a line.

    Args:
        path: the file.

    Raises:
        BatchInputError: it is no such file.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        rows = list(_objects(path, file))
    return _table(path, rows)


def check_names(path: str, names: Sequence[str]) -> None:
    """Refuse columns that cannot be told apart, or lack the picture's.

    Args:
        path: of the table.
        names: of its columns.

    Raises:
        BatchInputError: a name is there twice, or `IMAGE` is not.
    """
    for name, count in Counter(names).items():
        if count > 1:
            raise BatchInputError(path, f"two columns have the name {name!r}: rename one")
    if IMAGE not in names:
        found = ", ".join(map(repr, names)) or "none"
        advice = "name the pictures'"
        if any(IMAGE in name.split(mark) for name in names for mark in _OTHER_MARKS):
            advice = "separate columns by commas"
        raise BatchInputError(path, f"it has no column {IMAGE!r}, but {found}: {advice}")


def _table(path: Path, rows: list[dict[str, Any]]) -> ListTable:
    if not rows:
        raise BatchInputError(str(path), "it has no rows")
    return ListTable(str(path), rows, str(path.parent))


def _objects(path: Path, lines: Iterator[bytes]) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(lines, 1):
        if number == 1:
            line = line.removeprefix(_BOM)
        if not line.strip():
            continue
        try:
            row = json.loads(
                line, object_pairs_hook=_once, parse_float=_finite, parse_constant=_no_constant
            )
        except (ValueError, RecursionError) as err:  # of UTF-8 and of huge numbers too
            advice = "; save it as UTF-8" if isinstance(err, UnicodeDecodeError) else ""
            raise BatchInputError(str(path), f"it is not JSON: {err}{advice}", number) from err
        if not isinstance(row, dict):
            reason = f"a JSON object is expected, and there is {type(row).__name__}"
            raise BatchInputError(str(path), reason, number)
        if IMAGE not in row:
            raise BatchInputError(str(path), f"there is no key {IMAGE!r}", number)
        if _is_deeper(row, _MAX_LEVELS):
            reason = f"more than {_MAX_LEVELS} levels of objects and arrays"
            raise BatchInputError(str(path), reason, number)
        yield row


def _is_deeper(row: dict[str, Any], levels: int) -> bool:
    found: list[Any] = [row]
    for _ in range(levels):
        inner = [each.values() if isinstance(each, dict) else each for each in found]
        found = [one for each in inner for one in each if isinstance(one, dict | list)]
    return bool(found)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key is there twice")
    return found


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"{text[:40]} is out of the range of numbers")
    return value


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")
