"""A folder that pictures are put into, by a camera's FTP upload for instance.

In: a folder. Out: its pictures, in the order in which they were finished, and those that appear.
Files that are still being written wait. Nothing is deleted.
"""

import os
from functools import partial
from pathlib import Path
from time import monotonic
from typing import NamedTuple

from edge_et.camera.frames import decode_picture
from edge_et.camera.latest_frame import Frames
from edge_et.camera.pauses import pause
from edge_et.cancellation import CancelToken
from edge_et.errors import CameraError

POLL_S = 0.25
"""A file that has not changed between two looks is taken to be finished."""

PATIENCE_S = 10.0
"""So long waits a JPEG or PNG whose end is missing."""

_SUFFIXES = frozenset(
    ".bmp .gif .heic .jpeg .jpg .png .ppm .tif .tiff .webp".split()  # noqa: SIM905
)

_TAIL_BYTES = 1024
_ENDS = {b"\xff\xd8": b"\xff\xd9", b"\x89P": b"IEND"}
"""What files of a format end with, by how they begin; cameras put some bytes behind it."""


class _State(NamedTuple):
    """Of a file; times of change are those of the inode, which a copy with its old date sets."""

    changed_ns: int
    name: str
    size_bytes: int


def read_folder(folder: Path, stop: CancelToken) -> Frames:
    """Give the pictures of a folder, forever.

    Args:
        folder: is looked at four times a second.
        stop: ends it.

    Raises:
        CameraError: the folder cannot be read any more.
    """
    given = _State(-1, "", 0)
    waiting: dict[_State, float] = {}
    while not stop.is_cancelled:
        found = _newer_than(given, folder)
        now = monotonic()
        waiting = {state: waiting.get(state, now) for state in found}
        for state, since in waiting.items():
            path = folder / state.name
            if since < now and (now - since > PATIENCE_S or _has_end(path)):
                given = max(given, state)
                yield partial(decode_picture, path)
        pause(POLL_S, stop)


def _newer_than(given: _State, folder: Path) -> list[_State]:
    """Return the pictures that changed behind the one that was given last, the oldest first."""
    found = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith(".") or Path(entry.name).suffix.lower() not in _SUFFIXES:
                    continue
                try:
                    status = entry.stat()
                except OSError:  # was deleted meanwhile
                    continue
                state = _State(status.st_ctime_ns, entry.name, status.st_size)
                if state > given:
                    found.append(state)
    except OSError as err:
        raise CameraError(str(folder), f"cannot be read: {err.strerror or err}") from err
    return sorted(found)


def _has_end(path: Path) -> bool:
    """Return whether the end of a picture is there, where its format has one."""
    try:
        with path.open("rb") as file:
            end = _ENDS.get(file.read(2))
            size = file.seek(0, os.SEEK_END)
            if end is None:
                return size > 0
            file.seek(max(0, size - _TAIL_BYTES))
            return end in file.read(_TAIL_BYTES)
    except OSError:
        return False
