"""Errors of batches: many pictures and questions, answered in one run."""

import signal

from edge_et.errors.base import EdgeETError


class BatchError(EdgeETError):
    """A batch cannot be run."""


class BatchInputError(BatchError):
    """A folder, a pattern or a table cannot be read as pictures and questions."""

    def __init__(self, path: str, reason: str, line: int | None = None) -> None:
        self.path = path
        self.reason = reason
        self.line = line
        place = path if line is None else f"{path}, line {line}"
        super().__init__(f"{place}: {reason}")


class BatchOutputError(BatchError):
    """The output is another run's, cannot be gone on with, or cannot be written."""

    def __init__(self, path: str, reason: str) -> None:
        self.path = path
        self.reason = reason
        super().__init__(f"{path}: {reason}")


class WorkerEndedError(BatchError):
    """The process that answers ended by itself: killed for its memory, or by native code.

    Attributes:
        status: its exit status; below 0 the number of the signal.
    """

    def __init__(self, status: int, work: str) -> None:
        self.status = status
        self.work = work
        advice = ""
        if status < 0:
            try:
                how = f"by {signal.Signals(-status).name}"
            except ValueError:
                how = f"by signal {-status}"
            if -status == signal.SIGKILL:
                advice = ": perhaps memory ran out; take fewer workers or a smaller bundle"
        else:
            how = f"with status {status}"
        super().__init__(f"a worker ended {how} while it {work}{advice}")
