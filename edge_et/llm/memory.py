"""Memory that the process no longer uses."""

import ctypes
import os
from pathlib import Path
from typing import Final

from edge_et.native_libraries import mapped_files

_DONT_NEED: Final = 4  # MADV_DONTNEED of Linux
_MMAP_THRESHOLD: Final = -3  # M_MMAP_THRESHOLD of glibc's malloc.h
_ARENA_MAX: Final = -8  # M_ARENA_MAX, likewise
_LARGE_BYTES: Final = 256 * 1024


def keep_heap_small() -> None:
    """Let freed memory go back to the system at once, for the rest of the process; glibc's alone.

    Otherwise the heap of each thread keeps up to 64 MB at its end, which `trim_heap` does not
    reach: of the mini 35 MB more for each tower that was opened and closed by another thread.
    """
    if set_option := getattr(ctypes.CDLL(None), "mallopt", None):
        set_option(_MMAP_THRESHOLD, _LARGE_BYTES)
        set_option(_ARENA_MAX, 1)


def trim_heap() -> None:
    """Give freed memory back to the system, where the C library can be told to: glibc's.

    It keeps what it may need again: 60 MB of what reading a tokenizer of 151,643 tokens took, and
    gigabytes behind a large model that was exported.
    """
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
        trim(0)


def drop_pages(file: Path) -> None:
    """Give back the pages of a file that this process has mapped to read; nothing but on Linux.

    They stay in the system's cache of the file as long as nobody needs the memory, and whoever
    reads them next finds them there, or on the disk.

    Args:
        file: a file that nobody writes to.
    """
    name = os.path.realpath(file)
    for start, end, path in mapped_files(shared_to_read=True):
        if path == name:
            address, size = ctypes.c_void_p(start), ctypes.c_size_t(end - start)
            ctypes.CDLL(None).madvise(address, size, _DONT_NEED)
