"""Read an ONNX file without its weights, which stay where they lie in it.

In: a path. Out: the message without the bytes of large tensors, and where each of them is. onnx's
own reader holds all weights twice while it parses them.
"""

import mmap
from collections.abc import Iterator
from pathlib import Path

import onnx

from edge_et.export.vision.onnx_writer import field_start

# Numbers of fields in onnx.proto.
_GRAPH_OF_MODEL = 7
_INITIALIZER_OF_GRAPH = 5
_NAME_OF_TENSOR, _RAW_DATA_OF_TENSOR = 8, 9

_LARGE_BYTES = 1024
_VARINT, _EIGHT_BYTES, _SIZED, _FOUR_BYTES = 0, 1, 2, 5
_FIXED = {_EIGHT_BYTES: 8, _FOUR_BYTES: 4}

Place = tuple[int, int]
"""Offset and length in a file, bytes."""


def read_frame(path: Path) -> tuple[onnx.ModelProto, dict[str, Place]]:
    """Read a file.

    Args:
        path: the ONNX file.

    Returns:
        The message, and where the bytes are that large initializers of its graph lack, by name.

    Raises:
        OSError: it cannot be read.
        ValueError: it is empty, or no message.
        google.protobuf.message.DecodeError: likewise.
    """
    places: dict[str, Place] = {}
    with (
        path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
    ):
        model = bytearray()
        for number, start, at, stop in _fields(data, 0, len(data)):
            if number != _GRAPH_OF_MODEL:
                model += data[start:stop]
                continue
            graph = bytearray()
            for inner, begin, inside, end in _fields(data, at, stop):
                if inner == _INITIALIZER_OF_GRAPH and end - inside > _LARGE_BYTES:
                    tensor = _without_data(data, inside, end, places)
                    graph += field_start(inner, len(tensor)) + tensor
                else:
                    graph += data[begin:end]
            model += field_start(number, len(graph)) + graph
    return onnx.ModelProto.FromString(bytes(model)), places


def _without_data(data: mmap.mmap, at: int, end: int, places: dict[str, Place]) -> bytes:
    """Return a tensor without its raw data, whose place is noted."""
    tensor, name, place = bytearray(), "", None
    for number, start, inside, stop in _fields(data, at, end):
        if number == _RAW_DATA_OF_TENSOR:
            place = inside, stop - inside
            continue
        if number == _NAME_OF_TENSOR:
            name = data[inside:stop].decode()
        tensor += data[start:stop]
    if place is not None:
        places[name] = place
    return bytes(tensor)


def _fields(data: mmap.mmap, at: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield number, start, start of the content and end of each field of a message."""
    while at < end:
        start = at
        key, at = _varint(data, at, end)
        wire, inside = key & 7, at
        if wire == _SIZED:
            size, inside = _varint(data, at, end)
            at = inside + size
        elif wire == _VARINT:
            _, at = _varint(data, at, end)
        elif wire in _FIXED:
            at += _FIXED[wire]
        else:
            raise ValueError("a field of no known kind")
        if at > end:
            raise ValueError("a part of it is cut off")
        yield key >> 3, start, inside, at


def _varint(data: mmap.mmap, at: int, end: int) -> tuple[int, int]:
    value = 0
    for index, place in enumerate(range(at, min(end, at + 10))):
        value |= (data[place] & 0x7F) << 7 * index
        if data[place] < 0x80:
            return value, place + 1
    raise ValueError("a number is cut off")
