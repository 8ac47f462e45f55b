"""How many threads a process uses: what was asked for, else what was found fastest, else its CPUs.

In: numbers, or None where nobody said one. Out: one number, for tower and language models alike;
never more than the CPUs, since threads without one of their own make the others wait for them.
"""

import logging
import math
import os
from pathlib import Path, PurePosixPath

from edge_et.options import parse_load_options

_GROUPS = Path("/sys/fs/cgroup")
_OWN_GROUPS = Path("/proc/self/cgroup")

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
    quota = cpu_quota(_GROUPS, _OWN_GROUPS)
    return count if quota is None else max(1, min(count, math.ceil(quota)))


def cpu_quota(groups: Path, own_groups: Path) -> float | None:
    """Return the CPUs that control groups grant this process; None where they set no bound.

    Args:
        groups: where control groups are mounted, those of version 1 in `cpu`.
        own_groups: the file that tells which of them the process is in.
    """
    own = _paths_by_controller(own_groups)
    bounds = []
    for mounted, controller in ((groups, ""), (groups / "cpu", "cpu")):
        # A container sees its own group at the root, and may be told a path that is not there.
        group = own.get(controller, PurePosixPath("/"))
        for folder in (group, *group.parents):
            bounds.append(_granted(mounted / folder.relative_to("/")))
    return min((bound for bound in bounds if bound is not None), default=None)


def _paths_by_controller(own_groups: Path) -> dict[str, PurePosixPath]:
    """Read lines such as ``4:cpu,cpuacct:/a/b``; version 2 has one with no controller."""
    try:
        lines = own_groups.read_text().splitlines()
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
    return bound if bound > 0 else None
