import gc
import logging
import weakref
from collections.abc import Callable

import pytest

from edge_et.llm.native_log import NativeLog

DEBUG, INFO, WARNING, ERROR, CONTINUED = 1, 2, 3, 4, 5  # ggml.h


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> NativeLog:
    caplog.set_level(logging.DEBUG, logger="edge_et.llm.native_log")
    return NativeLog()


def lines(caplog: pytest.LogCaptureFixture) -> list[tuple[int, str]]:
    return [(record.levelno, record.getMessage()) for record in caplog.records]


@pytest.mark.parametrize(
    ("native", "level"),
    [
        (DEBUG, logging.DEBUG),
        (INFO, logging.DEBUG),
        (WARNING, logging.WARNING),
        (ERROR, logging.ERROR),
    ],
)
def test_a_line_has_the_level_of_its_kind(
    log: NativeLog, caplog: pytest.LogCaptureFixture, native: int, level: int
) -> None:
    log(native, b"a line, 100% of it\n", None)
    assert lines(caplog) == [(level, "a line, 100% of it")]


def test_what_is_expected_is_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="edge_et.llm.native_log")
    log = NativeLog(expected=("made up", "far away"))
    log(WARNING, b"7 tokens made up\n8 lost\n", None)
    assert lines(caplog) == [(logging.DEBUG, "7 tokens made up"), (logging.WARNING, "8 lost")]


def test_pieces_are_joined_until_the_line_ends(
    log: NativeLog, caplog: pytest.LogCaptureFixture
) -> None:
    log(ERROR, b"one", None)
    log(CONTINUED, b" and ", None)
    assert lines(caplog) == []
    log(CONTINUED, b"two\nthr", None)
    assert lines(caplog) == [(logging.ERROR, "one and two")]
    log(CONTINUED, b"ee\n", None)
    assert lines(caplog)[1:] == [(logging.ERROR, "three")]


def test_several_lines_may_come_at_once_and_empty_ones_are_left_out(
    log: NativeLog, caplog: pytest.LogCaptureFixture
) -> None:
    log(WARNING, b"one\n\ntwo\n", None)
    assert lines(caplog) == [(logging.WARNING, "one"), (logging.WARNING, "two")]


def test_bytes_that_are_no_text_are_logged_all_the_same(
    log: NativeLog, caplog: pytest.LogCaptureFixture
) -> None:
    log(WARNING, b"a \xff b\n", None)
    assert lines(caplog) == [(logging.WARNING, "a \N{REPLACEMENT CHARACTER} b")]


def test_the_last_two_errors_are_told_once(log: NativeLog) -> None:
    assert log.last_errors() == ""
    for text in (b"first\n", b"second\n", b"thi"):
        log(ERROR, text, None)
    log(CONTINUED, b"rd\n", None)
    log(WARNING, b"a warning\n", None)
    log(INFO, b"information\n", None)
    assert log.last_errors() == ": second; third"
    assert log.last_errors() == ""


class Library:
    """What llama.cpp offers for its log; holds what it was given as weakly as C does."""

    class Callback:
        def __init__(self, function: Callable[[int, bytes, object], None]) -> None:
            self.function = function

    llama_log_callback = Callback

    def llama_log_set(self, callback: Callback, data: object) -> None:
        self.callback = weakref.ref(callback)


def test_the_callback_lives_as_long_as_the_log(
    log: NativeLog, caplog: pytest.LogCaptureFixture
) -> None:
    library = Library()
    log.attach(library)
    gc.collect()
    callback = library.callback()
    assert callback is not None
    callback.function(ERROR, b"heard\n", None)
    assert lines(caplog) == [(logging.ERROR, "heard")]
