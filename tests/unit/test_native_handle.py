import os
import threading
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
    with handle as value:
        assert value == "it"
    handle.close()
    handle.close()
    assert library.freed == ["it"]
    assert not handle.is_open
    with pytest.raises(ClosedError, match="KV cache"), handle:
        pass


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
        with handle:
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


def test_a_signal_handler_frees_at_the_end_of_the_use() -> None:
    library = Library()
    handle = library.open()
    with handle:
        handle.close()
        assert library.freed == []
    assert library.freed == ["it"]


def test_a_second_thread_waits_until_the_first_is_out() -> None:
    handle = Library().open()
    order: list[str] = []

    def work() -> None:
        with handle:
            order.append("second")

    with handle:
        thread = elsewhere(work)
        thread.join(0.05)
        order.append("first")
    thread.join(PATIENCE_S)
    assert order == ["first", "second"]


def test_another_process_neither_uses_nor_frees_it(monkeypatch: pytest.MonkeyPatch) -> None:
    library = Library()
    handle = library.open()
    monkeypatch.setattr(os, "getpid", lambda: -1)
    with pytest.raises(ForkedError, match=r"edge_et\.load\(\)"), handle:
        pass
    handle.close()
    del handle
    assert library.freed == []
