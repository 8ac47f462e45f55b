import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from edge_et.cancellation import CancelToken
from edge_et.errors import (
    BusyError,
    CancelledError,
    ClosedError,
    EdgeETError,
    ForkedError,
    QueueFullError,
)
from edge_et.pipeline import scheduler
from edge_et.pipeline.access import Access
from edge_et.pipeline.scheduler import Scheduler
from edge_et.results import Progress

PATIENCE_S = 20.0
PROGRESS = Progress(stage="think", phase="prefill", done=0, total=1)


def elsewhere(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def new_lock(contexts: int = 1) -> Scheduler:
    return Scheduler(contexts, max_waiting=100)


@contextmanager
def inside(lock: Scheduler, priority: int = 0) -> Iterator[Access]:
    access = lock.join(priority, CancelToken())
    with lock.admit(access):
        lock.take_turn(access)
        yield access


def steps(lock: Scheduler, count: int = 3) -> Iterator[Any]:
    access = lock.join(0, CancelToken())
    with lock.admit(access):
        yield from access.lend(number for number in range(count))  # type: ignore[misc]


def is_free(lock: Scheduler) -> bool:
    entered: list[bool] = []

    def work() -> None:
        with inside(lock):
            entered.append(True)

    elsewhere(work).join(PATIENCE_S)
    return entered == [True]


def test_a_call_inside_a_call_is_an_error_and_no_deadlock() -> None:
    lock = new_lock()
    with inside(lock), pytest.raises(BusyError), inside(lock):
        pass
    assert is_free(lock)


def test_another_thread_waits_for_its_turn() -> None:
    lock = new_lock()
    order: list[str] = []
    coming = threading.Event()

    def work() -> None:
        coming.set()
        with inside(lock):
            order.append("second")

    with inside(lock):
        thread = elsewhere(work)
        assert coming.wait(PATIENCE_S)
        thread.join(0.05)  # no time is measured: it would come in by then if it did not wait
        order.append("first")
    thread.join(PATIENCE_S)
    assert order == ["first", "second"]


def test_an_error_inside_gives_the_pipeline_back() -> None:
    lock = new_lock()
    with pytest.raises(ValueError, match="inside"), inside(lock):
        raise ValueError("inside")
    assert is_free(lock)


def test_the_only_thread_is_not_left_waiting_for_its_own_stream(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(scheduler, "_is_only_thread", lambda: True)
    lock = new_lock()
    stream = steps(lock)
    next(stream)
    with pytest.raises(BusyError), inside(lock):
        pass
    assert list(stream) == [1, 2]
    assert is_free(lock)


def test_a_thread_whose_stream_another_one_continues_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler, "_is_only_thread", lambda: False)
    lock = new_lock()
    stream = steps(lock)
    order: list[object] = [next(stream)]

    def work() -> None:
        order.extend(stream)

    threading.Timer(0.05, work).start()
    with inside(lock):
        order.append("next call")
    assert order == [0, 1, 2, "next call"]


@pytest.mark.parametrize("constant", ["_OWN_PATIENCE_S", "_PATIENCE_S"])
def test_a_stream_that_nobody_continues_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, constant: str
) -> None:
    monkeypatch.setattr(scheduler, "_is_only_thread", lambda: False)
    monkeypatch.setattr(scheduler, constant, 0.05)
    lock = new_lock()
    stream = steps(lock)
    if constant == "_PATIENCE_S":
        elsewhere(lambda: next(stream)).join(PATIENCE_S)
    else:
        next(stream)
    with pytest.raises(BusyError), inside(lock):
        pass
    stream.close()  # type: ignore[attr-defined]
    assert is_free(lock)


def test_any_thread_may_end_a_stream() -> None:
    lock = new_lock()
    stream = steps(lock)
    next(stream)
    elsewhere(stream.close).join(PATIENCE_S)  # type: ignore[attr-defined]
    assert is_free(lock)


