"""Memory that the process no longer uses."""

import ctypes


def trim_heap() -> None:
    """Give freed memory back to the system, where the C library can be told to: glibc's.

    It keeps what it may need again: 60 MB of what reading a tokenizer of 151,643 tokens took, and
    gigabytes behind a large model that was exported.
    """
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
        trim(0)
