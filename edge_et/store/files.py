"""Files: written whole or not at all, and where those lie that can be made again."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PARTIAL_PREFIX = ".partial-"
"""How the folders begin that a killed process leaves behind."""


def user_cache() -> Path:
    """Return edge-et's folder in the user's folder for caches; it need not exist.

    Raises:
        OSError: this user has no home folder.
    """
    if caches := os.environ.get("XDG_CACHE_HOME"):
        return Path(caches) / "edge-et"
    try:
        return Path.home() / ".cache" / "edge-et"
    except RuntimeError as err:
        raise OSError(f"no folder for caches, set XDG_CACHE_HOME: {err}") from err


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
