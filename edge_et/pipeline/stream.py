"""A stream of events: an iterator that any thread may go on with, or close at any moment."""

import threading
from collections.abc import Callable, Generator, Iterator
from inspect import GEN_RUNNING, getgeneratorstate
from typing import Self

from edge_et.cancellation import CancelToken
from edge_et.errors import BusyError
from edge_et.results import Event


class Stream(Iterator[Event]):
    """The events of one call, the `edge_et.Answer` last.

    Nothing runs before the first one is asked for.
    Also a context manager, which closes it.

    Attributes:
        cancel: ends the call.
    """

    def __init__(
        self, begin: Callable[[], Generator[Event, None, None]], cancel: CancelToken
    ) -> None:
        """Begin with nothing done; `ExtractThink.stream` does it.

        Args:
            begin: lines the call up and returns its events.
            cancel: ends the call.
        """
        self._begin: Callable[[], Generator[Event, None, None]] | None = begin
        self.cancel = cancel
        self._events: Generator[Event, None, None] | None = None
        # A signal handler may close it where its own thread is inside.
        self._lock = threading.RLock()

    def __next__(self) -> Event:
        """Return the next event.

        Raises:
            StopIteration: the answer was the last one, or the stream was closed.
            EdgeETError: as for `ExtractThink.answer`.
        """
        with self._lock:
            self.line_up()
            if self._events is None:
                raise StopIteration
            if getgeneratorstate(self._events) == GEN_RUNNING:  # a signal handler asks
                raise BusyError
            return next(self._events)

    def line_up(self) -> None:
        """Let the call wait for its turn from now on, if it does not yet.

        Raises:
            EdgeETError: it cannot; see `Scheduler.join`.
        """
        with self._lock:
            if self._begin is not None:
                self._events = self._begin()
                self._begin = None

    def close(self) -> None:
        """End the call, in the middle of a step too; may be called by any thread, and again.

        Where another thread waits for an event, that raises a `CancelledError`, and is waited for.
        """
        self.cancel.cancel()
        with self._lock:
            self._begin = None
            events = self._events
            if events is not None and getgeneratorstate(events) != GEN_RUNNING:
                events.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()
