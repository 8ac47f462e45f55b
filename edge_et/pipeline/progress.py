"""Which events a caller is told, and how."""

import asyncio
import inspect
from collections.abc import Callable

from edge_et.errors import OptionError
from edge_et.results import Progress, StageEvent

OnProgress = Callable[[Progress], object]
"""Is told how far a call is."""

_TOKENS_A_NOTE = 8
"""Tokens between two notes of progress while text is written, which tells of itself."""


def is_told(event: StageEvent) -> bool:
    """Say whether a stream passes an event on: text, and progress that is worth a note."""
    return (
        not isinstance(event, Progress)
        or event.phase != "decode"
        or event.done % _TOKENS_A_NOTE == 0
    )


def check_on_progress(on_progress: object) -> None:
    """Refuse a listener that cannot be called.

    Raises:
        OptionError: it is neither None nor callable.
    """
    if on_progress is None:
        return
    if not callable(on_progress) or inspect.iscoroutinefunction(on_progress):
        raise OptionError("on_progress", on_progress, "a function of one `edge_et.Progress`")


def in_loop(on_progress: OnProgress) -> OnProgress:
    """Return what lets the thread of the running event loop call a listener.

    Args:
        on_progress: the listener.
    """
    loop = asyncio.get_running_loop()
    return lambda progress: loop.call_soon_threadsafe(on_progress, progress)
