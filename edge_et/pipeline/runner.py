"""How a call runs: let in, its picture prepared and encoded, its stages run over a free context.

In: jobs of calls, from any thread. Out: their results, or their events. What the stages do is not
known here, nor what a caller said.
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from edge_et.cancellation import CancelToken
from edge_et.errors import OptionError
from edge_et.image import (
    AnyImage,
    CheckAll,
    ImageEncoder,
    ImageTokens,
    PreparedImage,
    encode_each,
    prepare_each,
)
from edge_et.options import AnswerOptions
from edge_et.pipeline.access import Access
from edge_et.pipeline.asynchronous import AsyncStream, Worker, run_in_thread
from edge_et.pipeline.job import Job, Steps
from edge_et.pipeline.model_pool import ModelPool
from edge_et.pipeline.progress import OnProgress, check_on_progress, in_loop
from edge_et.pipeline.scheduler import Scheduler
from edge_et.pipeline.stream import Stream
from edge_et.results import Answer, Event
from edge_et.store import Snapshots

R = TypeVar("R")

MAX_PRIORITY = 1000
"""The highest priority, and of opposite sign the lowest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who asks: how urgent it is, what ends it, and who is told.

    Attributes:
        priority: the higher goes first.
        cancel: ends the call when it is cancelled, and others that it was given to; None: nothing.
        on_progress: is told how far it is; None: nobody is.
    """

    priority: int = 0
    cancel: CancelToken | None = None
    on_progress: OnProgress | None = None

    def __post_init__(self) -> None:
        """Check what a caller said.

        Raises:
            OptionError: something is of a wrong type or out of its range.
        """
        priority = self.priority
        is_number = isinstance(priority, int) and not isinstance(priority, bool)
        if not is_number or abs(priority) > MAX_PRIORITY:
            expected = f"a whole number from {-MAX_PRIORITY} to {MAX_PRIORITY}"
            raise OptionError("priority", priority, expected)
        if not isinstance(self.cancel, CancelToken | None):
            raise OptionError("cancel", self.cancel, "an `edge_et.CancelToken`")
        check_on_progress(self.on_progress)


class Runner:
    """Runs the calls over one loaded bundle."""

    def __init__(
        self,
        scheduler: Scheduler,
        encoder: ImageEncoder,
        pool: ModelPool,
        snapshots: Snapshots | None,
        after_answer: Callable[[], object] | None,
    ) -> None:
        """Begin with nothing running.

        Args:
            scheduler: lets calls in.
            encoder: makes image tokens.
            pool: has the contexts, as many as the scheduler lets calls in.
            snapshots: what is kept on disk; None: nothing is.
            after_answer: is called when a call has ended well; None: nothing is.
        """
        self._scheduler = scheduler
        self._encoder = encoder
        self._pool = pool
        self._snapshots = snapshots
        self._after_answer = after_answer

    def run(self, job: Job[R], caller: Caller = Caller()) -> R:
        """Run a call to its end."""
        access = self._join(caller)
        return self._run(access, job, caller.on_progress)

    async def run_async(self, job: Job[R], caller: Caller) -> R:
        """Run a call in a thread that the event loop does not wait for."""
        access = self._join(caller)
        tell = None if caller.on_progress is None else in_loop(caller.on_progress)
        worker = Worker()
        try:
            return await run_in_thread(worker, lambda: self._run(access, job, tell), access.cancel)
        finally:
            worker.end()

    def stream(self, job: Job[Answer], caller: Caller) -> Stream:
        """Return the events of a call, which runs as they are asked for."""
        self._scheduler.check()
        cancel = CancelToken()

        def begin() -> Generator[Event, None, None]:
            return self._events(self._join(caller, cancel), job)

        return Stream(begin, cancel)

    def stream_async(self, job: Job[Answer], caller: Caller) -> AsyncStream:
        """Do as `stream`, for an event loop."""
        return AsyncStream(self.stream(job, caller))

    def encode(
        self, images: Sequence[AnyImage], options: AnswerOptions, check: CheckAll
    ) -> tuple[ImageTokens, ...]:
        """Turn pictures into image tokens.

        Args:
            images: the pictures.
            options: `max_tiles` and `pooling` of them.
            check: as for a `Job`.
        """
        access = self._join()
        with self._admitted(access):
            prepared = prepare_each(self._encoder, images, options, check)
            return access.run(encode_each(self._encoder, prepared, access.cancel))[0]

    def clear(self) -> None:
        """Forget image tokens, and the KV caches of contexts that no call has."""
        access = self._join()

        def steps() -> Steps[None]:
            self._encoder.clear()
            self._pool.forget()
            yield from ()

        with self._admitted(access):
            access.run(steps())

    def _join(self, caller: Caller = Caller(), cancel: CancelToken | None = None) -> Access:
        return self._scheduler.join(caller.priority, cancel or CancelToken(), caller.cancel)

    def _run(self, access: Access, job: Job[R], on_progress: OnProgress | None) -> R:
        with self._admitted(access):
            prepared = self._prepare(job)
            result = access.run(self._steps(access, prepared, job), on_progress)
        if self._after_answer is not None:
            self._after_answer()
        return result

    def _events(self, access: Access, job: Job[Answer]) -> Generator[Event, None, None]:
        with self._admitted(access):
            prepared = self._prepare(job)
            answer = yield from access.lend(self._steps(access, prepared, job))
        if self._after_answer is not None:
            self._after_answer()
        yield answer

    @contextmanager
    def _admitted(self, access: Access) -> Iterator[None]:
        """Be inside; when the work is done or given up, have snapshots written."""
        with self._scheduler.admit(access):
            try:
                yield
            finally:
                if self._snapshots is not None and access.regain():
                    self._snapshots.settle()

    def _prepare(self, job: Job[R]) -> tuple[PreparedImage, ...]:
        if not job.images:
            job.check(())
        return prepare_each(self._encoder, job.images, job.options, job.check)

    def _steps(self, access: Access, images: Sequence[PreparedImage], job: Job[R]) -> Steps[R]:
        encoded = yield from encode_each(self._encoder, images, access.cancel)
        pictures = " ".join(image.digest for image in images) or None
        with self._pool.lease(pictures, access) as models:
            return (yield from job.work(models, encoded))
