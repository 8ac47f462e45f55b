"""Which files an ONNX graph reads beside itself, and whether the manifest vouches for them.

In: a graph's path, and the file of weights that the manifest names. Out: nothing, or an error. ONNX
Runtime follows every location that a tensor names, so none may be named that was not verified.
The walk goes over the sizes of protobuf's messages, and reads no weights.
"""

import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from edge_et.errors import ModelFileError, UnreadableFileError

# Of each message of onnx.proto the fields that lead to tensors, and what lies there.
_INNER: Final[dict[str, dict[int, str]]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {
        5: "tensor",
        6: "graph",
        10: "tensor",
        11: "graph",
        22: "sparse",
        23: "sparse",
    },
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
}
_KEY, _VALUE = 1, 2  # of an entry
_LOCATION = b"location"
_VARINT, _EIGHT_BYTES, _SIZED, _FOUR_BYTES = 0, 1, 2, 5
_FIXED = {_EIGHT_BYTES: 8, _FOUR_BYTES: 4}
_MOST_VARINT_BYTES = 10


class _DamagedError(Exception):
    """What is wrong, for the message."""


def check_graph_files(graph: Path, weights: Path | None = None) -> None:
    """Check that a graph reads no file but the one that the manifest names.

    Args:
        graph: the ONNX file.
        weights: the file of its weights; None: it has to hold them all.

    Raises:
        ModelFileError: it is no ONNX graph, or reads another file; or the weights lie where ONNX
            Runtime refuses to look for them.
        UnreadableFileError: the graph cannot be read.
    """
    try:
        with (
            graph.open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
        ):
            locations = set(_locations(data))
    except (_DamagedError, ValueError) as err:  # ValueError: an empty file cannot be mapped
        raise ModelFileError(graph, f"it is no ONNX graph: {err}; get it again") from err
    except OSError as err:
        raise UnreadableFileError(graph, err.strerror or str(err)) from err
    known = set() if weights is None else {weights.name.encode()}
    if unknown := sorted(locations - known):
        raise ModelFileError(
            graph,
            f"it reads the file {unknown[0].decode(errors='replace')!a}, which the manifest "
            "does not name as the graph's weights: build the bundle again",
        )
    if weights is not None:
        _check_place(graph, weights)


def _check_place(graph: Path, weights: Path) -> None:
    """Refuse weights that lie outside the graph's folder, that of its link or that of its file."""
    real = weights.resolve()
    folders = (graph.parent.resolve(), graph.resolve().parent)
    if not any(real.is_relative_to(folder) for folder in folders):
        raise ModelFileError(
            weights,
            f"it is a link to {real}, outside the folder of {graph.name}, where ONNX Runtime reads "
            "nothing: put the file itself there",
        )


def _locations(data: mmap.mmap) -> Iterator[bytes]:
    """Yield the location of every external tensor of a model.

    Messages without that word are passed over: most nodes and tensors, in a hundredth of the time.
    """
    todo = [("model", 0, len(data))]
    while todo:
        message, start, end = todo.pop()
        inner = _INNER[message]
        for field, at, stop in _sized_fields(data, start, end):
            kind = inner.get(field)
            if kind == "entry":
                entry = {number: data[a:b] for number, a, b in _sized_fields(data, at, stop)}
                if entry.get(_KEY) == _LOCATION:
                    yield entry.get(_VALUE, b"")
            elif kind is not None and data.find(_LOCATION, at, stop) >= 0:
                todo.append((kind, at, stop))


def _sized_fields(data: mmap.mmap, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield number, start and end of the fields of a message that are messages, texts or bytes."""
    while at < end:
        key, at = _varint(data, at, end)
        wire = key & 7
        if wire == _SIZED:
            size, at = _varint(data, at, end)
            if size > end - at:
                raise _DamagedError("a part of it is cut off")
            yield key >> 3, at, at + size
            at += size
        elif wire == _VARINT:
            _, at = _varint(data, at, end)
        elif wire in _FIXED:
            at += _FIXED[wire]
        else:
            raise _DamagedError("it holds what no ONNX file holds")
    if at != end:
        raise _DamagedError("a part of it does not end where it should")


def _varint(data: mmap.mmap, at: int, end: int) -> tuple[int, int]:
    """Read a number of seven bits a byte; return it, and where the next thing begins."""
    if at < end and (value := data[at]) < 128:  # as nearly all of them
        return value, at + 1
    value = 0
    for index in range(min(_MOST_VARINT_BYTES, end - at)):
        byte = data[at + index]
        value |= (byte & 127) << (7 * index)
        if byte < 128:
            return value, at + index + 1
    raise _DamagedError("it is cut off")
