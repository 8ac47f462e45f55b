"""llama.cpp for the tools: models, contexts and batches at the lowest level.

The library is the runtime's, so that the process has one native log. Contexts here measure models:
their cache is F32 and flash attention is off. Anything else would round far more than the
differences that a comparison looks for.
"""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_et.export.errors import NativeModelError
from edge_et.llm import lays_out_weights, load_library, native_log
from edge_et.native_threads import call_undisturbed
from edge_et.threads import choose_threads

BATCH_POSITIONS = 512
"""Positions that are evaluated at once. More would need memory and change no bit."""


def native_library() -> Any:
    """Give the module llama_cpp, its log routed into Python's."""
    return load_library()


def native_errors() -> str:
    """Tell what llama.cpp last complained about, as the end of a message, and forget it."""
    return native_log.last_errors()


@contextmanager
def loaded_model(path: Path, *, vocabulary_only: bool = False) -> Iterator[int]:
    """Open a GGUF while the block runs.

    Args:
        path: the file.
        vocabulary_only: leave the weights where they are.

    Yields:
        The model's address.

    Raises:
        NativeModelError: it cannot be loaded.
    """
    llama_cpp = native_library()
    params = llama_cpp.llama_model_default_params()
    params.n_gpu_layers = 0
    params.use_extra_bufts = lays_out_weights()
    params.vocab_only = vocabulary_only
    name = os.fsencode(path)
    model = call_undisturbed(lambda: llama_cpp.llama_model_load_from_file(name, params))
    if model is None:
        raise NativeModelError(f"llama.cpp cannot load {path}{native_errors()}")
    try:
        yield model
    finally:
        llama_cpp.llama_model_free(model)


@contextmanager
def open_context(
    model: int, path: Path, tokens: int, threads: int | None = None, watch: Any = None
) -> Iterator[int]:
    """Make a context over a model while the block runs.

    Args:
        model: its address.
        path: its file, for messages.
        tokens: positions that the cache holds.
        threads: CPU threads; None: all CPUs of this process.
        watch: a `ggml_backend_sched_eval_callback` that sees each tensor; kept by the caller.

    Yields:
        The context's address.

    Raises:
        NativeModelError: there is not enough memory.
    """
    llama_cpp = native_library()
    params = llama_cpp.llama_context_default_params()
    params.n_ctx = tokens
    params.n_batch = params.n_ubatch = min(tokens, BATCH_POSITIONS)
    params.type_k = params.type_v = llama_cpp.GGML_TYPE_F32
    params.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED
    params.n_threads = params.n_threads_batch = choose_threads(threads)
    if watch is not None:
        params.cb_eval = watch
    context = call_undisturbed(lambda: llama_cpp.llama_init_from_model(model, params))
    if context is None:
        raise NativeModelError(
            f"llama.cpp has no context of {tokens} tokens for {path}{native_errors()}"
        )
    try:
        yield context
    finally:
        llama_cpp.llama_free(context)


def decode(
    context: int,
    path: Path,
    inputs: NDArray[np.int32] | NDArray[np.float32],
    places: NDArray[np.int32],
    *,
    outputs: bool,
) -> None:
    """Evaluate one batch in sequence 0.

    Args:
        context: its address.
        path: the model's file, for messages.
        inputs: token ids `[n] int32`, or embedding rows `[n, D] float32`, C-contiguous, n at most
            `BATCH_POSITIONS`.
        places: where they stand, `[n]`; or `[3, n]`, of rows of an image with a grid.
        outputs: whether logits are wanted, of all of them; if not, of the last alone.

    Raises:
        NativeModelError: llama.cpp failed.
    """
    llama_cpp = native_library()
    count = len(inputs)
    wanted = np.full(count, outputs, np.int8)
    wanted[-1] = 1
    are_tokens = inputs.ndim == 1
    if not are_tokens and _has_planes(context):
        places = np.concatenate([np.broadcast_to(places, (3, count)), np.zeros((1, count))])
    places = np.ascontiguousarray(places, np.int32)
    batch = llama_cpp.llama_batch(
        count,
        _pointer(inputs, ctypes.c_int32) if are_tokens else None,
        None if are_tokens else _pointer(inputs, ctypes.c_float),
        _pointer(places, ctypes.c_int32),
        None,
        None,
        _pointer(wanted, ctypes.c_int8),
    )
    if code := llama_cpp.llama_decode(context, batch):
        raise NativeModelError(f"llama.cpp failed on {path}: {code}{native_errors()}")


def _has_planes(context: int) -> bool:
    """Tell whether rows of embeddings have four places each, as with M-RoPE."""
    llama_cpp = native_library()
    kind = llama_cpp.llama_model_rope_type(llama_cpp.llama_get_model(context))
    return kind in (llama_cpp.LLAMA_ROPE_TYPE_MROPE, llama_cpp.LLAMA_ROPE_TYPE_IMROPE)


def _pointer(array: NDArray[Any], kind: Any) -> Any:
    return array.ctypes.data_as(ctypes.POINTER(kind))
