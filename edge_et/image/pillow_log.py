"""Pillow's log, kept from telling what a picture's metadata say.

At DEBUG Pillow logs every tag that it reads: descriptions, names, places. A program that logs its
libraries at that level would have them on disk.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_is_silent: ContextVar[bool] = ContextVar("_is_silent", default=False)

_TELL_METADATA = ("PIL.PngImagePlugin", "PIL.TiffImagePlugin")  # the second one for JPEG's, too


@contextmanager
def metadata_unlogged() -> Iterator[None]:
    """Keep the metadata of pictures that this thread reads out of the log."""
    for name in _TELL_METADATA:
        logging.getLogger(name).addFilter(_is_heard)  # once; the same filter is not added again
    token = _is_silent.set(True)
    try:
        yield
    finally:
        _is_silent.reset(token)


def _is_heard(record: logging.LogRecord) -> bool:
    return record.levelno > logging.DEBUG or not _is_silent.get()
