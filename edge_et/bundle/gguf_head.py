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

from edge_et.errors import ModelFileError, UnreadableFileError

MAGIC: Final = b"GGUF"

_VERSIONS = (2, 3)
_ALIGNMENT = 32  # unless general.alignment says otherwise
_MOST_DIMENSIONS = 4
_MOST_LAYERS = 1024

_STRING, _ARRAY, _BOOL = 8, 9, 7
_UINT32, _INT32, _FLOAT32 = 4, 5, 6
_FORMATS = {
    0: "<B",
    1: "<b",
    2: "<H",
    3: "<h",
    _UINT32: "<I",
    _INT32: "<i",
    _FLOAT32: "<f",
    _BOOL: "<B",
    10: "<Q",
    11: "<q",
    12: "<d",
}

_LENGTH = struct.Struct("<Q")  # of a text, before its bytes

_ARCHITECTURES = (b"llama", b"qwen2", b"qwen3")
_COUNTS = (
    "block_count",
    "context_length",
    "embedding_length",
    "feed_forward_length",
    "attention.head_count",
)
_OPTIONAL_COUNTS = (
    "attention.head_count_kv",
    "attention.key_length",
    "attention.value_length",
    "rope.dimension_count",
    "vocab_size",
)


@dataclass(frozen=True, slots=True)
class _Value:
    """A value of the metadata: a number, text as bytes, or a list; None: one of many numbers."""

    kind: int
    content: Any
    item_kind: int | None = None
    count: int = 0


