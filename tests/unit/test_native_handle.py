import gc
import os
import signal
import threading
import time
from collections.abc import Callable

import pytest

from edge_et.errors import ClosedError, ForkedError, ModelFileError
from edge_et.native_handle import NativeHandle

PATIENCE_S = 20.0


class Library:
    """Says what was freed."""

    def __init__(self) -> None:
        self.freed: list[str] = []

    def open(self, name: str = "it", over: NativeHandle[str] | None = None) -> NativeHandle[str]:
        return NativeHandle("KV cache", lambda: name, self.freed.append, over=over)


def elsewhere(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def test_what_was_closed_is_freed_once_and_says_so() -> None:
    library = Library()
    handle = library.open()
    with handle.lock:
        assert handle.value == "it"
    handle.close()
    handle.close()
    assert library.freed == ["it"]
    assert not handle.is_open
    with handle.lock, pytest.raises(ClosedError, match="KV cache"):
        handle.value  # noqa: B018


def test_what_is_forgotten_is_freed_before_what_it_is_made_of() -> None:
    library = Library()
    model = library.open("model")
    context = library.open("context", over=model)
    del model
    assert library.freed == []
    del context
    assert library.freed == ["context", "model"]


def test_what_cannot_be_opened_is_nothing() -> None:
    def fail() -> str:
        raise ModelFileError("a file", "no")  # type: ignore[arg-type]

    with pytest.raises(ModelFileError):
        NativeHandle("language model", fail)


def test_freeing_waits_for_the_thread_inside() -> None:
    library = Library()
    handle = library.open()
    inside, leave = threading.Event(), threading.Event()
    order: list[str] = []

    def work() -> None:
        with handle.lock:
            inside.set()
            leave.wait(PATIENCE_S)
            order.append("left")
            order.extend(library.freed)

    thread = elsewhere(work)
    assert inside.wait(PATIENCE_S)
    closing = elsewhere(handle.close)
    closing.join(0.05)
    assert closing.is_alive()
    leave.set()
    closing.join(PATIENCE_S)
    thread.join(PATIENCE_S)
    assert order == ["left"]
    assert library.freed == ["it"]


def test_what_a_signal_handler_closes_lives_until_it_is_used_next() -> None:
    library = Library()
    handle = library.open()
    with handle.lock:
        value = handle.value
        handle.close()
        assert library.freed == []
        assert not handle.is_open
    assert value == "it"
    with handle.lock, pytest.raises(ClosedError):
        handle.value  # noqa: B018
    assert library.freed == ["it"]


def test_what_was_opened_when_a_signal_came_is_freed() -> None:
    """The handler runs while the library is still opening, and raises what is not lost."""
    library = Library()

    def slow() -> str:
        time.sleep(0.2)
        return "it"

    class OfHandlerError(Exception):
        pass

    def handler(*_: object) -> None:
        raise OfHandlerError

    before = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(OfHandlerError):
            NativeHandle("KV cache", slow, library.freed.append)
    finally:
        signal.signal(signal.SIGALRM, before)
    gc.collect()
    assert library.freed == ["it"]


def test_a_second_thread_waits_until_the_first_is_out() -> None:
    handle = Library().open()
    order: list[str] = []

    def work() -> None:
        with handle.lock:
            order.append("second")

    with handle.lock:
        thread = elsewhere(work)
        thread.join(0.05)
        order.append("first")
    thread.join(PATIENCE_S)
    assert order == ["first", "second"]


def test_another_process_neither_uses_nor_frees_it(monkeypatch: pytest.MonkeyPatch) -> None:
    library = Library()
    handle = library.open()
    monkeypatch.setattr(os, "getpid", lambda: -1)
    with pytest.raises(ForkedError, match=r"edge_et\.load\(\)"):
        handle.lock  # noqa: B018
    handle.close()
    del handle
    assert library.freed == []
