import threading

import pytest

from edge_et import native_threads
from edge_et.native_handle import NativeHandle


@pytest.fixture
def forked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native_threads, "_forking_thread", threading.get_ident())
    monkeypatch.setattr(native_threads, "_computing", None)


def test_a_process_that_is_no_fork_computes_where_it_is() -> None:
    assert native_threads.compute(threading.get_ident) == threading.get_ident()


@pytest.mark.usefixtures("forked")
def test_the_forking_thread_computes_in_another_one() -> None:
    idents = {native_threads.compute(threading.get_ident) for _ in range(3)}
    assert len(idents) == 1
    assert idents != {threading.get_ident()}


@pytest.mark.usefixtures("forked")
def test_a_thread_made_after_the_fork_computes_where_it_is() -> None:
    found: list[bool] = []

    def work() -> None:
        found.append(native_threads.compute(threading.get_ident) == threading.get_ident())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [True]


@pytest.mark.usefixtures("forked")
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
