"""Whether there is room on disk, before anything is written."""

import shutil
from collections.abc import Iterable
from pathlib import Path

from edge_et.export.errors import DiskSpaceError


def require_disk(needs: Iterable[tuple[Path, int]]) -> None:
    """Check that file systems have the room that is needed on each of them.

    Args:
        needs: places, which need not exist yet, and the bytes to be written there.

    Raises:
        DiskSpaceError: a file system has less; the message holds both numbers.
    """
    rooms: dict[int, tuple[Path, int]] = {}
    for path, size_bytes in needs:
        existing = path.absolute()
        while not existing.exists():
            existing = existing.parent
        device = existing.stat().st_dev
        first, sum_bytes = rooms.get(device, (existing, 0))
        rooms[device] = first, sum_bytes + size_bytes
    for path, needed in rooms.values():
        if (free := shutil.disk_usage(path).free) < needed:
            raise DiskSpaceError(path, needed, free)
