"""Files: written whole or not at all, and where those lie that can be made again."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edge_et.errors import CacheFolderError

PARTIAL_PREFIX = ".partial-"
"""How the folders begin that a killed process leaves behind."""


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
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=PARTIAL_PREFIX) as folder:
        temporary = Path(folder) / path.name
        yield temporary
        temporary.replace(path)
