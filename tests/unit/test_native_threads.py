import threading
import time
from collections.abc import Callable
from contextlib import nullcontext

import pytest

from edge_et import native_threads
from edge_et.native_handle import NativeHandle


@pytest.fixture(autouse=True)
def no_threads_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native_threads, "_idle", [])


def test_one_thread_computes_for_all_as_long_as_it_is_enough() -> None:
    found: list[int] = []

    def work() -> None:
        found.append(native_threads.compute(threading.get_ident))

    for _ in range(3):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    found.append(native_threads.compute(threading.get_ident))
    assert len(set(found)) == 1
    assert threading.get_ident() not in found


def test_another_one_is_made_where_two_compute_at_once() -> None:
    together = threading.Barrier(2)

    def work() -> int:
        together.wait(20)
        return threading.get_ident()

    found: list[int] = []
    other = threading.Thread(target=lambda: found.append(native_threads.compute(work)))
    other.start()
    found.append(native_threads.compute(work))
    other.join()
    assert len(set(found)) == 2
    assert len(native_threads._idle) == 2


def test_the_main_thread_computes_itself_when_the_program_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(native_threads, "_is_ending", True)
    assert native_threads.compute(threading.get_ident) == threading.get_ident()


def test_errors_and_results_come_through() -> None:
    assert native_threads.compute(lambda: divmod(7, 4)) == (1, 3)
    with pytest.raises(ZeroDivisionError):
        native_threads.compute(lambda: divmod(7, 0))


def test_work_that_is_left_behind_keeps_what_it_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal's handler may raise before the main thread waits for the work."""
    handle = NativeHandle("thing", lambda: "pointer", lambda _: done.append("freed"))
    begun, go, done = threading.Event(), threading.Event(), []

    def work() -> None:
        with handle.lock:
            held = handle.value
            begun.set()
            go.wait(20)
            done.append(held)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(native_threads._Job, "result", interrupt)
        with pytest.raises(KeyboardInterrupt):
            native_threads.compute(work, stop=lambda: None)
    assert begun.wait(20)
    threading.Timer(0.05, go.set).start()
    handle.close()
    assert done == ["pointer", "freed"]


class OfHandlerError(Exception):
    """What a signal handler raises."""


@pytest.mark.parametrize("is_started", [True, False])
@pytest.mark.parametrize("raised", [OfHandlerError(), RuntimeError("release unlocked lock")])
def test_work_is_done_once_where_a_handler_raises_while_its_thread_starts(
    monkeypatch: pytest.MonkeyPatch, is_started: bool, raised: Exception
) -> None:
    start, begun, done = native_threads._start, [], []

    def interrupted(name: str, target: Callable[[], None]) -> None:
        begun.append(name)
        if is_started or len(begun) > 1:
            start(name, target)
        if len(begun) == 1:
            raise raised

    monkeypatch.setattr(native_threads, "_start", interrupted)
    expected = nullcontext() if isinstance(raised, RuntimeError) else pytest.raises(OfHandlerError)
    with expected:
        native_threads.call_undisturbed(lambda: done.append(threading.get_ident()))
    time.sleep(0.05)
    assert len(done) == 1
