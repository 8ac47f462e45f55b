"""What the machine gives: CPUs, memory, disk, and whether heat or voltage slows it down.

In: where the system tells of itself, and what a bundle needs. Out: findings.
"""

import os
import platform
import shutil
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path
from typing import Final

from edge_et.available_memory import MEMINFO, available_bytes
from edge_et.bundle import Bundle
from edge_et.checkup.finding import Figure, Finding
from edge_et.checkup.needs import disk_need
from edge_et.cpu_flags import CPUINFO
from edge_et.options import LoadOptions
from edge_et.pipeline import DeviceProfile, Settings, estimate_memory
from edge_et.sensors import SYS, board_state, cpu_clocks, thermal_zones, throttling_reasons
from edge_et.threads import GROUPS, OWN_GROUPS, available_cpus, choose_threads, cpu_quota

_NEAR_C: Final = 5.0  # below the temperature from which on the kernel slows down
_MB: Final = 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Where Linux tells of itself.

    Attributes:
        cpuinfo: of the CPUs.
        meminfo: of the memory.
        sys: where sysfs is mounted.
        groups: where control groups are mounted.
        own_groups: which of them this process is in.
        architecture: as `platform.machine` says it.
    """

    cpuinfo: Path = CPUINFO
    meminfo: Path = MEMINFO
    sys: Path = SYS
    groups: Path = GROUPS
    own_groups: Path = OWN_GROUPS
    architecture: str = field(default_factory=platform.machine)


def check_threads(machine: Machine, profile: DeviceProfile | None) -> Finding:
    """Tell with how many threads a load computes, and what bounds them.

    Args:
        machine: where it tells of itself.
        profile: the bundle's; None: there is none.
    """
    cpus = os.cpu_count() or 1
    mine = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else cpus
    quota = cpu_quota(machine.groups, machine.own_groups)
    threads = choose_threads(None, profile.threads if profile else None)
    threads = threads if quota is None else max(1, min(threads, ceil(quota)))
    bounds = []
    if mine < cpus:
        bounds.append(f"this process may use {mine}")
    if quota is not None:
        bounds.append(f"its control group grants the time of {quota:g}")
    if profile is not None:
        bounds.append(f"`edge-et autotune` found {profile.threads} fastest")
    is_torn = quota is not None and quota < threads
    return Finding(
        check="threads",
        status="warning" if is_torn else "ok",
        summary=f"{threads} of {cpus} CPUs{''.join(f'; {bound}' for bound in bounds)}",
        advice=(
            f"the quota of {quota:g} CPUs stops all {threads} threads for a part of each period: "
            "grant a whole number of CPUs (`docker run --cpus`, CPUQuota= of systemd)",
        )
        if is_torn
        else (),
        figures={
            "cpus": cpus,
            "affinity_cpus": mine,
            "quota_cpus": quota,
            "available_cpus": available_cpus(),
            "threads": threads,
        },
    )


def check_memory(machine: Machine, bundle: Bundle, profile: DeviceProfile | None) -> Finding:
    """Compare the memory that can be taken with what a load of the bundle needs.

    Args:
        machine: where it tells of itself.
        bundle: the bundle, with its profile's weights.
        profile: the bundle's; None: there is none.
    """
    plan = estimate_memory(bundle, Settings.of(LoadOptions(), profile))
    free = available_bytes(machine.meminfo, machine.groups, machine.own_groups)
    figures: dict[str, Figure] = {
        "available_bytes": free,
        "needed_bytes": plan.peak_bytes,
        "parts_bytes": dict(plan.parts),
    }
    parts = ", ".join(f"{name} {_told(size)}" for name, size in plan.parts.items())
    needed = f"a load needs about {_told(plan.peak_bytes)}: {parts}"
    if free is None:
        return Finding(
            check="memory",
            status="ok",
            summary=f"{needed}; this system does not tell what is free",
            figures=figures,
        )
    summary = f"{_told(free)} can be taken; {needed}"
    if free >= plan.peak_bytes:
        return Finding(check="memory", status="ok", summary=summary, figures=figures)
    return Finding(
        check="memory",
        status="warning",
        summary=summary,
        advice=(
            f"{_told(plan.peak_bytes - free)} are missing: stop other programs, raise the limit "
            "of the container (MemoryMax=, `docker run --memory`), give `max_memory_bytes=` "
            "(docs/memory.md), or take a smaller bundle (`edge-et models`)",
        ),
        figures=figures,
    )


def check_disk(bundle: Bundle) -> Finding:
    """Compare the room in the user's caches with what is made of the bundle's weights there.

    Args:
        bundle: as `load_bundle` gave it.
    """
    need = disk_need(bundle)
    figures = {
        "folder": None if need.folder is None else str(need.folder),
        "is_writable": need.is_writable,
        "kept_bytes": need.kept_bytes,
        "needed_bytes": need.needed_bytes,
        "free_bytes": None,
    }
    if not need.is_writable:
        place = need.folder or "no home folder"
        return Finding(
            check="disk",
            status="warning",
            summary=f"{place} cannot be written: every load makes anew what it needs",
            advice=("let the user who runs edge-et have a cache folder (XDG_CACHE_HOME names it)",),
            figures=figures,
        )
    assert need.folder is not None
    free = shutil.disk_usage(_existing(need.folder)).free
    missing = max(0, need.needed_bytes - free)
    return Finding(
        check="disk",
        status="warning" if missing else "ok",
        summary=f"{_told(free)} free, {_told(need.kept_bytes)} kept in {need.folder}; "
        f"{_told(need.needed_bytes)} more are to be made for this bundle",
        advice=(
            f"free {_told(missing)}: without them every load makes anew what it needs, or is "
            "slower",
        )
        if missing
        else (),
        figures=figures | {"free_bytes": free},
    )


def check_heat(machine: Machine) -> Finding:
    """Tell whether heat or voltage slows the machine down, now or since it was started.

    Args:
        machine: where it tells of itself.
    """
    zones, clocks = thermal_zones(machine.sys), cpu_clocks(machine.sys)
    state, reasons = board_state(machine.sys), throttling_reasons(machine.sys)
    told, advice = list(reasons), []
    if state is not None and (state.under_voltage or state.had_under_voltage):
        if not state.under_voltage:
            told.append("the voltage was too low since the start")
        advice.append("take the board's own power supply, and a short cable")
    if state is not None and (state.was_throttled or state.was_capped or state.was_at_soft_limit):
        told.append("the firmware slowed the CPUs down since the start")
    bounded = [clock for clock in clocks if clock.limit_hertz < 0.99 * clock.most_hertz]
    told += [
        f"{clock.name} is held at {clock.limit_hertz / 1e9:.2f} of {clock.most_hertz / 1e9:.2f} GHz"
        for clock in bounded
    ]
    near = [
        zone
        for zone in zones
        if zone.slows_c is not None and zone.slows_c - _NEAR_C <= zone.celsius < zone.slows_c
    ]
    told += [
        f"{zone.name} is at {zone.celsius:.0f} °C, {zone.slows_c - zone.celsius:.0f} below where "
        "it slows down"
        for zone in near
        if zone.slows_c is not None
    ]
    heated = any("°C" in one or "temperature" in one or "cooled" in one for one in told)
    if heated or (state is not None and (state.is_throttled or state.was_throttled)):
        advice.append("cool the board: a heat sink or a fan, and air around it")
    if bounded:
        advice.append(
            "if nobody wanted that limit, see scaling_max_freq in "
            f"{machine.sys / 'devices/system/cpu/cpufreq'}"
        )
    hottest = max((zone.celsius for zone in zones), default=None)
    quiet = "nobody tells" if hottest is None and state is None else "nothing slows the CPUs down"
    warmth = "" if hottest is None else f"; {hottest:.0f} °C at most"
    return Finding(
        check="heat",
        status="warning" if told else "ok",
        summary=f"{'; '.join(told) or quiet}{warmth}",
        advice=tuple(advice),
        figures={
            "hottest_celsius": hottest,
            "is_throttled": bool(reasons),
            "reasons": reasons,
            "was_under_voltage": None if state is None else state.had_under_voltage,
            "was_throttled": None if state is None else state.was_throttled,
        },
    )


def _existing(folder: Path) -> Path:
    return next(place for place in (folder, *folder.parents) if place.exists())


def _told(size_bytes: int) -> str:
    return f"{size_bytes / _MB:.0f} MB"
