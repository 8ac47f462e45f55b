import ctypes
import threading

import pytest

from edge_et.cancellation import CancelToken, native_callback
from edge_et.errors import CancelledError


def test_native_code_reads_whether_it_was_cancelled() -> None:
    asked = ctypes.CFUNCTYPE(ctypes.c_bool, ctypes.c_void_p)(native_callback().value or 0)
    token = CancelToken()
    assert not asked(token.address)
    token.cancel()
    assert asked(token.address)
    assert token.is_cancelled


def test_whoever_watches_is_told_at_once_or_if_it_was_before() -> None:
    token = CancelToken()
    told: list[str] = []
    with token.watch(lambda: told.append("first")):
        assert told == []
        threading.Thread(target=token.cancel).start()
        while not told:
            pass
        with token.watch(lambda: told.append("second")):
            assert told == ["first", "second"]
    token.cancel()
    assert told == ["first", "second"]


def test_a_token_is_cancelled_for_good() -> None:
    token = CancelToken()
    token.check()
    token.cancel()
    token.cancel()
    with pytest.raises(CancelledError):
        token.check()
