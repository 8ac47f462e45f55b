"""What a camera program is told."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from edge_et.camera.frames import Frame
from edge_et.errors import EdgeETError
from edge_et.results import Answer


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchEvent:
    """An answer about a frame, or why there is none; one of `answer` and `error` is not None.

    Attributes:
        time: when the frame was received, or the source was lost, in UTC.
        frame: the frame with its number and pixels; None: it could not be decoded, or the source
            was lost.
        dropped: frames that newer ones displaced since the event before.
        answer: the answer. ``value``, ``shares`` and ``finish_reasons`` tell a program what it is,
            how sure the model is, and whether the deadline cut it.
        error: what was wrong with this frame, or why the source was lost. The watch goes on.
        is_throttled: whether the system slowed the CPU down for heat or want of power.
    """

    time: datetime
    frame: Frame | None = None
    dropped: int = 0
    answer: Answer | None = None
    error: EdgeETError | None = None
    is_throttled: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return the event as plain values, ready for JSON: of the frame the number alone."""
        return {
            "time": self.time.isoformat(),
            "frame": None if self.frame is None else self.frame.number,
            "dropped": self.dropped,
            "answer": None if self.answer is None else self.answer.to_dict(),
            "error": None if self.error is None else str(self.error),
            "is_throttled": self.is_throttled,
        }
