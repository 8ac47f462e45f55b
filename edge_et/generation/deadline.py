"""Time: when an answer has to be there, and how fast a model reads and writes here.

In: a clock, and what steps took. Out: whether time is up. What is cut then is not known here.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter

Clock = Callable[[], float]
"""Returns seconds; only differences mean something."""


class Deadline:
    """When an answer has to be there, counted from the call that asked for it."""

    def __init__(self, seconds: float | None = None, clock: Clock = perf_counter) -> None:
        """Begin to count.

        Args:
            seconds: from now on; None: there is no hurry.
            clock: tells the time.
        """
        self.clock = clock
        self._end = None if seconds is None else clock() + seconds

    def seconds_left(self) -> float:
        """Return the time left, negative behind the deadline; infinite where there is none."""
        return math.inf if self._end is None else self._end - self.clock()

    def passed(self, reserve_s: float = 0.0) -> bool:
        """Return whether time is up.

        Args:
            reserve_s: seconds that are still needed for something else.
        """
        return self._end is not None and self.clock() + reserve_s >= self._end


_WEIGHT = 0.25
"""What a new measurement counts in a mean: a step gets slower as the cache fills."""


_POSITIONS_A_TOKEN = 8
"""Positions read in the time of one token written, to guess with before that was measured.

Others measured 5.8 and 6.0 on a Raspberry Pi 5 for models of 350 and 700 million parameters (Q6_K,
llama-bench, prompts of 512 tokens, texts of 128).

Source: github.com/ggml-org/llama.cpp/pull/19360.
"""


@dataclass(slots=True)
class Throughput:
    """How fast a model reads and writes on this machine, as measured so far.

    Attributes:
        position_s: seconds to read a position of a prompt; 0 before the first measurement.
        token_s: seconds to write a token; 0 before the first measurement.
    """

    position_s: float = 0.0
    token_s: float = 0.0

    def observe_prefill(self, positions: int, seconds: float) -> None:
        """Take a measurement of a prompt's positions, at least 1."""
        self.position_s = _mean(self.position_s, seconds / positions)

    def observe_decode(self, seconds: float) -> None:
        """Take a measurement of one token."""
        self.token_s = _mean(self.token_s, seconds)

    def seconds_for(self, positions: int, tokens: int) -> float:
        """Return the seconds that reading and then writing would take.

        Args:
            positions: to read, 0 or more.
            tokens: to write, 0 or more.
        """
        token_s = self.token_s or _POSITIONS_A_TOKEN * self.position_s
        return positions * self.position_s + tokens * token_s


def _mean(before: float, new: float) -> float:
    return new if before == 0 else before + _WEIGHT * (new - before)
