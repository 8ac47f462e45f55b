import io
import json
from collections.abc import Callable
from typing import Any

import pytest
from PIL import Image

from edge_et.foreign_errors import raised_by


class StopError(Exception):
    pass


class Failing(io.BytesIO):
    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def read(self, *args: Any) -> bytes:
        raise self.error


def caught(call: Callable[[], object]) -> Exception:
    with pytest.raises(Exception) as found:  # noqa: PT011
        call()
    # as an except clause around the call alone has it
    found.value.__traceback__ = found.value.__traceback__.tb_next.tb_next  # type: ignore[union-attr]
    return found.value


def test_what_a_library_raises_is_its_own() -> None:
    assert raised_by(caught(lambda: Image.open(io.BytesIO(b"nothing"))), "PIL")
    assert raised_by(caught(lambda: Image.new("none", (1, 1))), "PIL")
    assert raised_by(caught(lambda: json.loads("{")))


def test_what_others_raise_is_not() -> None:
    for error in (StopError(), TimeoutError(), OSError("gone"), ValueError("x"), RuntimeError("x")):
        found = caught(lambda error=error: Image.open(Failing(error)))  # type: ignore[misc]
        assert found is error
        assert not raised_by(found, "PIL")
    assert not raised_by(caught(lambda: Image.new("none", (1, 1))), "onnxruntime")


def test_an_exception_sent_to_the_thread_is_told_by_its_type() -> None:
    assert not raised_by(StopError(), "PIL")
    assert raised_by(ValueError(), "PIL")
