"""Parquet, read and written. The only door to pyarrow.

In: a file of rows with a picture each, as a path or bytes. Out: a `Table` whose columns keep their
types; and for the output, a file that appears whole. The columns are held in memory, pictures are
read one after the other. What questions and answers mean is not known here.
"""

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final
from weakref import finalize

from edge_et.batch.tables import IMAGE, QUESTION, ListTable, Table, check_names
from edge_et.errors import BatchInputError, MissingExtraError
from edge_et.store import atomic_write

_PICTURES_AT_ONCE: Final = 4  # in memory while pictures are read
_ROWS_AT_ONCE: Final = 4096  # of other columns

_CONFIDENCE: Final = ("answer", "answering", "seeing", "thinking", "margin", "control")
_STAGES: Final = ("hint", "extract", "think", "answer")


def import_pyarrow() -> Any:
    """Return pyarrow, with `parquet` and `compute` loaded.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import pyarrow
        import pyarrow.compute
        import pyarrow.parquet
    except ModuleNotFoundError as err:
        raise MissingExtraError("pyarrow", "parquet") from err
    return pyarrow


class ParquetTable:
    """Rows of a Parquet file."""

    def __init__(self, path: Path, file: Any) -> None:
        """Read the columns, but for the bytes of pictures.

        Args:
            path: the file.
            file: the same, as `pyarrow.parquet.ParquetFile`.
        """
        self.path = str(path)
        self._pa = import_pyarrow()
        self._folder = str(path.parent)
        self._file = file
        self.names = tuple(file.schema_arrow.names)
        check_names(self.path, self.names)
        self.columns_table = self._read_columns()
        self._chunk: tuple[int, list[dict[str, Any]]] = (0, [])
        self._pictures: Iterator[object] = iter(())
        self._next = 0

    def __len__(self) -> int:
        return int(self.columns_table.num_rows)

    def picture(self, index: int) -> object:
        """Return a row's picture; see `Table`. Later rows go on in the file, others begin anew.

        Raises:
            BatchInputError: the file is damaged.
        """
        if index < self._next or self._next == 0:
            self._pictures, self._next = self._read_pictures(), 0
        while True:
            picture = next(self._pictures)
            self._next += 1
            if self._next > index:
                return picture

    def columns(self, index: int) -> Mapping[str, Any]:
        """Return a row's columns; see `Table`. Times and decimals are text, NaN is None.

        Raises:
            BatchInputError: a value is none that Python knows, such as the year 10,000.
        """
        start, rows = self._chunk
        if not start <= index < start + len(rows):
            start = index - index % _ROWS_AT_ONCE
            part = self.columns_table.slice(start, _ROWS_AT_ONCE)
            try:
                rows = self._told(part).to_pylist()
            except (self._pa.ArrowException, ValueError, OverflowError) as err:
                reason = f"its columns cannot be told in JSON: {_line(err)}"
                raise BatchInputError(self.path, reason) from err
            self._chunk = start, rows
        return {name: _plain(value) for name, value in rows[index - start].items()}

    def _read_columns(self) -> Any:
        """Return the table of all columns; that of pictures holds their paths, where they have."""
        pa, schema = self._pa, self._file.schema_arrow
        kind = schema.field(IMAGE).type
        if _is_text(pa, kind):
            return self._file.read().replace_schema_metadata()
        others = [name for name in self.names if name != IMAGE]
        # A file without other columns has no rows to read.
        # pyarrow takes a name with a dot for a field of a struct, too: hence `select`.
        table = self._file.read(columns=others).select(others).replace_schema_metadata()
        count = self._file.metadata.num_rows
        paths = pa.nulls(count, pa.string())
        if pa.types.is_struct(kind) and "path" in [field.name for field in kind]:
            read = self._file.read(columns=[f"{IMAGE}.path"]).column(IMAGE).combine_chunks()
            paths = read.field("path").cast(pa.string())
        elif not (_is_bytes(pa, kind) or pa.types.is_struct(kind)):
            reason = f"the column {IMAGE!r} is {kind}: paths or bytes are expected"
            raise BatchInputError(self.path, reason)
        place = self.names.index(IMAGE)
        if not others:
            return pa.table({IMAGE: paths})
        return table.add_column(place, IMAGE, paths)

    def _read_pictures(self) -> Iterator[object]:
        try:
            batches = self._file.iter_batches(batch_size=_PICTURES_AT_ONCE, columns=[IMAGE])
            for batch in batches:
                for value in batch.column(IMAGE):
                    yield self._picture(value.as_py())
        except (self._pa.ArrowException, OSError) as err:
            raise BatchInputError(self.path, f"it is damaged: {_line(err)}") from err

    def _picture(self, value: object) -> object:
        if isinstance(value, dict):
            value = value.get("bytes") or value.get("path")
        return os.path.join(self._folder, value) if isinstance(value, str) else value

    def _told(self, table: Any) -> Any:
        """Return columns with times and decimals as text."""
        pa = self._pa
        for place, field in enumerate(table.schema):
            if pa.types.is_temporal(field.type) or pa.types.is_decimal(field.type):
                texts = self._pa.compute.cast(table.column(place), pa.string())
                table = table.set_column(place, field.name, texts)
        return table


def read_parquet(path: Path) -> ParquetTable:
    """Open a Parquet file.

    Args:
        path: the file.

    Raises:
        BatchInputError: it is no such file, or has no pictures.
        MissingExtraError: pyarrow is not installed.
        OSError: it cannot be read.
    """
    pa = import_pyarrow()
    with ExitStack() as opened:
        handle = opened.enter_context(path.open("rb"))  # pyarrow takes no path that is no text
        try:
            # Without the buffers, a row group of pictures would be in memory as a whole.
            file = pa.parquet.ParquetFile(handle, pre_buffer=False, buffer_size=2**20)
            table = ParquetTable(path, file)
        except pa.ArrowException as err:
            raise BatchInputError(str(path), f"it is not Parquet: {_line(err)}") from err
        if not len(table):
            raise BatchInputError(str(path), "it has no rows")
        finalize(table, opened.pop_all().close)
    return table


def check_plain(tables: Sequence[Table]) -> None:
    """Refuse columns of bytes, which JSON cannot hold; those of pictures are left out anyway.

    Args:
        tables: of the input.

    Raises:
        BatchInputError: there is one.
    """
    for table in tables:
        if isinstance(table, ParquetTable):
            for field in table.columns_table.schema:
                if "binary" in str(field.type):
                    reason = f"the column {field.name!r} holds bytes, which JSON Lines cannot: "
                    raise BatchInputError(table.path, f"{reason}let --out be a .parquet file")


def plan_schema(tables: Sequence[Table], value: str) -> Any:
    """Return the schema of the output: columns of the input with their types, then the fields.

    Args:
        tables: of the input.
        value: the type of ``value``: string, bool or double.

    Raises:
        BatchInputError: a column has values that are not of one type.
        MissingExtraError: pyarrow is not installed.
    """
    pa = import_pyarrow()
    found = pa.schema([pa.field("row", pa.int64())])
    for table in tables:
        try:
            found = pa.unify_schemas([found, _schema_of(pa, table)], promote_options="default")
        except pa.ArrowException as err:
            reason = f"its columns do not fit those before: {_line(err)}"
            raise BatchInputError(table.path, f"{reason}; let --out be a .jsonl file") from err
    if QUESTION not in found.names:
        found = found.append(pa.field(QUESTION, pa.string()))
    for name, kind in answer_types(value).items():
        found = found.append(pa.field(name, kind))
    return found


def answer_types(value: str) -> dict[str, Any]:
    """Return the types of the fields of an answer, and of what is told beside it.

    Args:
        value: the type of ``value``: string, bool or double.

    Raises:
        MissingExtraError: pyarrow is not installed.
    """
    pa = import_pyarrow()
    text = pa.string()
    stages = pa.struct([pa.field(stage, text) for stage in _STAGES])
    error = pa.struct([pa.field("type", text), pa.field("message", text)])
    double = pa.float64()
    token = pa.struct([pa.field("text", text), pa.field("logprob", double)])
    sure = [pa.field(name, double) for name in _CONFIDENCE] + [pa.field("doubt", text)]
    return {
        "text": text,
        "extraction": text,
        "reasoning": text,
        "details": pa.list_(text),
        "value": {"string": text, "bool": pa.bool_(), "double": double}[value],
        "shares": pa.map_(text, double),
        "logprobs": pa.list_(token),
        "confidence": pa.struct(sure),
        "finish_reasons": stages,
        "seconds": double,
        "picture_sha256": text,
        "error": error,
    }


def answer_cell(value: Any, field: Any) -> Any:
    """Return a field of an answer as Parquet and Arrow hold it.

    Args:
        value: of the field.
        field: its name and type.
    """
    if value is None:
        return None
    if field.name == "error":  # a path in its message may hold what is no text
        return {
            key: text.encode("utf-8", "backslashreplace").decode() for key, text in value.items()
        }
    if field.name == "shares":
        return list(value.items())
    return _text(value) if field.name == "value" and str(field.type) == "string" else value


def write_parquet(
    path: Path,
    schema: Any,
    tables: Sequence[Table],
    asked: Callable[[object], object],
    answer: Callable[[int], Mapping[str, Any]],
) -> None:
    """Write the output, whole or not at all.

    Args:
        path: where.
        schema: from `plan_schema`.
        tables: of the input.
        asked: returns the question of a row, given what its table has.
        answer: returns the fields of a row.

    Raises:
        OSError: the operating system refuses.
    """
    pa = import_pyarrow()
    first = 0
    with (
        atomic_write(path) as draft,
        draft.open("wb") as file,  # pyarrow takes no path that is no text
        pa.parquet.ParquetWriter(file, schema) as writer,
    ):
        for table in tables:
            for start in range(0, len(table), _ROWS_AT_ONCE):
                count = min(_ROWS_AT_ONCE, len(table) - start)
                columns = _columns_of(pa, table, start, count, schema)
                written = columns.get(QUESTION, [None] * count)
                questions = [_text(asked(_value(each))) for each in written]
                columns[QUESTION] = pa.array(questions, pa.string())
                rows = [answer(row) for row in range(first + start, first + start + count)]
                arrays = [_array(pa, field, columns, rows) for field in schema]
                writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
            first += len(table)


def _schema_of(pa: Any, table: Table) -> Any:
    if isinstance(table, ParquetTable):
        text = pa.field(QUESTION, pa.string())
        fields = [field.with_nullable(True) for field in table.columns_table.schema]
        return pa.schema([text if field.name == QUESTION else field for field in fields])
    assert isinstance(table, ListTable)
    return pa.schema([pa.field(name, _type_of(pa, table, name)) for name in table.names])


def _type_of(pa: Any, table: ListTable, name: str) -> Any:
    """Return the type of a column of text or JSON; where there is nothing, text."""
    values = [_cell(row.get(name), name) for row in table.rows]
    try:
        kind = pa.array(values).type
    except (pa.ArrowException, OverflowError, UnicodeError) as err:
        reason = f"the column {name!r} has no one type that Parquet knows: {_line(err)}"
        raise BatchInputError(table.path, f"{reason}; let --out be a .jsonl file") from err
    if _has_empty_struct(pa, kind):
        reason = f"the column {name!r} has objects without keys, which Parquet cannot hold"
        raise BatchInputError(table.path, f"{reason}; let --out be a .jsonl file")
    return pa.string() if pa.types.is_null(kind) else kind


def _has_empty_struct(pa: Any, kind: Any) -> bool:
    if pa.types.is_list(kind):
        return _has_empty_struct(pa, kind.value_type)
    if not pa.types.is_struct(kind):
        return False
    return kind.num_fields == 0 or any(_has_empty_struct(pa, field.type) for field in kind)


def _columns_of(pa: Any, table: Table, start: int, count: int, schema: Any) -> dict[str, Any]:
    if isinstance(table, ParquetTable):
        part = table.columns_table.slice(start, count)
        return {
            name: part.column(name)
            if name == QUESTION
            else part.column(name).cast(schema.field(name).type)
            for name in part.column_names
        }
    assert isinstance(table, ListTable)
    rows = table.rows[start : start + count]
    return {
        name: pa.array([_cell(row.get(name), name) for row in rows], schema.field(name).type)
        for name in table.names
    }


def _array(
    pa: Any, field: Any, columns: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]
) -> Any:
    """Return a column of the output, from the input or from the answers."""
    if field.name in columns:
        return columns[field.name]
    if field.name in rows[0]:
        return pa.array([answer_cell(row[field.name], field) for row in rows], field.type)
    return pa.nulls(len(rows), field.type)


def _cell(value: object, name: str) -> object:
    """Return a value as it is, or as text in the columns that are text."""
    return _text(value) if name in (IMAGE, QUESTION) else value


def _text(value: object) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value, default=str)


def _value(value: Any) -> object:
    return value.as_py() if hasattr(value, "as_py") else value


def _plain(value: object) -> object:
    """Return a value of Arrow as one of JSON."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, float) and (value != value or value in (float("inf"), -float("inf"))):
        return None
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def _is_text(pa: Any, kind: Any) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_bytes(pa: Any, kind: Any) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _line(err: Exception) -> str:
    return " ".join(str(err).split())
