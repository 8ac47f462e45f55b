"""Processes that answer, each with a bundle of its own.

In: tasks, the rows about a picture each. Out: the fields of each row, in the order in which they
are done. A worker that dies is replaced, and a row at which two die has an error. Where tasks come
from and rows go to is not known here.
"""

import logging
import multiprocessing
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from typing import Any, Final

from edge_et.batch.answering import failed
from edge_et.batch.worker import DONE, READY, Opening, Task
from edge_et.errors import WorkerEndedError

_CHILD: Final = "from edge_et.batch.worker import main; main()"
_LOADS: Final = 2  # so many deaths in a row while loading end the run
_END_S: Final = 10.0

logger = logging.getLogger(__name__)

Done = tuple[int, dict[str, Any]]
"""A row's number and its fields."""


def answers(
    tasks: Iterator[Task], opening: Opening, count: int, on_ready: Callable[[], None]
) -> Generator[Done, None, None]:
    """Let processes answer; they end with the iteration, done or not.

    Args:
        tasks: asked for one by one, as workers are free.
        opening: how they open the bundle; the first one prepares for the others.
        count: how many processes, at least 1.
        on_ready: is called when the first has loaded.

    Raises:
        EdgeETError: the bundle cannot be loaded.
        WorkerEndedError: workers end while they load.
        OSError: no process can be started, or loading met one.
        MemoryError: there is not enough memory to load.
    """
    return _Workers(tasks, opening, count, on_ready).run()


class _Worker:
    """A process, and what it does."""

    def __init__(self, opening: Opening) -> None:
        self.task: Task | None = None
        self.left: dict[int, Any] = {}
        self.is_ready = False
        self.connection, theirs = multiprocessing.Pipe()
        with theirs:
            # A group of its own: Ctrl-C is for the parent, which ends it. Its stdin stays open: the
            # end of it tells the child that this process is gone.
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-c", _CHILD, str(theirs.fileno())],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                process_group=0,
            )
        with suppress(OSError):  # it has died, which is heard
            self.connection.send(opening)

    def send(self, task: Task) -> None:
        self.task, self.left = task, dict(task.rows)
        self.connection.send(task)

    def end(self, *, kill: bool) -> int:
        """End the process, and return its status."""
        if kill:
            self.process.kill()
        self.connection.close()
        try:
            status = self.process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            status = self.process.wait()
        assert self.process.stdin is not None
        self.process.stdin.close()
        return status


class _Workers:
    def __init__(
        self, tasks: Iterator[Task], opening: Opening, count: int, on_ready: Callable[[], None]
    ) -> None:
        self._tasks, self._opening, self._count = tasks, opening, count
        self._on_ready: Callable[[], None] | None = on_ready
        self._given_back: list[Task] = []
        self._next: Task | None = next(tasks, None)
        self._workers: dict[Connection, _Worker] = {}
        self._deaths_at_load = 0

    def run(self) -> Generator[Done, None, None]:
        is_done = False
        try:
            while self._has_work() or any(each.task for each in self._workers.values()):
                self._start()
                self._give()
                for connection in wait(list(self._workers)):
                    assert isinstance(connection, Connection)
                    yield from self._hear(self._workers[connection])
            is_done = True
        finally:
            for worker in self._workers.values():
                # One that loads is not waited for, and would find nobody to tell that it is ready.
                worker.end(kill=not (is_done and worker.is_ready))

    def _has_work(self) -> bool:
        return bool(self._given_back) or self._next is not None

    def _take(self) -> Task:
        if self._given_back:
            return self._given_back.pop()
        task, self._next = self._next, next(self._tasks, None)
        assert task is not None
        return task

    def _start(self) -> None:
        """Start workers; the others when the first has loaded, and while there is work for them."""
        count = 1 if self._on_ready is not None else self._count
        while self._has_work() and len(self._workers) < count:
            worker = _Worker(self._opening)
            self._workers[worker.connection] = worker

    def _give(self) -> None:
        for worker in self._workers.values():
            if worker.is_ready and worker.task is None and self._has_work():
                with suppress(OSError):  # it has died, which is heard
                    worker.send(self._take())

    def _hear(self, worker: _Worker) -> Iterator[Done]:
        try:
            message = worker.connection.recv()
        except (EOFError, OSError):
            yield from self._bury(worker)
            return
        if message == READY:
            worker.is_ready = True
            self._deaths_at_load = 0
            if self._on_ready is not None:
                self._on_ready()
                self._on_ready = None
        elif message == DONE:
            worker.task = None
        elif isinstance(message, Exception):
            raise message
        else:
            del worker.left[message[0]]
            yield message

    def _bury(self, worker: _Worker) -> Iterator[Done]:
        """Give the work of a dead worker to others; its row has an error if it killed two."""
        del self._workers[worker.connection]
        status = worker.end(kill=False)
        if not worker.is_ready:
            self._deaths_at_load += 1
            err = WorkerEndedError(status, "loaded the bundle")
            if self._deaths_at_load >= _LOADS:
                raise err
            logger.warning("%s; a new one is started", err)
            return
        task, rows = worker.task, tuple(worker.left.items())
        if task is None or not rows:
            logger.warning("%s", WorkerEndedError(status, "waited"))
            return
        number = rows[0][0]
        err = WorkerEndedError(status, f"answered row {number}")
        if task.died_at == number:
            logger.warning("%s, for the second time; the row has an error", err)
            yield number, failed(err, task.sha256)
            rows = rows[1:]
        else:
            logger.warning("%s; it is asked once more", err)
        if rows:
            again = Task(sha256=task.sha256, picture=task.picture, rows=rows, died_at=number)
            self._given_back.append(again)
