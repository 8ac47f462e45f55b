"""How many threads a process uses: what was asked for, else what was found fastest, else its CPUs.

In: numbers, or None where nobody said one. Out: one number, for tower and language models alike.
"""

import math
import os
from pathlib import Path

from edge_et.options import parse_load_options

_CGROUP_V2 = Path("/sys/fs/cgroup/cpu.max")
_CGROUP_V1 = Path("/sys/fs/cgroup/cpu")


def choose_threads(asked: int | None, profiled: int | None = None) -> int:
    """Decide the number of threads.

    Args:
        asked: what the caller said; None: nothing.
        profiled: what `edge-et autotune` found fastest here; None: it was not run.

    Raises:
        OptionError: `asked` is no whole number from 1 to 512.
    """
    checked = parse_load_options({"threads": asked}).threads
    if checked is not None:
        return checked
    return available_cpus() if profiled is None else profiled


def available_cpus() -> int:
    """Return how many CPUs this process may use: its affinity, bounded by its container's quota."""
    if hasattr(os, "sched_getaffinity"):
        count = len(os.sched_getaffinity(0))
    else:
        count = os.cpu_count() or 1
    quota = cpu_quota(_CGROUP_V2, _CGROUP_V1)
    return count if quota is None else max(1, min(count, math.ceil(quota)))


def cpu_quota(v2: Path, v1: Path) -> float | None:
    """Return the CPUs that a control group grants; None where it sets no bound.

    Args:
        v2: the file cpu.max of a version 2 group.
        v1: the folder of a version 1 group.
    """
    try:
        if v2.exists():
            granted, period = v2.read_text().split()
        else:
            granted = (v1 / "cpu.cfs_quota_us").read_text()
            period = (v1 / "cpu.cfs_period_us").read_text()
        bound = float(granted) / float(period)
    except (OSError, ValueError):  # no control groups here, or "max": no bound
        return None
    return bound if bound > 0 else None
