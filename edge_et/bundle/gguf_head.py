"""What stands before the tensors of a GGUF: whether it is whole, and where it ends.

In: a GGUF. Out: what its head says, which is its header, metadata and list of tensors. llama.cpp
ends the process over some damaged heads, so it is given none that nobody vouches for: what it
takes for granted in models of our architectures is looked at here. Tensors are not read.
"""

import math
import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from edge_et.bundle.gguf_sizes import ARCHITECTURES, check_sizes, check_vocabulary
from edge_et.bundle.gguf_values import (
    ARRAY,
    BOOL,
    FLOAT32,
    INT32,
    STRING,
    UINT32,
    DamagedError,
    Value,
    shown,
)
from edge_et.errors import ModelFileError, UnreadableFileError

MAGIC: Final = b"GGUF"

_VERSIONS = (2, 3)
_ALIGNMENT = 32  # unless general.alignment says otherwise
_MOST_DIMENSIONS = 4

_FORMATS = {
    0: "<B",
    1: "<b",
    2: "<H",
    3: "<h",
    UINT32: "<I",
    INT32: "<i",
    FLOAT32: "<f",
    BOOL: "<B",
    10: "<Q",
    11: "<q",
    12: "<d",
}

_LENGTH = struct.Struct("<Q")  # of a text, before its bytes

_LONGEST_KEPT = 1024
"""Numbers of an array that are kept: there is one for each layer in the longest that matter."""


@dataclass(frozen=True, slots=True)
class GgufTensor:
    """A tensor of a GGUF.

    Attributes:
        name: its name.
        shape: as of an array in C order: rows first.
        kind: ggml's number of its type.
        start: of its values, bytes from the beginning of the file.
    """

    name: str
    shape: tuple[int, ...]
    kind: int
    start: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GgufHead:
    """What stands before the values of a GGUF.

    Attributes:
        size_bytes: of the head, up to the first tensor.
        version: of the format.
        alignment: tensors begin at multiples of it, bytes.
        key_count: keys of the metadata.
        values: the numbers and texts of the metadata, and lists of up to 1024 numbers as tuples;
            None stands for another list.
        metadata: where the bytes of the metadata lie, behind the two counts.
        tensors: in their order.
    """

    size_bytes: int
    version: int
    alignment: int
    key_count: int
    values: Mapping[str, Any]
    metadata: slice
    tensors: tuple[GgufTensor, ...]


def check_gguf(path: Path) -> int:
    """Check the head of a GGUF.

    Args:
        path: the file, a model or an adapter.

    Returns:
        Bytes before the first tensor.

    Raises:
        ModelFileError: as for `read_gguf`.
        UnreadableFileError: it cannot be read.
    """
    return read_gguf(path).size_bytes


def read_gguf(path: Path) -> GgufHead:
    """Read the head of a GGUF and check it.

    Args:
        path: the file, a model or an adapter.

    Raises:
        ModelFileError: it is no GGUF, or its head is damaged; the message tells where.
        UnreadableFileError: it cannot be read.
    """
    if not path.is_file():  # opening a pipe would wait for somebody who writes
        raise ModelFileError(path, "there is no such file")
    try:
        with (
            path.open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
        ):
            return _Head(data).read()
    except (DamagedError, ValueError) as err:  # ValueError: an empty file cannot be mapped
        raise ModelFileError(path, f"it is no whole GGUF: {err}; get it again") from err
    except OSError as err:
        raise UnreadableFileError(path, err.strerror or str(err)) from err


def is_gguf(path: Path) -> bool:
    """Return whether a file begins as a GGUF does."""
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


