"""How warm the CPU is, and whether the machine slows it down: what Linux tells in /sys.

In: folders of /sys. Out: numbers, or None and empty lists where nobody tells, as in most virtual
machines and outside Linux. A reading opens some small files, and starts no program.

Sources: Documentation/ABI/testing/sysfs-class-thermal, Documentation/admin-guide/pm/cpufreq.rst and
Documentation/hwmon/raspberrypi-hwmon.rst of Linux; `get_throttled` in "Raspberry Pi OS", the
documentation of Raspberry Pi.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

SYS: Final = Path("/sys")

_THROTTLED = "devices/platform/soc*/*firmware/get_throttled"
_UNDER_VOLTAGE, _CAPPED, _THROTTLED_NOW, _SOFT_LIMIT = 1, 2, 4, 8
_SINCE_BOOT = 16  # the same four bits, so many places higher: since the board was started
_PI_VOLTAGE = "rpi_volt"  # of hwmon, where the kernel has no get_throttled
_CPU_COOLING = ("cpufreq", "cpu-freq", "processor", "cpu_cooling")
_WARMEST_C = 200.0  # what a sensor says that is not connected lies beyond


@dataclass(frozen=True, slots=True, kw_only=True)
class ThermalZone:
    """A part of the machine that has a temperature.

    Attributes:
        name: as the kernel calls it, such as ``cpu-thermal``.
        celsius: its temperature.
        slows_c: from which temperature on the kernel slows the CPU down; None: it does not say.
        critical_c: at which temperature it switches the machine off; None: likewise.
    """

    name: str
    celsius: float
    slows_c: float | None
    critical_c: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuClock:
    """The clock of CPUs that share one.

    Attributes:
        name: of the policy, such as ``policy0``.
        hertz: its frequency now; idle CPUs are slow.
        limit_hertz: the highest one that is allowed now: by heat, by power, or by somebody's wish.
        most_hertz: the highest one that the CPU has.
    """

    name: str
    hertz: float | None
    limit_hertz: float
    most_hertz: float


@dataclass(frozen=True, slots=True, kw_only=True)
class BoardState:
    """What the firmware of a Raspberry Pi says: now, and since the board was started.

    Attributes:
        under_voltage: whether the power supply gives too little now.
        is_capped: whether the clock of the CPUs is bounded for that or for heat.
        is_throttled: whether they are slowed down.
        is_at_soft_limit: whether the soft limit of temperature is reached.
        had_under_voltage: the same since the start.
        was_capped: likewise.
        was_throttled: likewise.
        was_at_soft_limit: likewise.
    """

    under_voltage: bool
    is_capped: bool
    is_throttled: bool
    is_at_soft_limit: bool
    had_under_voltage: bool
    was_capped: bool
    was_throttled: bool
    was_at_soft_limit: bool


def temperature_c(sys: Path = SYS) -> float | None:
    """Return what the hottest sensor tells, Celsius; None where none can be read.

    Args:
        sys: where sysfs is mounted.
    """
    places = [
        *sys.glob("class/hwmon/hwmon*/temp*_input"),
        *sys.glob("class/thermal/thermal_zone*/temp"),
    ]
    return max((found for place in places if (found := _celsius(place)) is not None), default=None)


def thermal_zones(sys: Path = SYS) -> list[ThermalZone]:
    """Return the parts of the machine whose temperature the kernel looks after.

    Args:
        sys: where sysfs is mounted.
    """
    zones = []
    for folder in sorted(sys.glob("class/thermal/thermal_zone*")):
        if (celsius := _celsius(folder / "temp")) is None:
            continue
        trips = {
            kind: min(found)
            for kind in ("passive", "critical")
            if (found := _trip_points(folder, kind))
        }
        zones.append(
            ThermalZone(
                name=_text(folder / "type") or folder.name,
                celsius=celsius,
                slows_c=trips.get("passive"),
                critical_c=trips.get("critical"),
            )
        )
    return zones


def cpu_clocks(sys: Path = SYS) -> list[CpuClock]:
    """Return the clocks of the CPUs.

    Args:
        sys: where sysfs is mounted.
    """
    clocks = []
    for folder in sorted(sys.glob("devices/system/cpu/cpufreq/policy*")):
        limit, most = (_number(folder / f"{name}_max_freq") for name in ("scaling", "cpuinfo"))
        if limit is None or most is None or most <= 0:
            continue
        now = _number(folder / "scaling_cur_freq")
        clocks.append(
            CpuClock(
                name=folder.name,
                hertz=None if now is None else now * 1e3,
                limit_hertz=limit * 1e3,
                most_hertz=most * 1e3,
            )
        )
    return clocks


def board_state(sys: Path = SYS) -> BoardState | None:
    """Return what the firmware of a Raspberry Pi says; None on another machine.

    Where the kernel has no file of its own for that, it tells of the voltage alone. The first read
    of that file since the start leaves a warning in the kernel's log, that it is an old way.

    Args:
        sys: where sysfs is mounted.
    """
    for place in sorted(sys.glob(_THROTTLED)):
        try:
            return decode_board_state(int(_text(place) or "", 16))
        except ValueError:
            return None
    for folder in sorted(sys.glob("class/hwmon/hwmon*")):
        if _text(folder / "name") == _PI_VOLTAGE:
            alarm = _number(folder / "in0_lcrit_alarm")
            return None if alarm is None else decode_board_state(_UNDER_VOLTAGE * (alarm > 0))
    return None


def decode_board_state(bits: int) -> BoardState:
    """Say what the bits mean that `vcgencmd get_throttled` prints.

    Args:
        bits: such as 0x50005.
    """
    since = bits >> _SINCE_BOOT
    return BoardState(
        under_voltage=bool(bits & _UNDER_VOLTAGE),
        is_capped=bool(bits & _CAPPED),
        is_throttled=bool(bits & _THROTTLED_NOW),
        is_at_soft_limit=bool(bits & _SOFT_LIMIT),
        had_under_voltage=bool(since & _UNDER_VOLTAGE),
        was_capped=bool(since & _CAPPED),
        was_throttled=bool(since & _THROTTLED_NOW),
        was_at_soft_limit=bool(since & _SOFT_LIMIT),
    )


def throttling_reasons(sys: Path = SYS) -> list[str]:
    """Say why the machine slows its CPUs down now; empty where it does not, or nobody tells.

    That the clock has a limit below its highest is no reason by itself: whoever set it up may have
    wanted that.

    Args:
        sys: where sysfs is mounted.
    """
    reasons = []
    if (state := board_state(sys)) is not None:
        told = {
            "the power supply gives too little voltage": state.under_voltage,
            "the firmware bounds the clock": state.is_capped,
            "the firmware throttles the CPUs": state.is_throttled,
            "the firmware's soft limit of temperature is reached": state.is_at_soft_limit,
        }
        reasons += [reason for reason, is_so in told.items() if is_so]
    reasons += [
        f"{zone.name} is at {zone.celsius:.0f} °C, and the kernel slows down from "
        f"{zone.slows_c:.0f} °C on"
        for zone in thermal_zones(sys)
        if zone.slows_c is not None and zone.celsius >= zone.slows_c
    ]
    reasons += [f"{name} is cooled by a lower clock" for name in _cooled_cpus(sys)]
    return reasons


def _cooled_cpus(sys: Path) -> list[str]:
    """Return the names of what cools a CPU by slowing it down, and does so now."""
    found = []
    for folder in sorted(sys.glob("class/thermal/cooling_device*")):
        kind = (_text(folder / "type") or "").lower()
        if any(name in kind for name in _CPU_COOLING) and (_number(folder / "cur_state") or 0) > 0:
            found.append(kind)
    return found


def _trip_points(zone: Path, kind: str) -> list[float]:
    found = []
    for place in sorted(zone.glob("trip_point_*_type")):
        if _text(place) == kind:
            celsius = _celsius(place.with_name(place.name.replace("_type", "_temp")))
            found += [celsius] if celsius is not None and celsius > 0 else []
    return found


def _celsius(place: Path) -> float | None:
    """Read thousandths of a degree; None where they are no temperature of a machine."""
    found = _number(place)
    return None if found is None or not abs(found) < 1e3 * _WARMEST_C else found / 1e3


def _number(place: Path) -> float | None:
    text = _text(place)
    try:
        return None if text is None else float(int(text))
    except ValueError:
        return None


def _text(place: Path) -> str | None:
    """Read a file of sysfs; None: it is not there, or its driver has nothing to say."""
    try:
        return place.read_text(errors="replace").strip()
    except OSError:
        return None
