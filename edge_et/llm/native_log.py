"""The log of llama.cpp, line by line in this module's logger.

In: pieces of lines with a level. Out: log records; and the last errors, which llama.cpp tells
nowhere else. The library itself is not imported here.
"""

import ctypes
import logging
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from edge_et.cancellation import CancelToken

logger = logging.getLogger(__name__)

# The levels of ggml.h. What it calls information are dozens of lines a model; 5 continues a line.
_LEVELS = {1: logging.DEBUG, 2: logging.DEBUG, 3: logging.WARNING, 4: logging.ERROR}


class NativeLog:
    """A callback for llama.cpp that logs whole lines and keeps the last errors."""

    def __init__(
        self, warning_level: int = logging.WARNING, expected: tuple[str, ...] = ()
    ) -> None:
        """Begin with no line; nothing is heard before `attach`.

        Args:
            warning_level: of what the library calls a warning.
            expected: stand in lines that warn of nothing.
        """
        self._expected = expected
        self._levels = {**_LEVELS, 3: warning_level}
        self._level = logging.DEBUG
        self._line = ""
        self._errors: deque[str] = deque(maxlen=2)
        self._cancellable: set[CancelToken] = set()

    def __call__(self, level: int, text: bytes, _: object) -> None:
        """Take a piece of the log; llama.cpp calls this."""
        self._level = self._levels.get(level, self._level)
        *lines, self._line = (self._line + text.decode(errors="replace")).split("\n")
        is_cancelled = any(cancel.is_cancelled for cancel in tuple(self._cancellable))
        for line in filter(None, lines):
            is_known = any(text in line for text in self._expected)
            is_expected = is_cancelled or is_known
            logger.log(logging.DEBUG if is_expected else self._level, "%s", line)
            if self._level >= logging.ERROR and not is_cancelled:
                self._errors.append(line)

    @contextmanager
    def expecting(self, cancel: CancelToken) -> Iterator[None]:
        """Take what is complained about while the block runs for no error, if it was cancelled.

        Args:
            cancel: stops llama.cpp, which calls that a failure in four lines.
        """
        self._cancellable.add(cancel)
        try:
            yield
        finally:
            self._cancellable.discard(cancel)

    def attach(self, library: Any) -> None:
        """Take over the log of llama.cpp, which has one for the whole process."""
        self._callback = library.llama_log_callback(self)  # must live as long as the log is used
        library.llama_log_set(self._callback, ctypes.c_void_p(0))

    def last_errors(self) -> str:
        """Return what llama.cpp last complained about, as the end of a message, and forget it."""
        text = "; ".join(self._errors)
        self._errors.clear()
        return f": {text}" if text else ""
