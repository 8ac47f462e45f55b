"""Large files that were made once and are opened by path: whole, verified, up to a number of bytes.

In: a name, and who can write the file. Out: its path, for as long as it is held; or nothing. What
the bytes mean is not known here.

A file counts as whole when the description beside it, written last, agrees with its size and
SHA-256. One process writes at a time. Whoever has a file open holds a lock on it, and no process
deletes one that is held. Locks end with the process. Windows and some file systems have none: there
two processes may write the same, and what is open stays readable, or cannot be deleted.
"""

import hashlib
import logging
import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from stat import S_ISREG
from typing import Any, Self

import msgspec
from msgspec import Struct

from edge_et.foreign_errors import raised_by
from edge_et.store.files import atomic_write
from edge_et.store.locks import FileLock, alone

Write = Callable[[Path], object]
"""Writes a file at a path."""

_SUFFIX = ".json"
_LOCK_NAME = ".lock"  # of what a process locks that makes a file

logger = logging.getLogger(__name__)


class _Description(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a file has to be."""

    size_bytes: int
    sha256: str


class PreparedFile:
    """A file that nobody deletes until it is closed.

    Attributes:
        path: where it can be opened.
        size_bytes: its size.
        sha256: of its content.
    """

    def __init__(
        self, path: Path, description: _Description, release: Callable[[], object]
    ) -> None:
        """See `PreparedFiles.open` and `unnamed_file`."""
        self.path = path
        self.size_bytes, self.sha256 = description.size_bytes, description.sha256
        self._release: Callable[[], object] | None = release

    def close(self) -> None:
        """Let others delete it; may be called again."""
        release, self._release = self._release, None
        if release is not None:
            release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()


class PreparedFiles:
    """A folder of files that can be made again; several processes may share it.

    Attributes:
        folder: the folder; it need not exist.
    """

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        """Touch nothing yet.

        Args:
            folder: holds prepared files and nothing else; it is made when the first one is.
            limit_bytes: most bytes of all of them.
        """
        self.folder = folder
        self._limit_bytes = limit_bytes

    @property
    def is_writable(self) -> bool:
        """Whether files can probably be made there."""
        place = self.folder
        while not place.exists() and place != place.parent:
            place = place.parent
        return place.is_dir() and os.access(place, os.W_OK | os.X_OK)

    @property
    def size_bytes(self) -> int:
        """What all files in it take together; 0 where it cannot be read."""
        with suppress(OSError):
            return sum(path.stat().st_size for path in self.folder.iterdir())
        return 0

    def open(self, name: str) -> PreparedFile | None:
        """Return a file that is there and whole, after its content was hashed.

        Args:
            name: of the file.
        """
        path = self.folder / name
        try:
            expected = self._described(path)
            lock = FileLock(path)
        except (FileNotFoundError, NotADirectoryError, msgspec.DecodeError):
            return None
        except OSError as err:
            self._tell("read", err)
            return None
        try:
            is_ours = lock.take(shared=True) is not False and _is_at(lock.handle, path)
            is_whole = is_ours and _describe(lock.handle) == expected
        except OSError as err:
            lock.close()
            self._tell("read", err)
            return None
        except BaseException:
            lock.close()
            raise
        if not is_whole:
            lock.close()
            if is_ours:  # else somebody is just deleting it
                self._delete_damaged(path)
            return None
        with suppress(OSError):  # in a folder that is only read nothing is ever the oldest
            os.utime(path)
        return PreparedFile(path, expected, lock.close)

    def make(
        self, name: str, write: Write, size_bytes: int, *, wait_s: float = 0.0
    ) -> PreparedFile | None:
        """Return a file, and make it if it is not there.

        Args:
            name: of the file.
            write: makes it; what it raises comes through, and nothing is left then.
            size_bytes: about how large it will be. Files unused for longest make room for it.
            wait_s: how long to wait for another process that is making one, seconds.

        Returns:
            The file; None: another process is making one, there is no room, or the folder cannot be
            written, which is logged.
        """
        if (found := self.open(name)) is not None:  # perhaps in a folder that is only read
            return found
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = self.folder / _LOCK_NAME
            lock.touch(mode=0o600)
            with alone(lock, wait_s) as is_alone:
                if not is_alone:
                    return None
                found = self.open(name)
                if found is None and self._make_room(size_bytes, self.folder / name):
                    self._write(self.folder / name, write)
                    found = self.open(name)
                return found
        except OSError as err:
            self._tell("written", err)
            return None

    def read_note(self, name: str, kind: type[Any]) -> Any:
        """Return a small structure that `write_note` wrote, or None.

        Args:
            name: of the note.
            kind: its msgspec type.
        """
        try:
            return msgspec.json.decode((self.folder / name).read_bytes(), type=kind)
        except (FileNotFoundError, NotADirectoryError, msgspec.DecodeError):
            return None
        except OSError as err:
            self._tell("read", err)
            return None

    def write_note(self, name: str, note: Struct) -> None:
        """Keep a small structure, if the folder can be written.

        Args:
            name: of the note.
            note: what to keep.
        """
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with atomic_write(self.folder / name) as partial:
                partial.write_bytes(msgspec.json.encode(note))
        except OSError as err:
            self._tell("written", err)

    def _write(self, path: Path, write: Write) -> None:
        with atomic_write(path) as partial:
            write(partial)
            with partial.open("r+b") as file:
                os.fsync(file.fileno())  # it stays for long, and a power cut leaves zeros
                description = _describe(file.fileno())
        with atomic_write(_description_of(path)) as partial:
            partial.write_bytes(msgspec.json.encode(description))

    def _described(self, path: Path) -> _Description:
        return msgspec.json.decode(_description_of(path).read_bytes(), type=_Description)

    def _make_room(self, size_bytes: int, wanted: Path) -> bool:
        """Delete what was unused for longest; say whether there is room then."""
        entries = []
        for path in self.folder.iterdir():
            with suppress(FileNotFoundError):  # another process makes room too
                status = path.stat()
                is_prepared = path.suffix != _SUFFIX and path.name != _LOCK_NAME
                if S_ISREG(status.st_mode) and is_prepared:
                    entries.append((status.st_mtime_ns, status.st_size, path))
        total = size_bytes + sum(size for _, size, path in entries if path != wanted)
        for _, size, path in sorted(entries):
            if total <= self._limit_bytes:
                break
            if path != wanted and self._delete(path):
                total -= size
        return total <= self._limit_bytes

    def _delete(self, path: Path) -> bool:
        """Delete a file unless somebody holds it; say whether it is gone."""
        with suppress(OSError), alone(path) as is_alone:
            if is_alone:
                _description_of(path).unlink(missing_ok=True)
                path.unlink(missing_ok=True)
                return True
        return False

    def _delete_damaged(self, path: Path) -> None:
        if self._delete(path):
            logger.warning("%s was damaged and is deleted; it will be made again", path)
        else:
            logger.warning("%s is damaged and cannot be deleted; going on without it", path)

    def _tell(self, what: str, err: OSError) -> None:
        if not raised_by(err):  # a signal's handler may raise a TimeoutError, which is one
            raise err
        logger.info("%s cannot be %s, going on without: %s", self.folder, what, err)


def unnamed_file(write: Write) -> PreparedFile:
    """Make a file that vanishes with its last user: in memory where Linux offers that.

    Args:
        write: makes it; what it raises comes through.

    Raises:
        OSError: there is neither memory nor a folder for temporary files.
    """
    if hasattr(os, "memfd_create"):
        handle = os.memfd_create("edge-et")
        path = Path(f"/proc/self/fd/{handle}")
        if path.exists():
            try:
                write(path)
                return PreparedFile(path, _describe(handle), lambda: os.close(handle))
            except BaseException:
                os.close(handle)
                raise
        os.close(handle)
    folder = Path(tempfile.mkdtemp(prefix="edge-et-"))
    try:
        path = folder / "prepared"
        write(path)
        with path.open("rb") as file:
            description = _describe(file.fileno())
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return PreparedFile(path, description, lambda: shutil.rmtree(folder, ignore_errors=True))


def _description_of(path: Path) -> Path:
    return path.with_name(path.name + _SUFFIX)


def _describe(handle: int) -> _Description:
    with open(os.dup(handle), "rb") as file:
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256")
        return _Description(size_bytes=file.tell(), sha256=digest.hexdigest())


def _is_at(handle: int, path: Path) -> bool:
    return os.path.samestat(os.fstat(handle), path.stat())