class _DamagedError(Exception):
    """What is wrong, for the message."""


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
        values: the numbers and texts of the metadata, and lists of numbers as short as one for each
            layer; None stands for any other list.
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
    except (_DamagedError, ValueError) as err:  # ValueError: an empty file cannot be mapped
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
            raise _DamagedError("it does not begin with GGUF")
        self._at = len(MAGIC)
        if (version := self._number("<I")) not in _VERSIONS:
            raise _DamagedError(f"version {version}, expected one of {_VERSIONS}")
        count, keys = self._count(), self._count()
        values: dict[bytes, _Value] = {}
        begin = self._at
        for _ in range(keys):
            key = self._string()
            if not key or key in values:
                raise _DamagedError(f"the key {_shown(key)} is empty or there twice")
            values[key] = self._value(self._number("<I"))
        metadata = slice(begin, self._at)
        entries: dict[bytes, tuple[list[int], int, int]] = {}
        for _ in range(count):
            name = self._string()
            if not name or name in entries:
                raise _DamagedError(f"the tensor {_shown(name)} has no name or is there twice")
            entries[name] = self._tensor(name)
        alignment = self._alignment(values)
        end = -(-self._at // alignment) * alignment
        for _, _, offset in entries.values():
            if offset % alignment or end + offset >= self._size:
                raise _DamagedError(f"a tensor begins at {end + offset} of {self._size} bytes")
        if (architecture := values.get(b"general.architecture")) is None:
            raise _DamagedError("it names no architecture")
        if (parts := values.get(b"split.count")) is not None and parts.content != 1:
            raise _DamagedError("it is a part of a model in several files: merge them first")
        kind = values.get(b"general.type")
        is_model = kind is None or kind.content == b"model"
        if architecture.content in _ARCHITECTURES and is_model:
            _check_sizes(values, architecture.content)
            _check_vocabulary(values)
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
            raise _DamagedError("it ends within its metadata") from err
        self._at += struct.calcsize(form)
        return value

    def _count(self) -> int:
        """Read how many things follow; each takes a byte or more."""
        count: int = self._number("<Q")
        if count > self._size - self._at:
            raise _DamagedError(f"{count} entries or bytes are announced and are not there")
        return count

    def _string(self) -> bytes:
        size = self._count()
        self._at += size
        text: bytes = self._data[self._at - size : self._at]
        if b"\0" in text:  # llama.cpp takes texts up to there
            raise _DamagedError(f"the text {_shown(text)} holds a null character")
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
                    raise _DamagedError(f"a text of {size} bytes is announced and is not there")
                texts.append(data[begin:at])
        except struct.error as err:
            raise _DamagedError("it ends within its metadata") from err
        if b"\0" in b"".join(texts):
            text = next(text for text in texts if b"\0" in text)
            raise _DamagedError(f"the text {_shown(text)} holds a null character")
        self._at = at
        return texts

    def _value(self, kind: int) -> _Value:
        if kind == _STRING:
            return _Value(kind, self._string())
        if kind == _ARRAY:
            return self._array()
        return _Value(kind, self._number(_format(kind)))

    def _array(self) -> _Value:
        kind, count = self._number("<I"), self._count()
        if kind == _STRING:
            return _Value(_ARRAY, self._strings(count), kind, count)
        size = count * struct.calcsize(_format(kind))
        if size > self._size - self._at:
            raise _DamagedError(f"an array of {count} numbers is announced and is not there")
        content = None
        if count <= _MOST_LAYERS:
            form = f"<{count}{_format(kind)[-1]}"
            content = list(struct.unpack_from(form, self._data, self._at))
        self._at += size
        return _Value(_ARRAY, content, kind, count)

    def _tensor(self, name: bytes) -> tuple[list[int], int, int]:
        """Read a tensor's entry: sides, type, and where its values begin behind the head."""
        dimensions = self._number("<I")
        if not 1 <= dimensions <= _MOST_DIMENSIONS:
            raise _DamagedError(f"the tensor {_shown(name)} has {dimensions} dimensions")
        sides = [self._number("<Q") for _ in range(dimensions)]
        kind: int = self._number("<I")  # which llama.cpp knows better
        # A type takes a hundredth of a byte a number at the very least.
        if not 1 <= math.prod(sides) <= 100 * self._size:
            raise _DamagedError(f"the tensor {_shown(name)} has the shape {sides}")
        return sides, kind, self._number("<Q")

    def _alignment(self, values: dict[bytes, _Value]) -> int:
        alignment = values.get(b"general.alignment", _Value(_UINT32, _ALIGNMENT))
        size = alignment.content
        if alignment.kind != _UINT32 or size < 1 or size & (size - 1):
            raise _DamagedError(f"its general.alignment is {size}")
        return int(size)


def _format(kind: int) -> str:
    if kind not in _FORMATS:
        raise _DamagedError(f"a value of type {kind}, which there is not")
    return _FORMATS[kind]


def _check_sizes(values: dict[bytes, _Value], architecture: bytes) -> None:
    """Check the numbers that llama.cpp divides by and allocates for."""

    def count(key: str, default: int | None = None) -> int:
        name = architecture + b"." + key.encode()
        value = values.get(name)
        if value is None and default is not None:
            return default
        if value is None or value.kind != _UINT32 or value.content < 1:
            found = "missing" if value is None else value.content
            raise _DamagedError(f"its {_shown(name)} is {found}")
        return int(value.content)

    for key in _COUNTS:
        count(key)
    for key in _OPTIONAL_COUNTS:
        count(key, 1)
    width, heads = count("embedding_length"), count("attention.head_count")
    head_width = count("attention.key_length", width // heads)
    rotated = count("rope.dimension_count", head_width)
    if heads % count("attention.head_count_kv", heads) or not 2 <= rotated <= head_width:
        raise _DamagedError(f"its {heads} heads of {head_width} values do not fit together")
    for key in ("attention.layer_norm_rms_epsilon", "rope.freq_base"):
        value = values.get(architecture + b"." + key.encode(), _Value(_FLOAT32, 1.0))
        if value.kind != _FLOAT32 or not 0 < value.content < math.inf:
            raise _DamagedError(f"its {key} is {value.content}")


def _check_vocabulary(values: dict[bytes, _Value]) -> None:
    """Check the lists that llama.cpp walks side by side."""
    lists = {
        name: values.get(f"tokenizer.ggml.{name}".encode())
        for name in ("tokens", "token_type", "scores", "merges")
    }
    tokens = lists["tokens"]
    if tokens is None or tokens.item_kind != _STRING or not tokens.count:
        raise _DamagedError("it has no list of tokens")
    if len(set(tokens.content)) < tokens.count:
        raise _DamagedError("a token is there twice")
    for name, kind in (("token_type", _INT32), ("scores", _FLOAT32)):
        found = lists[name]
        if found is not None and (found.item_kind, found.count) != (kind, tokens.count):
            raise _DamagedError(f"its {name} does not go with its {tokens.count} tokens")
    merges = lists["merges"]
    if merges is not None and (
        merges.item_kind != _STRING or any(b" " not in merge[1:-1] for merge in merges.content)
    ):
        raise _DamagedError("a merge has no two parts")


def _plain(value: _Value) -> Any:
    if value.kind == _ARRAY:
        return None if value.item_kind == _STRING else value.content
    return _text(value.content) if value.kind == _STRING else value.content


def _text(content: bytes) -> str:
    return content.decode(errors="replace")


def _shown(name: bytes) -> str:
    return ascii(name[:64].decode(errors="replace"))
