"""How long to rest while the system slows the CPU down.

In: what `edge_et.sensors` reads. Out: seconds. Where nobody tells, nobody rests.
"""

import logging
from pathlib import Path

from edge_et.sensors import SYS, throttling_reasons

logger = logging.getLogger(__name__)

_MOST_REST_S = 60.0
_MOST_FACTOR = 8.0


class Rest:
    """How long to rest behind an answer, so that a hot board cools down."""

    def __init__(self, sys: Path = SYS) -> None:
        """Begin without a rest.

        Args:
            sys: where sysfs is mounted.
        """
        self.is_throttled = False
        self._sys = sys
        self._factor = 0.0

    def seconds_behind(self, busy_s: float) -> float:
        """Return how long to rest: as long as the answer took, then twice, up to a minute.

        Args:
            busy_s: what the answer took.
        """
        reasons = throttling_reasons(self._sys)
        was_throttled, self.is_throttled = self.is_throttled, bool(reasons)
        if self.is_throttled:
            self._factor = min(max(1.0, 2 * self._factor), _MOST_FACTOR)
        else:
            self._factor = self._factor / 2 if self._factor > 1 else 0.0
        if was_throttled != self.is_throttled:
            logger.warning(
                f"the CPU is slowed down, so answers come less often: {'; '.join(reasons)}"
                if reasons
                else "the CPU is no longer slowed down"
            )
        return min(self._factor * busy_s, _MOST_REST_S)
