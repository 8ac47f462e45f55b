"""How many threads a process uses: what was asked for, else what was found fastest, else its CPUs.

In: numbers, or None where nobody said one. Out: one number, for tower and language models alike;
never more than the CPUs, since threads without one of their own make the others wait for them; and
while tokens are written, fewer where other programs use CPUs at that time.
"""

import logging
import math
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Final

from edge_et.options import parse_load_options

GROUPS: Final = Path("/sys/fs/cgroup")
OWN_GROUPS: Final = Path("/proc/self/cgroup")
_STAT = Path("/proc/stat")

_BUSY_FIELDS = (0, 1, 2, 5, 6, 7)  # of a CPU in _STAT: user, nice, system, irq, softirq, steal
_LOOK_S = 0.5  # between two looks; _STAT counts hundredths of a second
_UNDECIDED = 0.6  # a change of less than so many CPUs is no other whole number of them

logger = logging.getLogger(__name__)


def choose_threads(asked: int | None, profiled: int | None = None) -> int:
    """Decide the number of threads.

    Args:
        asked: what the caller said; None: nothing.
        profiled: what `edge-et autotune` found fastest here; None: it was not run.

    Returns:
        At most `available_cpus()`; where more were wanted, that is logged.

    Raises:
        OptionError: `asked` is no whole number from 1 to 512.
    """
    checked = parse_load_options({"threads": asked}).threads
    wanted = profiled if checked is None else checked
    cpus = available_cpus()
    if wanted is None:
        return cpus
    if wanted > cpus:
        logger.warning(
            "%d threads instead of %s: this process may use so many CPUs, and threads that share "
            "one wait for one another",
            cpus,
            f"threads={wanted}" if checked is not None else f"the device profile's {wanted}",
        )
    return min(wanted, cpus)


def available_cpus() -> int:
    """Return how many CPUs this process may use: its affinity, bounded by its container's quota."""
    if hasattr(os, "sched_getaffinity"):
        count = len(os.sched_getaffinity(0))
    else:
        count = os.cpu_count() or 1
    quota = cpu_quota(GROUPS, OWN_GROUPS)
    return count if quota is None else max(1, min(count, math.ceil(quota)))


class SpareThreads:
    """How many threads to evaluate few tokens with, beside what other programs compute.

    Between two barriers there is so little to do that the threads wait whenever one of them is off
    its CPU. With two threads on two CPUs, a token took llama.cpp 1.7 times as long as with one
    beside one busy process, and 1.1 times beside two. A prompt's large batches keep all: they
    took 1.1 times as long beside one such process, but 0.8 beside two.

    Attributes:
        most: threads where nothing else computes, and for large batches.
    """

    def __init__(
        self,
        most: int,
        *,
        now: Callable[[], float] = time.monotonic,
        own: Callable[[], float] = time.process_time,
        used: Callable[[], tuple[int, float] | None] | None = None,
    ) -> None:
        """Begin with all of them.

        Args:
            most: threads where nothing else computes, at least 1.
            now: a clock, in seconds.
            own: the seconds of CPUs that this process has used.
            used: how many CPUs it may use, and the seconds that these were used by anybody; None:
                there is no telling.
        """
        self.most = most
        self._now, self._own, self._used = now, own, used or used_cpus
        self._last: tuple[float, float, float] | None = None
        self._taken = 0
        self._threads = most

    def for_tokens(self) -> int:
        """Return how many to decode with, from 1 on; at least half of the most.

        With fewer than half, this process would get less than its share of the CPUs.
        """
        now = self._now()
        if self.most == 1 or (self._last is not None and now - self._last[0] < _LOOK_S):
            return self._threads
        if (used := self._used()) is None:
            return self._threads
        cpus, used_s = used
        before, self._last = self._last, (now, self._own(), used_s)
        if before is not None:
            of_all, of_us = used_s - before[2], self._last[1] - before[1]
            by_others = (of_all - of_us) / (now - before[0])
            if abs(by_others - self._taken) > _UNDECIDED:
                self._taken = max(0, round(by_others))
            free = max(cpus - self._taken, (self.most + 1) // 2)
            self._threads = min(self.most, free)
        return self._threads


def used_cpus() -> tuple[int, float] | None:
    """Return the CPUs of this process's affinity, and the seconds that they were used by anybody.

    Returns:
        None where the system does not tell: everywhere but on Linux.
    """
    if not hasattr(os, "sched_getaffinity"):
        return None
    mine = {f"cpu{number}" for number in os.sched_getaffinity(0)}
    try:
        lines = [line.split() for line in _STAT.read_text().splitlines()]
        found = [line[1:] for line in lines if line and line[0] in mine]
        ticks = sum(int(cpu[field]) for cpu in found for field in _BUSY_FIELDS)
    except (OSError, ValueError, IndexError):
        return None
    return len(mine), ticks / os.sysconf("SC_CLK_TCK")


def cpu_quota(groups: Path, own_groups: Path) -> float | None:
    """Return the CPUs that control groups grant this process; None where they set no bound.

    Args:
        groups: where control groups are mounted, those of version 1 in `cpu`.
        own_groups: the file that tells which of them the process is in.
    """
    bounds = [_granted(folder) for folder in group_folders(groups, own_groups, "cpu")]
    return min((bound for bound in bounds if bound is not None), default=None)


def group_folders(groups: Path, own_groups: Path, controller: str) -> Iterator[Path]:
    """Yield where the control groups of this process may have files, its own ones and all above.

    Args:
        groups: where control groups are mounted, those of version 1 in a folder of the controller.
        own_groups: the file that tells which of them the process is in.
        controller: such as ``cpu``.

    Yields:
        Folders, which need not exist.
    """
    own = _paths_by_controller(own_groups)
    for mounted, name in ((groups, ""), (groups / controller, controller)):
        # A container sees its own group at the root, and may be told a path that is not there.
        group = own.get(name, PurePosixPath("/"))
        for folder in (group, *group.parents):
            yield mounted / folder.relative_to("/")


def _paths_by_controller(own_groups: Path) -> dict[str, PurePosixPath]:
    """Read lines such as ``4:cpu,cpuacct:/a/b``; version 2 has one with no controller."""
    try:
        lines = os.fsdecode(own_groups.read_bytes()).splitlines()
    except OSError:  # no control groups here
        return {}
    fields = [line.split(":", 2)[1:] for line in lines if line.count(":") > 1]
    return {
        controller: PurePosixPath("/", path)
        for controllers, path in fields
        for controller in controllers.split(",")
    }


def _granted(group: Path) -> float | None:
    try:
        if (group / "cpu.max").exists():
            granted, period = (group / "cpu.max").read_text().split()
        else:
            granted = (group / "cpu.cfs_quota_us").read_text()
            period = (group / "cpu.cfs_period_us").read_text()
        bound = float(granted) / float(period)
    except (OSError, ValueError, ZeroDivisionError):  # no group, or "max": no bound
        return None
    return bound if 0 < bound < math.inf else None
