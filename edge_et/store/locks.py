"""Locks on open files: they end with the process, and a forked child keeps none of its parent's.

In: a path. Out: whether the lock was to be had, or that there are none: on Windows, and on file
systems such as some over a network. What the file holds is not known here.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from errno import EACCES, EAGAIN, EWOULDBLOCK
from pathlib import Path

from edge_et.foreign_errors import raised_by

try:
    from fcntl import LOCK_EX, LOCK_NB, LOCK_SH, LOCK_UN, flock
except ImportError:  # Windows
    flock = None  # type: ignore[assignment]

_POLL_S = 0.05

_open: "set[FileLock]" = set()


class FileLock:
    """A file that is open, and can be locked until it is closed.

    Attributes:
        handle: of the file.
    """

    def __init__(self, path: Path, flags: int = os.O_RDONLY) -> None:
        """Open the file and lock nothing yet.

        Args:
            path: the file, or a folder.
            flags: of `os.open`.

        Raises:
            OSError: it cannot be opened.
        """
        self.handle = os.open(path, flags | getattr(os, "O_BINARY", 0))
        _open.add(self)

    def take(self, *, shared: bool) -> bool | None:
        """Lock the file.

        Args:
            shared: whether others may have it too. Else NFS wants a file opened for writing.

        Returns:
            Whether that was possible; None: there are no locks here.
        """
        if flock is None:
            return None
        try:
            flock(self.handle, (LOCK_SH if shared else LOCK_EX) | LOCK_NB)
        except OSError as err:
            if not raised_by(err):  # a signal's handler may raise a TimeoutError, which is one
                raise
            return False if err.errno in (EACCES, EAGAIN, EWOULDBLOCK) else None
        return True

    def close(self) -> None:
        """Close the file and end the lock; may be called again."""
        try:
            _open.remove(self)
        except KeyError:  # closed, or inherited by a fork
            return
        if flock is not None:
            with suppress(OSError):
                flock(self.handle, LOCK_UN)  # whoever forked without Python's knowledge has it too
        os.close(self.handle)


@contextmanager
def alone(path: Path, wait_s: float = 0.0) -> Iterator[bool]:
    """Be the only one that has a lock on a file.

    Args:
        path: the file.
        wait_s: how long to wait for others, seconds.

    Yields:
        Whether that came true in time; so it is where there are no locks.

    Raises:
        OSError: it cannot be opened for writing.
    """
    if flock is None:  # Windows deletes no file that is open
        yield True
        return
    lock = FileLock(path, os.O_RDWR)
    try:
        end = time.monotonic() + wait_s
        while (is_alone := lock.take(shared=False)) is False and time.monotonic() < end:
            time.sleep(_POLL_S)
        yield is_alone is not False
    finally:
        lock.close()


def _after_fork() -> None:
    """Close what a child inherited; to unlock it would end the parent's locks."""
    while _open:
        os.close(_open.pop().handle)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
