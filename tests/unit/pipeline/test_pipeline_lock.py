import threading
from collections.abc import Callable

import pytest

from edge_et.errors import BusyError
from edge_et.pipeline.pipeline_lock import PipelineLock

PATIENCE_S = 20.0


def elsewhere(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def test_the_own_thread_gets_an_error_and_keeps_its_turn() -> None:
    lock = PipelineLock()
    with lock:
        assert lock.is_own()
        with pytest.raises(BusyError), lock:
            pass
        assert lock.is_own()
    assert not lock.is_own()
    with lock:
        assert lock.is_own()


def test_another_thread_waits_for_its_turn() -> None:
    lock = PipelineLock()
    order: list[str] = []
    coming = threading.Event()

    def work() -> None:
        assert not lock.is_own()
        coming.set()
        with lock:
            order.append("second")

    with lock:
        thread = elsewhere(work)
        assert coming.wait(PATIENCE_S)
        thread.join(0.05)  # no time is measured: it would come in by then if it did not wait
        order.append("first")
    thread.join(PATIENCE_S)
    assert order == ["first", "second"]


def test_an_error_inside_gives_the_turn_back() -> None:
    lock = PipelineLock()
    with pytest.raises(ValueError, match="inside"), lock:
        raise ValueError("inside")
    done: list[bool] = []

    def work() -> None:
        with lock:
            done.append(True)

    elsewhere(work).join(PATIENCE_S)
    assert done == [True]


def test_another_thread_may_give_the_turn_back() -> None:
    lock = PipelineLock()
    lock.__enter__()
    elsewhere(lambda: lock.__exit__(None, None, None)).join(PATIENCE_S)
    assert not lock.is_own()
    with lock:
        assert lock.is_own()


def test_what_has_the_turn_goes_on_in_it_and_leaves_it_taken() -> None:
    lock = PipelineLock()
    with lock:
        with lock.or_own():
            assert lock.is_own()
        assert lock.is_own()
    assert not lock.is_own()


def test_what_has_no_turn_takes_one() -> None:
    lock = PipelineLock()
    with lock.or_own():
        assert lock.is_own()
        with pytest.raises(BusyError), lock:
            pass
    assert not lock.is_own()


def test_what_has_no_turn_waits_for_another_thread() -> None:
    lock = PipelineLock()
    entered, leave = threading.Event(), threading.Event()
    order: list[str] = []

    def work() -> None:
        with lock:
            entered.set()
            leave.wait(PATIENCE_S)
            order.append("first")

    thread = elsewhere(work)
    assert entered.wait(PATIENCE_S)
    threading.Timer(0.05, leave.set).start()
    with lock.or_own():
        order.append("second")
    thread.join(PATIENCE_S)
    assert order == ["first", "second"]
