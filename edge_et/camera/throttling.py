"""Whether the system slows the CPU down, and how long to rest then.

In: files of Linux below /sys. Out: seconds. Elsewhere nothing is known, and nobody rests.

A Raspberry Pi's firmware tells of heat and of a power supply that is too weak; on other boards, and
on PCs, Linux has a cooling device for each CPU that it slows down.
"""

import logging
import re
from pathlib import Path

logger = logging.getLogger(__name__)

_SYS = Path("/sys")

# Under-voltage, capped frequency, throttled, soft limit of temperature: now, not earlier.
# Source: raspberrypi.com/documentation/computers/os.html, get_throttled.
_NOW = 0xF

_MOST_REST_S = 60.0
_MOST_FACTOR = 8.0


def is_throttled(system: Path = _SYS) -> bool:
    """Return whether the CPU is slowed down at this moment, as far as that can be told.

    Args:
        system: where the files of Linux are.
    """
    for path in (system / "devices/platform").glob("soc*/*firmware/get_throttled"):
        flags = re.fullmatch(r"(?:0x)?([0-9a-f]+)", _read(path))
        if flags and int(flags[1], 16) & _NOW:
            return True
    for device in (system / "class/thermal").glob("cooling_device*"):
        kind, state = _read(device / "type"), _read(device / "cur_state")
        if ("cpufreq" in kind or kind == "Processor") and state.isdecimal() and int(state) > 0:
            return True
    return False


class Rest:
    """How long to rest behind an answer, so that a hot board cools down."""

    def __init__(self, system: Path = _SYS) -> None:
        """Begin without a rest.

        Args:
            system: where the files of Linux are.
        """
        self.is_throttled = False
        self._system = system
        self._factor = 0.0

    def seconds_behind(self, busy_s: float) -> float:
        """Return how long to rest: as long as the answer took, then twice, up to a minute.

        Args:
            busy_s: what the answer took.
        """
        was_throttled, self.is_throttled = self.is_throttled, is_throttled(self._system)
        if self.is_throttled:
            self._factor = min(max(1.0, 2 * self._factor), _MOST_FACTOR)
        else:
            self._factor = self._factor / 2 if self._factor > 1 else 0.0
        if was_throttled != self.is_throttled:
            logger.warning(
                "the CPU is slowed down (heat, or a weak power supply): answers come less often"
                if self.is_throttled
                else "the CPU is no longer slowed down"
            )
        return min(self._factor * busy_s, _MOST_REST_S)


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return ""