def test_closing_frees_once_and_lets_nobody_in() -> None:
    lock = new_lock()
    freed: list[str] = []
    lock.close(lambda: freed.append("freed"))
    lock.close(lambda: freed.append("freed"))
    assert freed == ["freed"]
    with pytest.raises(ClosedError, match="pipeline"), inside(lock):
        pass


def test_closing_waits_for_the_step_of_another_thread_and_ends_its_stream() -> None:
    lock = new_lock()
    came, leave = threading.Event(), threading.Event()
    order: list[object] = []

    def events() -> Iterator[str]:
        yield "first"
        came.set()
        leave.wait(PATIENCE_S)
        order.append("step")
        yield "second"
        order.append("never")

    def work() -> None:
        try:
            with inside(lock) as access:
                for _ in access.lend(events()):  # type: ignore[arg-type]
                    pass
        except ClosedError:
            order.append("closed")

    thread = elsewhere(work)
    assert came.wait(PATIENCE_S)
    threading.Timer(0.05, leave.set).start()
    lock.close(lambda: order.append("freed"))
    thread.join(PATIENCE_S)
    assert order[0] == "step"
    assert sorted(order[1:]) == ["closed", "freed"]  # type: ignore[type-var]


def test_closing_ends_a_stream_between_two_events() -> None:
    lock = new_lock()
    stream = steps(lock)
    next(stream)
    freed: list[str] = []
    lock.close(lambda: freed.append("freed"))
    assert freed == ["freed"]
    with pytest.raises(ClosedError):
        next(stream)


def test_whoever_waits_is_told_of_the_close() -> None:
    lock = new_lock()
    errors: list[Exception] = []
    coming = threading.Event()

    def work() -> None:
        coming.set()
        try:
            with inside(lock):
                pass
        except ClosedError as err:
            errors.append(err)

    stream = steps(lock)
    next(stream)
    thread = elsewhere(work)
    assert coming.wait(PATIENCE_S)
    lock.close(lambda: None)
    thread.join(PATIENCE_S)
    assert len(errors) == 1


def test_calls_come_in_as_they_came() -> None:
    lock = new_lock()
    served: list[int] = []
    end = threading.Event()
    begin = threading.Barrier(3)

    def work(number: int) -> None:
        begin.wait(PATIENCE_S)
        while not end.is_set():
            with inside(lock):
                served.append(number)
                time.sleep(0.001)  # as native code does, it lets the others come
                if len(served) == 90:
                    end.set()

    threads = [elsewhere(lambda number=number: work(number)) for number in range(3)]  # type: ignore[misc]
    for thread in threads:
        thread.join(PATIENCE_S)
    assert end.is_set()
    assert min(served.count(number) for number in range(3)) > 20


