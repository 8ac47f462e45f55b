"""The lock of a pipeline: one user at a time."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

from edge_et.errors import BusyError


class PipelineLock:
    """A lock: other threads wait, the thread that has it already gets an error, not a deadlock."""

    def __init__(self) -> None:
        """Begin free."""
        self._lock = threading.Lock()
        self._owner: int | None = None

    def __enter__(self) -> None:
        if self.is_own():
            raise BusyError
        self._lock.acquire()
        self._owner = threading.get_ident()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # A stream may be finished by another thread than the one that began it.
        self._owner = None
        self._lock.release()

    def is_own(self) -> bool:
        """Return whether this thread has the lock."""
        return self._owner == threading.get_ident()

    @contextmanager
    def or_own(self) -> Iterator[None]:
        """Take the lock unless this thread has it already."""
        if self.is_own():
            yield
        else:
            with self:
                yield
