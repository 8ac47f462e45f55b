"""The access of one call: its steps are run here, and it gives way between them.

A stream is run by no thread between two events: any may go on with it, or none. So access belongs
to the call, and knows which thread is inside.
"""

import threading
from collections.abc import Generator
from contextlib import closing
from typing import TYPE_CHECKING, TypeVar

from edge_et.cancellation import CancelToken
from edge_et.pipeline.progress import OnProgress, is_told
from edge_et.results import Progress, StageEvent

if TYPE_CHECKING:
    from edge_et.pipeline.scheduler import Scheduler

R = TypeVar("R")


class Access:
    """What one call has to the pipeline, waits for, or had.

    Attributes:
        rank: the least goes first.
        cancel: ends this call alone.
        cancel_of_caller: ends others as well.
        thread: which is inside; None: none is.
        threads: all that ever were.
        is_inside: whether it was let in, and did not end yet.
        left_at: when the last one went, seconds of a clock that only goes forward.
    """

    def __init__(
        self,
        scheduler: "Scheduler",
        rank: tuple[float, int],
        cancel: CancelToken,
        others: CancelToken | None,
    ) -> None:
        """Begin to wait; `Scheduler.join` does it."""
        self._scheduler = scheduler
        self.rank = rank
        self.cancel = cancel
        self.cancel_of_caller = others or CancelToken()
        self.thread: int | None = None
        self.threads = {threading.get_ident()}
        self.is_inside = False
        self.left_at = 0.0

    def run(
        self, steps: Generator[StageEvent, None, R], on_progress: OnProgress | None = None
    ) -> R:
        """Run steps to their end, giving way between them.

        Args:
            steps: yield before each step.
            on_progress: is called between two steps, while others may compute; None: nobody is.

        Raises:
            CancelledError: the call was cancelled.
            EdgeETError: of the steps.
        """
        # Closed also where an exception that somebody keeps refers to it.
        with closing(steps):
            self._scheduler.take_turn(self)
            while True:
                try:
                    event = next(steps)
                except StopIteration as stop:
                    result: R = stop.value
                    return result
                if on_progress is not None and isinstance(event, Progress) and is_told(event):
                    self._scheduler.leave(self)
                    on_progress(event)
                    self._scheduler.enter(self)
                self._scheduler.give_way(self)

    def lend(self, steps: Generator[StageEvent, None, R]) -> Generator[StageEvent, None, R]:
        """Pass on what steps yield; while the caller has it, no thread is inside.

        Args:
            steps: yield before each step.

        Raises:
            CancelledError: the call was cancelled.
            EdgeETError: of the steps; as for `Scheduler.check` where the pipeline was closed.
        """
        with closing(steps):
            self._scheduler.take_turn(self)
            while True:
                try:
                    event = next(steps)
                except StopIteration as stop:
                    result: R = stop.value
                    return result
                if is_told(event):
                    self._scheduler.leave(self)
                    yield event
                    self._scheduler.enter(self)
                self._scheduler.give_way(self)

    def regain(self) -> bool:
        """Let this thread be inside if no other call is under way; return whether none is."""
        return self._scheduler.reenter(self)
