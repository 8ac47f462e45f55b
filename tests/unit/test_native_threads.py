import threading

import pytest

from edge_et import native_threads


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
    assert native_threads.compute(divmod, 7, 4) == (1, 3)
    with pytest.raises(ZeroDivisionError):
        native_threads.compute(divmod, 7, 0)
