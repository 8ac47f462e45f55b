import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from edge_et.cancellation import CancelToken
from edge_et.errors import BusyError, ClosedError, ForkedError
from edge_et.pipeline import scheduler
from edge_et.pipeline.access import Access
from edge_et.pipeline.scheduler import Scheduler

PATIENCE_S = 20.0


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

    def work(number: int) -> None:
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
