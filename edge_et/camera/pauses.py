"""Waiting that ends when a watch is stopped."""

import threading
from time import monotonic

from edge_et.cancellation import CancelToken

_SLICE_S = 0.5  # a signal handler may cancel just before the wait begins, and be missed


def pause(seconds: float, stop: CancelToken) -> None:
    """Sleep, but not on when the token is cancelled.

    Args:
        seconds: how long; below 0 is not at all.
        stop: ends it, from any thread or a signal handler.
    """
    end = monotonic() + seconds
    changed = threading.Condition()

    def wake() -> None:
        with changed:
            changed.notify_all()

    with stop.watch(wake), changed:
        while not stop.is_cancelled and (left := end - monotonic()) > 0:
            changed.wait(min(left, _SLICE_S))
