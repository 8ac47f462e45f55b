"""How much memory this process may still take: of the machine, and of its control groups."""

from pathlib import Path
from typing import Final

from edge_et.threads import GROUPS, OWN_GROUPS, group_folders

MEMINFO: Final = Path("/proc/meminfo")


def available_bytes(
    meminfo: Path = MEMINFO, groups: Path = GROUPS, own_groups: Path = OWN_GROUPS
) -> int | None:
    """Return the bytes that can be taken without swapping; None: this system does not tell.

    Args:
        meminfo: what Linux says of the machine's memory.
        groups: where control groups are mounted.
        own_groups: the file that tells which of them the process is in.
    """
    left = [_left_in(folder) for folder in group_folders(groups, own_groups, "memory")]
    return min((size for size in (_of_machine(meminfo), *left) if size is not None), default=None)


def _of_machine(meminfo: Path) -> int | None:
    try:
        lines = meminfo.read_text().splitlines()
        kilobytes = (line.split()[1] for line in lines if line.startswith("MemAvailable:"))
        return next((int(number) * 1024 for number in kilobytes), None)
    except (OSError, ValueError, IndexError):
        return None


def _left_in(group: Path) -> int | None:
    """Return what a group's limit leaves; pages of files count as taken, and can be freed."""
    names = ("memory.max", "memory.current", "inactive_file ")
    if not (group / names[0]).exists():  # version 1
        names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file ")
    try:
        limit, taken = (int((group / name).read_text()) for name in names[:2])
        statistics = (group / "memory.stat").read_text().splitlines()
        of_files = (line.split()[1] for line in statistics if line.startswith(names[2]))
        return max(0, limit - taken + next(map(int, of_files), 0))
    except (OSError, ValueError, IndexError):  # no group of its own, or "max"
        return None
