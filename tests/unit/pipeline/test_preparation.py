import os
import sys
import threading
from collections.abc import Callable
from unittest.mock import Mock

import pytest

from edge_et.errors import DecodeError
from edge_et.pipeline.preparation import Preparation


def test_work_begins_once_and_gives_way() -> None:
    preparation, done = Preparation(), threading.Event()
    found: list[tuple[bool, int]] = []

    def work(step: Callable[[], None]) -> None:
        step()
        thread = threading.current_thread()
        priority = 19
        if sys.platform == "linux":
            priority = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
        found.append((thread.daemon, priority))
        done.set()

    preparation.add(work)
    assert found == []
    preparation.begin()
    preparation.begin()
    assert done.wait(30)
    preparation.close()
    assert found == [(True, 19)]
    if sys.platform == "linux":
        assert os.getpriority(os.PRIO_PROCESS, 0) < 19


def under_way() -> tuple[Preparation, threading.Event]:
    """Return a preparation whose endless work has begun, and what is set when it ended."""
    preparation, begun, ended = Preparation(), threading.Event(), threading.Event()

    def work(step: Callable[[], None]) -> None:
        try:
            while True:
                begun.set()
                step()
        finally:
            ended.set()

    preparation.add(work)
    preparation.begin()
    assert begun.wait(30)
    return preparation, ended


def test_work_ends_with_the_pipeline() -> None:
    preparation, ended = under_way()
    preparation.close()
    assert ended.wait(30)
    preparation.close()
    preparation.add(pytest.fail)
    preparation.begin()


def test_work_ends_with_a_pipeline_that_is_forgotten() -> None:
    preparation, ended = under_way()
    del preparation
    assert ended.wait(30)


@pytest.mark.parametrize(
    ("failure", "told"),
    [
        (DecodeError("told to fail"), "told to fail"),
        (OSError("told to fail"), "told to fail"),
        (MemoryError(), "not enough memory"),
        (ValueError("a mistake of ours"), "ValueError: a mistake of ours"),
    ],
)
def test_a_failure_is_logged_and_the_rest_done(
    caplog: pytest.LogCaptureFixture, failure: Exception, told: str
) -> None:
    preparation, done = Preparation(), threading.Event()

    def fail(step: Callable[[], None]) -> None:
        raise failure

    preparation.add(fail)
    preparation.add(lambda step: done.set())
    preparation.begin()
    assert done.wait(30)
    preparation.close()
    assert told in caplog.text


@pytest.mark.skipif(sys.platform != "linux", reason="threads have no priorities of their own")
def test_work_is_done_where_no_priority_can_be_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.setpriority", Mock(side_effect=PermissionError("told to fail")))
    preparation, done = Preparation(), threading.Event()
    preparation.add(lambda step: done.set())
    preparation.begin()
    assert done.wait(30)
    preparation.close()
