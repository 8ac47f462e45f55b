"""Logits of a GGUF for whole token sequences, as exactly as llama.cpp computes them.

In: a GGUF, optionally a LoRA adapter, token ids. Out: `[T, V] float32` a sequence. The cache is
F32 and flash attention is off: both would round far more than the differences we look for. This is
for comparing models; the runtime has its own contexts.
"""

import ctypes
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_et.export.errors import NativeModelError
from edge_et.export.native import native_errors, native_library


def llama_logits(
    model: Path,
    sequences: Sequence[Sequence[int]],
    *,
    adapter: Path | None = None,
    threads: int | None = None,
) -> Iterator[NDArray[np.float32]]:
    """Evaluate token sequences, each from an empty cache.

    Args:
        model: a GGUF.
        sequences: token ids; none of them empty.
        adapter: a LoRA adapter for it, applied with scale 1.
        threads: CPU threads; None: llama.cpp's default.

    Yields:
        For each sequence the logits after each of its tokens, `[T, V] float32`.

    Raises:
        NativeModelError: model or adapter cannot be loaded, or the evaluation fails.
    """
    llama_cpp = native_library()
    longest = max(len(sequence) for sequence in sequences)
    with ExitStack() as stack:
        loaded = stack.enter_context(_loaded_model(model))
        context = stack.enter_context(_open_context(loaded, model, longest, threads))
        if adapter is not None:
            _apply_adapter(loaded, context, adapter)
        width = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(loaded))
        batch = llama_cpp.llama_batch_init(longest, 0, 1)
        stack.callback(llama_cpp.llama_batch_free, batch)
        for sequence in sequences:
            llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(context), True)
            _fill(batch, sequence)
            if code := llama_cpp.llama_decode(context, batch):
                raise NativeModelError(f"llama.cpp failed on {model}: {code}{native_errors()}")
            logits = llama_cpp.llama_get_logits(context)
            yield np.ctypeslib.as_array(logits, shape=(len(sequence), width)).copy()


def llama_tokens(model: Path, texts: Sequence[str]) -> list[list[int]]:
    """Tokenize texts by a GGUF's own vocabulary, without special tokens.

    Args:
        model: a GGUF; its weights are not loaded.
        texts: what to tokenize.

    Returns:
        Token ids, at least one a text.

    Raises:
        NativeModelError: the GGUF cannot be loaded, or gives no tokens for a text.
    """
    llama_cpp = native_library()
    sequences = []
    with _loaded_model(model, vocabulary_only=True) as loaded:
        vocabulary = llama_cpp.llama_model_get_vocab(loaded)
        for text in texts:
            data = text.encode()
            ids = (llama_cpp.llama_token * (len(data) + 1))()
            count = llama_cpp.llama_tokenize(
                vocabulary, data, len(data), ids, len(ids), False, False
            )
            if count < 1:
                raise NativeModelError(f"{model} gives no tokens for {text!r}")
            sequences.append(list(ids[:count]))
    return sequences


def _fill(batch: Any, sequence: Sequence[int]) -> None:
    batch.n_tokens = len(sequence)
    for position, token in enumerate(sequence):
        batch.token[position] = token
        batch.pos[position] = position
        batch.n_seq_id[position] = 1
        batch.seq_id[position][0] = 0
        batch.logits[position] = 1


@contextmanager
def _loaded_model(path: Path, *, vocabulary_only: bool = False) -> Iterator[int]:
    llama_cpp = native_library()
    params = llama_cpp.llama_model_default_params()
    params.n_gpu_layers = 0
    params.vocab_only = vocabulary_only
    model = llama_cpp.llama_model_load_from_file(os.fsencode(path), params)
    if model is None:
        raise NativeModelError(f"llama.cpp cannot load {path}{native_errors()}")
    try:
        yield model
    finally:
        llama_cpp.llama_model_free(model)


@contextmanager
def _open_context(model: int, path: Path, tokens: int, threads: int | None) -> Iterator[int]:
    llama_cpp = native_library()
    params = llama_cpp.llama_context_default_params()
    params.n_ctx = params.n_batch = params.n_ubatch = tokens
    params.type_k = params.type_v = llama_cpp.GGML_TYPE_F32
    params.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED
    if threads is not None:
        params.n_threads = params.n_threads_batch = threads
    context = llama_cpp.llama_init_from_model(model, params)
    if context is None:
        raise NativeModelError(
            f"llama.cpp has no context of {tokens} tokens for {path}{native_errors()}"
        )
    try:
        yield context
    finally:
        llama_cpp.llama_free(context)


def _apply_adapter(model: int, context: int, path: Path) -> None:
    llama_cpp = native_library()
    adapter = llama_cpp.llama_adapter_lora_init(model, os.fsencode(path))
    if adapter is None:
        raise NativeModelError(f"llama.cpp cannot load the adapter {path}{native_errors()}")
    adapters = (llama_cpp.llama_adapter_lora_p_ctypes * 1)(adapter)
    scales = (ctypes.c_float * 1)(1.0)
    if llama_cpp.llama_set_adapters_lora(context, adapters, 1, scales):
        raise NativeModelError(f"llama.cpp cannot apply the adapter {path}{native_errors()}")
