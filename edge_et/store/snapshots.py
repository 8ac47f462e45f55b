"""Snapshots: results worth more than their bytes, kept on disk so that they survive the process.

In: bytes under a key that tells all they depend on. Out: the same bytes, or nothing. What they mean
is not known here: see `edge_et.image.encoder` and `edge_et.llm.image_prompt_cache`.

An entry is a file whose name is its key. Nothing in it is believed before its checksum agrees; what
does not agree is deleted, and made again by whoever wanted it. So no write waits for the disk, and
no file is locked: a power cut or another process costs an entry at most. The disk never fails an
answer: where it cannot be used, that is logged once, and everything goes on without.

The checksum finds damage, not malice: whoever may write to the folder can forge an entry. It is
made for its owner alone, also since entries tell much about a picture.
"""

import hashlib
import json
import logging
import os
import re
import shutil
import struct
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from stat import S_ISREG
from threading import Thread

import numpy as np
from numpy.typing import NDArray

from edge_et.foreign_errors import raised_by
from edge_et.native_threads import THREAD_PREFIX
from edge_et.store.files import PARTIAL_PREFIX, atomic_write

logger = logging.getLogger(__name__)

_FORMAT = 2
"""Counted up whenever an entry is to be read, or its content to be made, in another way."""

_HEADER = struct.Struct("<16s32sQ32s")  # magic, key, size and SHA-256 of what follows
_MAGIC = b"edge-et snapshot"
_NAME = re.compile(r"[0-9a-f]{64}\.snapshot")

# Of the budget; so several pictures have room, and no copy in memory is larger.
_LARGEST_SHARE = 4

_PARTIAL_AGE_S = 3600.0  # no write takes as long: whoever began it is dead


class SnapshotStore:
    """A folder of entries, up to a number of bytes; several processes may share it."""

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        """Touch nothing yet.

        Args:
            folder: holds entries and nothing else; it is made when the first one is written.
            limit_bytes: most bytes of all entries. No entry may have more than a quarter of them.
        """
        self._folder = folder
        self._limit_bytes = limit_bytes
        self._told = False

    def accepts(self, size_bytes: int) -> bool:
        """Return whether an entry may have so many bytes."""
        return size_bytes + _HEADER.size <= self._limit_bytes // _LARGEST_SHARE

    def read(self, key: str) -> NDArray[np.uint8] | None:
        """Return the bytes under a key, or None where there are none that can be trusted.

        Args:
            key: 64 hexadecimal digits.

        Returns:
            [n] uint8, C-contiguous, in memory of their own.
        """
        path = self._path(key)
        try:
            status = path.lstat()
            size_bytes = status.st_size - _HEADER.size
            if not S_ISREG(status.st_mode) or size_bytes < 0 or not self.accepts(size_bytes):
                self._drop(path, "no entry, or too large for the budget")
                return None
            data = np.empty(size_bytes, np.uint8)
            with path.open("rb") as file:
                header = file.read(_HEADER.size)
                file.readinto(data.data)
        except FileNotFoundError:
            return None
        except OSError as err:
            if not raised_by(err):  # a signal's handler may raise a TimeoutError, which is one
                raise
            self._tell("read", err)
            return None
        if header != _header(key, data):
            self._drop(path, "damaged")
            return None
        with suppress(OSError):  # in a folder that is only read nothing is ever the oldest
            os.utime(path)
        return data

    def write(self, key: str, data: NDArray[np.uint8]) -> None:
        """Keep bytes, and delete the entries unused for longest if they leave no room.

        Args:
            key: 64 hexadecimal digits.
            data: [n] uint8, C-contiguous.
        """
        if not self.accepts(data.nbytes):
            return
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._make_room(_HEADER.size + data.nbytes)
            with atomic_write(self._path(key)) as partial, partial.open("wb") as file:
                file.write(_header(key, data))
                file.write(data.data)
        except OSError as err:
            if not raised_by(err):
                raise
            self._tell("written", err)

    def drop(self, key: str) -> None:
        """Delete what turned out to be of no use, if it is there."""
        self._drop(self._path(key), "of no use")

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}.snapshot"

    def _drop(self, path: Path, reason: str) -> None:
        logger.warning("deleting the snapshot %s: %s", path, reason)
        with suppress(OSError):
            path.unlink(missing_ok=True)

    def _make_room(self, size_bytes: int) -> None:
        entries = []
        for path in self._folder.iterdir():
            with suppress(FileNotFoundError):  # another process makes room too
                status = path.lstat()
                if _NAME.fullmatch(path.name) and S_ISREG(status.st_mode):
                    entries.append((status.st_mtime_ns, status.st_size, path))
                elif _is_left_behind(path.name, status.st_mtime):
                    shutil.rmtree(path, ignore_errors=True)
        total_bytes = size_bytes + sum(size for _, size, _ in entries)
        for _, size, path in sorted(entries):
            if total_bytes <= self._limit_bytes:
                break
            path.unlink(missing_ok=True)
            total_bytes -= size

    def _tell(self, what: str, err: OSError) -> None:
        level = logging.DEBUG if self._told else logging.WARNING
        self._told = True
        logger.log(
            level, "snapshots in %s cannot be %s, going on without: %s", self._folder, what, err
        )


