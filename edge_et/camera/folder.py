"""A folder that pictures are put into, by a camera's FTP upload for instance.

In: a folder. Out: the newest picture in it, and those that appear, in the order in which they were
finished. Files that are still being written wait. Nothing is deleted.
"""

import os
import stat
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from time import monotonic, thread_time
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

_REST_FACTOR = 4.0
"""Between two looks so many times the CPU time of one: 100,000 files take most of a second."""

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
    """Give the pictures of a folder, forever; of those that are there at the start, the newest.

    Args:
        folder: is looked at four times a second, or less often where that takes long.
        stop: ends it.

    Raises:
        CameraError: the folder cannot be read any more.
    """
    # Hashes, since there may be many files; not times, since clocks are set back.
    given = _all_but_the_newest(folder)
    waiting: dict[_State, float] = {}
    while not stop.is_cancelled:
        begun_s = thread_time()
        there, found = set(), []
        for state in _states(folder):
            there.add(hash(state))
            if hash(state) not in given:
                found.append(state)
        given &= there
        now = monotonic()
        waiting = {state: waiting.get(state, now) for state in sorted(found)}
        for state, since in waiting.items():
            path = folder / state.name
            if since < now and (now - since > PATIENCE_S or _has_end(path)):
                given.add(hash(state))
                yield partial(decode_picture, path)
        pause(max(POLL_S, _REST_FACTOR * (thread_time() - begun_s)), stop)


def _all_but_the_newest(folder: Path) -> set[int]:
    """Return the hashes of the pictures that are there, but for the one that changed last."""
    newest, there = None, set()
    for state in _states(folder):
        there.add(hash(state))
        newest = state if newest is None else max(newest, state)
    there.discard(hash(newest))
    return there


def _states(folder: Path) -> Iterator[_State]:
    """Yield the pictures of a folder, in any order."""
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                suffix = os.path.splitext(entry.name)[1]
                if entry.name.startswith(".") or suffix.lower() not in _SUFFIXES:
                    continue
                try:
                    status = entry.stat()
                except OSError:  # was deleted meanwhile
                    continue
                if stat.S_ISREG(status.st_mode):  # to read a pipe would wait for a writer
                    yield _State(status.st_ctime_ns, entry.name, status.st_size)
    except OSError as err:
        raise CameraError(str(folder), f"cannot be read: {err.strerror or err}") from err


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
