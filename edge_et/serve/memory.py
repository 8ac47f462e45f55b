"""How much memory this process may still take: of the machine, and of its control group."""

from pathlib import Path

_MACHINE = Path("/proc/meminfo")
_GROUP = Path("/sys/fs/cgroup")


def available_bytes() -> int | None:
    """Return the bytes that can be taken without swapping; None: this system does not tell."""
    found = [number for number in (_of_machine(), _of_group()) if number is not None]
    return min(found, default=None)


def _of_machine() -> int | None:
    try:
        lines = _MACHINE.read_text().splitlines()
    except OSError:
        return None
    kilobytes = (line.split()[1] for line in lines if line.startswith("MemAvailable:"))
    return next((int(number) * 1024 for number in kilobytes), None)


def _of_group() -> int | None:
    """Return what a container's limit leaves; pages of files count as taken, and can be freed."""
    try:
        limit = int((_GROUP / "memory.max").read_text())
        taken = int((_GROUP / "memory.current").read_text())
        statistics = (_GROUP / "memory.stat").read_text().splitlines()
    except (OSError, ValueError):  # no group of its own, or "max"
        return None
    of_files = (line.split()[1] for line in statistics if line.startswith("inactive_file "))
    return limit - taken + next(map(int, of_files), 0)