def test_a_call_that_an_exception_cut_off_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal handler may raise behind any step, that which gives the pipeline back too."""
    lock = new_lock()
    with monkeypatch.context() as patch:
        patch.setattr(lock, "_give_back", interrupt)
        with pytest.raises(KeyboardInterrupt), inside(lock):
            pass
    assert is_free(lock)
    with monkeypatch.context() as patch:
        patch.setattr(lock, "_wait_outside", interrupt)
        with pytest.raises(KeyboardInterrupt), inside(lock):
            pass
    assert is_free(lock)


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def test_a_signal_handler_goes_before_the_call_of_its_thread_that_waits() -> None:
    lock = new_lock()
    order: list[str] = []
    came, leave = threading.Event(), threading.Event()

    def first() -> None:
        with inside(lock):
            came.set()
            leave.wait(PATIENCE_S)

    thread = elsewhere(first)
    assert came.wait(PATIENCE_S)

    def handler(*_: object) -> None:
        leave.set()
        with inside(lock):
            order.append("handler")

    before = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with inside(lock):
            order.append("call")
    finally:
        signal.signal(signal.SIGALRM, before)
    thread.join(PATIENCE_S)
    assert order == ["handler", "call"]


def test_a_signal_handler_closes_at_the_end_of_the_call() -> None:
    lock = new_lock()
    freed: list[str] = []
    with inside(lock):
        lock.close(lambda: freed.append("freed"))
        assert freed == []
    assert freed == ["freed"]


def test_a_forked_child_is_told_and_frees_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    lock = new_lock()
    stream, left = steps(lock), steps(lock)
    next(stream)
    monkeypatch.setattr(os, "getpid", lambda: -1)
    with pytest.raises(ForkedError, match="forked"), inside(lock):
        pass
    with pytest.raises(ForkedError):
        next(stream)
    left.close()  # type: ignore[attr-defined]
    freed: list[str] = []
    lock.close(lambda: freed.append("freed"))
    assert freed == []


# Several contexts.


class Caller:
    """A call in a thread of its own, whose steps the test lets go on one by one."""

    def __init__(self, lock: Scheduler, log: list[str], name: str, priority: int = 0) -> None:
        self.name = name
        self.cancel = CancelToken()
        self.error: BaseException | None = None
        self._lock, self._log, self._priority = lock, log, priority
        self._go, self._waits = threading.Semaphore(0), threading.Semaphore(0)
        self._thread = elsewhere(self._work)

    def step(self, count: int = 1) -> None:
        """Let some steps begin, each but the last one end."""
        for _ in range(count):
            assert self._waits.acquire(timeout=PATIENCE_S)
            self._go.release()

    def join(self) -> None:
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()

    def _work(self) -> None:
        try:
            access = self._lock.join(self._priority, self.cancel)
            with self._lock.admit(access):
                access.run(self._steps())  # type: ignore[arg-type]
        except EdgeETError as err:
            self.error = err

    def _steps(self) -> Iterator[int]:
        for number in range(3):
            self._log.append(f"{self.name}{number}")
            self._waits.release()
            assert self._go.acquire(timeout=PATIENCE_S)
            yield number


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


def test_an_urgent_call_goes_between_two_steps_of_another() -> None:
    lock, log = new_lock(contexts=2), []
    slow = Caller(lock, log, "slow ")
    until(lambda: log)
    urgent = Caller(lock, log, "urgent ", priority=1)
    until(lambda: lock._wanting)
    slow.step()
    urgent.step(3)
    slow.step(2)
    urgent.join()
    slow.join()
    assert log == ["slow 0", "urgent 0", "urgent 1", "urgent 2", "slow 1", "slow 2"]


def test_of_equal_calls_the_first_runs_to_its_end() -> None:
    lock, log = new_lock(contexts=2), []
    first = Caller(lock, log, "first ")
    until(lambda: log)
    second = Caller(lock, log, "second ")
    until(lambda: lock._waiting)
    first.step(3)
    second.step(3)
    first.join()
    second.join()
    assert log == [f"{name} {number}" for name in ("first", "second") for number in range(3)]


def test_an_urgent_call_finds_a_context_however_many_others_wait() -> None:
    lock, log = new_lock(contexts=2), []
    first = Caller(lock, log, "first ")
    until(lambda: log)
    second = Caller(lock, log, "second ")
    until(lambda: lock._waiting)
    urgent = Caller(lock, log, "urgent ", priority=1)
    until(lambda: lock._wanting)
    first.step()
    urgent.step(3)
    first.step(2)
    second.step(3)
    for caller in (urgent, first, second):
        caller.join()
    names = [name for name in log if name.endswith(("0", "2"))]
    assert names == ["first 0", "urgent 0", "urgent 2", "first 2", "second 0", "second 2"]


def test_calls_get_in_by_priority_and_then_as_they_came() -> None:
    lock, log = new_lock(), []
    holder = Caller(lock, log, "holder ")
    until(lambda: log)
    callers = []
    for name, priority in (("a", 0), ("b", 5), ("c", -1), ("d", 5), ("e", 0)):
        callers.append(Caller(lock, log, name, priority))
        until(lambda: len(lock._waiting) == len(callers))
    holder.step(3)
    for index in (1, 3, 0, 4, 2):
        callers[index].step(3)
        callers[index].join()
    assert [name for name in log if name.endswith("0")] == [
        "holder 0",
        "b0",
        "d0",
        "a0",
        "e0",
        "c0",
    ]


def test_beyond_max_waiting_a_call_is_refused_at_once() -> None:
    lock, log = Scheduler(1, max_waiting=1), []
    inside_ = Caller(lock, log, "inside ")
    until(lambda: log)
    waiting = Caller(lock, log, "waiting ")
    until(lambda: lock._waiting)
    with pytest.raises(QueueFullError, match="1 calls wait") as caught:
        lock.join(7, CancelToken())
    assert (caught.value.waiting, caught.value.limit) == (1, 1)
    inside_.step(3)
    waiting.step(3)
    waiting.join()
    assert is_free(lock)


def test_nobody_has_to_wait_where_nobody_may() -> None:
    lock = Scheduler(1, max_waiting=0)
    with inside(lock), pytest.raises(QueueFullError):
        lock.join(0, CancelToken())
    assert is_free(lock)


def test_a_call_that_waits_is_cancelled() -> None:
    lock, log = new_lock(), []
    holder = Caller(lock, log, "holder ")
    until(lambda: log)
    waiting = Caller(lock, log, "waiting ")
    until(lambda: lock._waiting)
    waiting.cancel.cancel()
    waiting.join()
    assert isinstance(waiting.error, CancelledError)
    holder.step(3)
    holder.join()
    assert log == ["holder 0", "holder 1", "holder 2"]
    assert is_free(lock)


def test_a_call_that_waits_for_its_turn_is_cancelled() -> None:
    lock, log = new_lock(contexts=2), []
    slow = Caller(lock, log, "slow ")
    until(lambda: log)
    other = Caller(lock, log, "other ", priority=1)
    until(lambda: lock._wanting)
    other.cancel.cancel()
    other.join()
    assert isinstance(other.error, CancelledError)
    slow.step(3)
    slow.join()
    assert slow.error is None


def test_others_compute_while_a_streams_caller_has_an_event() -> None:
    lock, log = new_lock(contexts=2), []
    stream = steps(lock, 2)
    assert next(stream) == 0
    other = Caller(lock, log, "other ")
    other.step(2)
    until(lambda: len(log) == 3)
    later = threading.Timer(0.02, other.step)
    later.start()
    assert list(stream) == [1]  # waits for the step that is under way, and goes first again
    other.join()
    assert is_free(lock)


def test_an_urgent_call_does_not_wait_for_a_streams_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler, "_GRACE_S", 1e9)
    lock, log = new_lock(contexts=2), []
    stream = steps(lock, 2)
    next(stream)
    urgent = Caller(lock, log, "urgent ", priority=1)
    urgent.step(3)
    urgent.join()
    assert list(stream) == [1]


def test_a_listener_that_asks_gets_another_context_or_an_error() -> None:
    for contexts in (1, 2):
        lock = new_lock(contexts)
        answers: list[object] = []

        def listen(_: object) -> None:
            try:
                with inside(lock):  # noqa: B023
                    answers.append("answered")  # noqa: B023
            except BusyError:
                answers.append("busy")  # noqa: B023

        access = lock.join(0, CancelToken())
        with pytest.MonkeyPatch.context() as patch, lock.admit(access):
            patch.setattr(scheduler, "_is_only_thread", lambda: True)
            access.run(iter([PROGRESS]), listen)  # type: ignore[arg-type]
        assert answers == ["busy" if contexts == 1 else "answered"]


def test_closing_waits_for_all_that_are_inside() -> None:
    lock, log = new_lock(contexts=2), []
    callers = [Caller(lock, log, "a")]
    until(lambda: log)
    callers.append(Caller(lock, log, "b", priority=1))
    until(lambda: lock._wanting)
    freed: list[str] = []
    closing = elsewhere(lambda: lock.close(lambda: freed.append("freed")))
    until(lambda: lock._closed)
    assert freed == []
    callers[0].step()
    callers[1].step(3)
    callers[0].step(2)
    for caller in callers:
        caller.join()
    closing.join(PATIENCE_S)
    assert freed == ["freed"]
    assert [caller.error for caller in callers] == [None, None]
