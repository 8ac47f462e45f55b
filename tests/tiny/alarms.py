"""Signals whose handlers raise an exception, as those of a time limit do."""

import signal
import time
from collections.abc import Callable
from typing import Any

import pytest


class OutOfTimeError(Exception):
    """What a handler raises."""


def check_handlers_pass(call: Callable[[], object], after_s: float) -> None:
    """Call again and again until a signal comes, for handlers that raise different exceptions.

    Args:
        call: takes long inside a library, compared with the rest of it.
        after_s: when the signals come.
    """

    def repeat() -> None:
        # Again after a while: Python drops what is raised in a finalizer.
        signal.setitimer(signal.ITIMER_REAL, after_s, 5.0)
        end = time.monotonic() + 60
        while time.monotonic() < end:
            call()

    before = signal.getsignal(signal.SIGALRM)
    try:
        for kind in (OutOfTimeError, TimeoutError, RuntimeError, ValueError) * 3:
            error = kind("out of time")

            def handler(*_: Any, error: Exception = error) -> None:
                raise error

            signal.signal(signal.SIGALRM, handler)
            with pytest.raises(kind) as found:
                repeat()
            assert found.value is error
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