class Snapshots:
    """What one pipeline keeps: read when it is wanted, written when nobody waits."""

    def __init__(self, store: SnapshotStore, facts: Mapping[str, object]) -> None:
        """Begin with nothing to write.

        Args:
            store: holds the entries.
            facts: what every entry depends on; values that JSON can tell.
        """
        self.store = store
        self._facts = json.dumps(facts, sort_keys=True)
        self._wanted: dict[str, Callable[[], NDArray[np.uint8] | None]] = {}
        self._writer: Thread | None = None

    def key(self, kind: str, **facts: str) -> str:
        """Return the key of an entry.

        Args:
            kind: of what it holds.
            facts: what it depends on besides the facts of all entries.
        """
        what = json.dumps([_FORMAT, kind, self._facts, facts], sort_keys=True)
        return hashlib.sha256(what.encode()).hexdigest()

    def later(self, key: str, copy: Callable[[], NDArray[np.uint8] | None]) -> None:
        """Ask for an entry to be written at the end of the call.

        Args:
            key: of the entry.
            copy: makes a copy of what it shall hold, [n] uint8; None: that is gone.
        """
        self._wanted[key] = copy

    def settle(self) -> None:
        """Copy what was asked for, and write it in the background.

        What was asked for is forgotten while the disk is still busy with what was asked for before:
        so a slow disk keeps fewer pictures, but no answer waits for it, and memory holds the copies
        of one call.
        """
        wanted, self._wanted = self._wanted, {}
        if self._writer is not None and self._writer.is_alive():
            return
        copies = {key: data for key, copy in wanted.items() if (data := copy()) is not None}
        if not copies:
            return
        writer = Thread(target=self._write, args=(copies,), name=f"{THREAD_PREFIX}snapshots")
        try:
            writer.start()
        except RuntimeError as err:  # the interpreter is about to end, and gives no threads
            if not raised_by(err):
                raise
            self._write(copies)
        else:
            self._writer = writer

    def close(self) -> None:
        """Wait until all that was asked for is written; may be called again."""
        self._wait()
        self.settle()
        self._wait()

    def _wait(self) -> None:
        if self._writer is not None:
            self._writer.join()

    def _write(self, copies: Mapping[str, NDArray[np.uint8]]) -> None:
        for key, data in copies.items():
            self.store.write(key, data)


def _is_left_behind(name: str, changed_s: float) -> bool:
    return name.startswith(PARTIAL_PREFIX) and time.time() - changed_s > _PARTIAL_AGE_S


def _header(key: str, data: NDArray[np.uint8]) -> bytes:
    return _HEADER.pack(_MAGIC, bytes.fromhex(key), data.nbytes, hashlib.sha256(data.data).digest())