class _Head:
    """A cursor over a GGUF."""

    def __init__(self, data: mmap.mmap) -> None:
        self._data = data
        self._size = len(data)
        self._at = 0

    def read(self) -> GgufHead:
        """Walk over everything."""
        if self._data[: len(MAGIC)] != MAGIC:
            raise DamagedError("it does not begin with GGUF")
        self._at = len(MAGIC)
        if (version := self._number("<I")) not in _VERSIONS:
            raise DamagedError(f"version {version}, expected one of {_VERSIONS}")
        count, keys = self._count(), self._count()
        values: dict[bytes, Value] = {}
        begin = self._at
        for _ in range(keys):
            key = self._string()
            if not key or key in values:
                raise DamagedError(f"the key {shown(key)} is empty or there twice")
            values[key] = self._value(self._number("<I"))
        metadata = slice(begin, self._at)
        entries: dict[bytes, tuple[list[int], int, int]] = {}
        for _ in range(count):
            name = self._string()
            if not name or name in entries:
                raise DamagedError(f"the tensor {shown(name)} has no name or is there twice")
            entries[name] = self._tensor(name)
        alignment = self._alignment(values)
        end = -(-self._at // alignment) * alignment
        for _, _, offset in entries.values():
            if offset % alignment or end + offset >= self._size:
                raise DamagedError(f"a tensor begins at {end + offset} of {self._size} bytes")
        if (architecture := values.get(b"general.architecture")) is None:
            raise DamagedError("it names no architecture")
        if (parts := values.get(b"split.count")) is not None and parts.content != 1:
            raise DamagedError("it is a part of a model in several files: merge them first")
        kind = values.get(b"general.type")
        is_model = kind is None or kind.content == b"model"
        if architecture.content in ARCHITECTURES and is_model:
            check_sizes(values, architecture.content)
            check_vocabulary(values)
        return GgufHead(
            size_bytes=end,
            version=version,
            alignment=alignment,
            key_count=keys,
            values={_text(key): _plain(value) for key, value in values.items()},
            metadata=metadata,
            tensors=tuple(
                GgufTensor(_text(name), tuple(reversed(sides)), kind, end + offset)
                for name, (sides, kind, offset) in entries.items()
            ),
        )

    def _number(self, form: str) -> Any:
        try:
            (value,) = struct.unpack_from(form, self._data, self._at)
        except struct.error as err:
            raise DamagedError("it ends within its metadata") from err
        self._at += struct.calcsize(form)
        return value

    def _count(self) -> int:
        """Read how many things follow; each takes a byte or more."""
        count: int = self._number("<Q")
        if count > self._size - self._at:
            raise DamagedError(f"{count} entries or bytes are announced and are not there")
        return count

    def _string(self) -> bytes:
        size = self._count()
        self._at += size
        text: bytes = self._data[self._at - size : self._at]
        if b"\0" in text:  # llama.cpp takes texts up to there
            raise DamagedError(f"the text {shown(text)} holds a null character")
        return text

    def _strings(self, count: int) -> list[bytes]:
        """Read texts in a row, a vocabulary's for the most part: a hundred thousand of them."""
        unpack, data, at, texts = _LENGTH.unpack_from, self._data, self._at, []
        try:
            for _ in range(count):
                begin = at + _LENGTH.size
                at = begin + unpack(data, at)[0]
                if at > self._size:
                    size = at - begin
                    raise DamagedError(f"a text of {size} bytes is announced and is not there")
                texts.append(data[begin:at])
        except struct.error as err:
            raise DamagedError("it ends within its metadata") from err
        if b"\0" in b"".join(texts):
            text = next(text for text in texts if b"\0" in text)
            raise DamagedError(f"the text {shown(text)} holds a null character")
        self._at = at
        return texts

    def _value(self, kind: int) -> Value:
        if kind == STRING:
            return Value(kind, self._string())
        if kind == ARRAY:
            return self._array()
        return Value(kind, self._number(_format(kind)))

    def _array(self) -> Value:
        kind, count = self._number("<I"), self._count()
        if kind == STRING:
            return Value(ARRAY, self._strings(count), kind, count)
        size = count * struct.calcsize(_format(kind))
        if size > self._size - self._at:
            raise DamagedError(f"an array of {count} numbers is announced and is not there")
        self._at += size
        numbers = None
        if count <= _LONGEST_KEPT:
            form = f"<{count}{_format(kind)[1:]}"
            numbers = struct.unpack(form, self._data[self._at - size : self._at])
        return Value(ARRAY, numbers, kind, count)

    def _tensor(self, name: bytes) -> tuple[list[int], int, int]:
        """Read a tensor's entry: sides, type, and where its values begin behind the head."""
        dimensions = self._number("<I")
        if not 1 <= dimensions <= _MOST_DIMENSIONS:
            raise DamagedError(f"the tensor {shown(name)} has {dimensions} dimensions")
        sides = [self._number("<Q") for _ in range(dimensions)]
        kind: int = self._number("<I")  # which llama.cpp knows better
        # A type takes a hundredth of a byte a number at the very least.
        if not 1 <= math.prod(sides) <= 100 * self._size:
            raise DamagedError(f"the tensor {shown(name)} has the shape {sides}")
        return sides, kind, self._number("<Q")

    def _alignment(self, values: dict[bytes, Value]) -> int:
        alignment = values.get(b"general.alignment", Value(UINT32, _ALIGNMENT))
        size = alignment.content
        if alignment.kind != UINT32 or size < 1 or size & (size - 1):
            raise DamagedError(f"its general.alignment is {size}")
        return int(size)


def _format(kind: int) -> str:
    if kind not in _FORMATS:
        raise DamagedError(f"a value of type {kind}, which there is not")
    return _FORMATS[kind]


def _plain(value: Value) -> Any:
    if value.item_kind == STRING:
        return None
    return _text(value.content) if value.kind == STRING else value.content


def _text(content: bytes) -> str:
    return content.decode(errors="replace")
