"""llama.cpp itself: the library, its log, and its model files.

In: a GGUF. Out: an opened model, or what its metadata says. And what a context holds, as bytes.
Nothing else imports llama_cpp.
"""

import ctypes
import functools
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_et.errors import ModelFileError
from edge_et.llm.model_shape import DecoderShape
from edge_et.llm.native_log import NativeLog

_MAPS_FIELDS = 6  # of a line about a file in /proc/self/maps; the last one is its path
_MADV_DONTNEED = 4

_AMX = "AMX_INT8 = 1"  # in llama.cpp's description of itself

# Everything is evaluated in the sequence 0. This one is only for `copy_state`.
_COPIED = 1

native_log = NativeLog()


@functools.cache
def load_library() -> Any:
    """Return the module llama_cpp, set up once: its log goes to `native_log`."""
    import llama_cpp

    native_log.attach(llama_cpp)
    llama_cpp.llama_backend_init()
    return llama_cpp


def open_model(weights: Path, *, vocab_only: bool = False) -> Any:
    """Map a GGUF into memory; llama_model_free gives it back.

    Args:
        weights: the file.
        vocab_only: whether metadata and vocabulary are enough.

    Raises:
        ModelFileError: llama.cpp cannot open it.
    """
    library = load_library()
    params = library.llama_model_default_params()
    params.n_gpu_layers = 0
    params.load_mode = library.LLAMA_LOAD_MODE_MMAP
    params.use_extra_bufts = lays_out_weights()
    params.vocab_only = vocab_only
    model = library.llama_model_load_from_file(os.fsencode(weights), params)
    if not model:
        raise ModelFileError(weights, f"llama.cpp cannot open it{native_log.last_errors()}")
    if sys.platform == "linux":
        _release_pages(weights)
    return model


def _release_pages(weights: Path) -> None:
    """Give back the memory of a mapped file's pages; those that are read again come back.

    llama.cpp reads the whole file when it maps it, and copies the matrices for which it has faster
    layouts: of Qwen3-0.6B in Q4_0 that leaves 250 MB of pages that nobody needs.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    target = os.fsencode(weights.resolve())
    for line in Path("/proc/self/maps").read_bytes().splitlines():
        fields = line.split(maxsplit=5)
        if len(fields) == _MAPS_FIELDS and fields[-1] == target:
            start, end = (int(address, 16) for address in fields[0].split(b"-"))
            libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), _MADV_DONTNEED)


def read_metadata(model: Any, key: str) -> str:
    """Return a value of a GGUF's metadata as text; empty where there is none."""
    buffer = ctypes.create_string_buffer(256)
    length = load_library().llama_model_meta_val_str(model, key.encode(), buffer, len(buffer))
    return buffer.value.decode(errors="replace") if length >= 0 else ""


def read_shape(weights: Path) -> DecoderShape:
    """Read a model's sizes: llama.cpp loads the vocabulary alone (0.1 s for 49,152 tokens).

    Args:
        weights: GGUF file.

    Raises:
        ModelFileError: the file cannot be opened, or does not tell them.
    """
    model = open_model(weights, vocab_only=True)
    try:
        return DecoderShape.of(functools.partial(read_metadata, model), weights)
    finally:
        load_library().llama_model_free(model)


def lays_out_weights() -> bool:
    """Say whether llama.cpp may copy weights to layouts of its own, which are faster.

    With AMX it crashes the process at the first evaluation of weights that are laid out for it
    (github.com/ggml-org/llama.cpp/issues/20824).
    """
    return _AMX not in describe_build()


def describe_build() -> str:
    """Return which kernels llama.cpp was built with."""
    text: bytes = load_library().llama_print_system_info()
    return text.decode(errors="replace")


def copy_state(context: Any, count: int) -> NDArray[np.uint8] | None:
    """Copy what a context holds at its first positions, whatever lies behind them.

    Args:
        context: of two sequences that share their cells. llama.cpp copies a whole sequence or
            nothing; so the positions are made one, which touches no numbers.
        count: positions, at least 1.

    Returns:
        [n] uint8, for `load_state`; None: llama.cpp failed.
    """
    library = load_library()
    memory = library.llama_get_memory(context)
    library.llama_memory_seq_cp(memory, 0, _COPIED, 0, count)
    try:
        data = np.empty(library.llama_state_seq_get_size(context, _COPIED), np.uint8)
        size = library.llama_state_seq_get_data(context, _bytes_of(data), len(data), _COPIED)
    finally:
        library.llama_memory_seq_rm(memory, _COPIED, -1, -1)
    return data if size == len(data) else None


def load_state(context: Any, data: NDArray[np.uint8], count: int) -> bool:
    """Make an empty context hold what `copy_state` copied.

    Args:
        context: over the same weights, with the same number types.
        data: exactly what was copied: llama.cpp is not made for damaged data.
        count: positions that it has.

    Returns:
        Whether it does; otherwise it may hold anything.
    """
    library = load_library()
    size = library.llama_state_seq_set_data(context, _bytes_of(data), len(data), 0)
    last = library.llama_memory_seq_pos_max(library.llama_get_memory(context), 0)
    return bool(size == len(data) and last == count - 1)


def _bytes_of(data: NDArray[np.uint8]) -> Any:
    return data.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))
