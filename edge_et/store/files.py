"""Files: written whole or not at all, and where those lie that can be made again."""

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from edge_et.errors import CacheFolderError
from edge_et.store.locks import FileLock

PARTIAL_PREFIX = ".edge-et-partial-"
"""How the folders begin that a killed process leaves behind, and a later one removes."""

_UNCLAIMED_S = 2.0  # a folder is this old before it is taken for one that nobody has claimed


def user_cache() -> Path:
    """Return edge-et's folder in the user's folder for caches; it need not exist.

    Raises:
        CacheFolderError: this user has no home folder.
    """
    caches = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if caches.is_absolute():  # others are to be ignored, says the XDG Base Directory Specification
        return caches / "edge-et"
    try:
        home = Path.home()
    except RuntimeError as err:  # neither HOME nor an entry for the user
        raise CacheFolderError("this user has no home folder") from err
    if not home.is_absolute():
        raise CacheFolderError(f"HOME is {str(home)!r}")
    return home / ".cache" / "edge-et"


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Give a path to write to that becomes `path` at the end, or vanishes on any failure.

    The temporary path lies in a folder of its own beside `path`, hence on the same file system,
    and has the same name, since some writers put a suffix or the name itself to use.

    Args:
        path: where the finished file shall be; its folder is made if need be.

    Yields:
        The path to write to.

    Raises:
        OSError: the operating system refuses.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with partial_folder(path.parent) as folder:
        temporary = folder / path.name
        yield temporary
        temporary.replace(path)


@contextmanager
def partial_folder(parent: Path) -> Iterator[Path]:
    """Give a new folder for what is not finished; it vanishes with the block.

    Those that killed processes have left in the same place are removed, where there are locks; what
    is in use stays.

    Args:
        parent: where it shall be, which exists.

    Yields:
        The folder.

    Raises:
        OSError: the operating system refuses.
    """
    _remove_abandoned(parent)
    # A TemporaryDirectory would be deleted by a forked child when that ends.
    folder = Path(tempfile.mkdtemp(dir=parent, prefix=PARTIAL_PREFIX))
    try:
        with _claimed(folder):
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _remove_abandoned(parent: Path) -> None:
    for path in parent.glob(f"{PARTIAL_PREFIX}*"):
        with suppress(OSError):  # it has just vanished, or is another user's
            if time.time() - path.lstat().st_mtime > _UNCLAIMED_S:
                with _claimed(path) as claimed:
                    if claimed:
                        shutil.rmtree(path, ignore_errors=True)


@contextmanager
def _claimed(folder: Path) -> Iterator[bool]:
    """Hold a lock on a folder, which ends with the process; tell whether it was to be had."""
    try:
        lock = FileLock(folder)
    except OSError:
        yield False
        return
    try:
        yield lock.take(shared=False) is True
    finally:
        lock.close()
