"""Logits of a GGUF for whole prompts, as exactly as llama.cpp computes them.

In: a GGUF, optionally a LoRA adapter, token ids or the runtime's segments. Out: `[T, V] float32` a
prompt. This is for comparing models; the runtime has its own contexts.
"""

import ctypes
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_et.bundle import check_gguf
from edge_et.errors import BundleError
from edge_et.export.child_process import in_child
from edge_et.export.errors import NativeModelError
from edge_et.export.llm.llama_for_tools import (
    BATCH_POSITIONS,
    decode,
    loaded_model,
    native_errors,
    native_library,
    open_context,
)
from edge_et.llm import Segment, TokenSegment, count_positions, places_of, positions_of

_TEXT = "Two cats sit on a red chair."


def llama_logits(
    model: Path,
    sequences: Sequence[Sequence[int]],
    *,
    adapter: Path | None = None,
    threads: int | None = None,
) -> Iterator[NDArray[np.float32]]:
    """Evaluate token sequences, each from an empty cache; see `prompt_logits`.

    Args:
        model: a GGUF.
        sequences: token ids; none of them empty.
        adapter: a LoRA adapter for it, applied with scale 1.
        threads: CPU threads; None: all CPUs of this process.

    Yields:
        For each sequence the logits after each of its tokens, `[T, V] float32`.

    Raises:
        NativeModelError: model or adapter cannot be loaded, or the evaluation fails.
    """
    prompts = [(TokenSegment(tuple(sequence)),) for sequence in sequences]
    return prompt_logits(model, prompts, adapter=adapter, threads=threads)


def prompt_logits(
    model: Path,
    prompts: Sequence[Sequence[Segment]],
    *,
    adapter: Path | None = None,
    threads: int | None = None,
) -> Iterator[NDArray[np.float32]]:
    """Evaluate prompts, each from an empty cache.

    Args:
        model: a GGUF.
        prompts: segments of tokens and images; each prompt has a token.
        adapter: a LoRA adapter for it, applied with scale 1.
        threads: CPU threads; None: all CPUs of this process.

    Yields:
        For each prompt the logits after each of its tokens, those of images left out,
        `[T, V] float32`.

    Raises:
        NativeModelError: model or adapter cannot be loaded, or the evaluation fails.
    """
    llama_cpp = native_library()
    longest = max(map(count_positions, prompts))
    with ExitStack() as stack:
        loaded = stack.enter_context(loaded_model(model))
        context = stack.enter_context(open_context(loaded, model, longest, threads))
        if adapter is not None:
            _apply_adapter(loaded, context, adapter)
        width = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(loaded))
        for prompt in prompts:
            rows = []
            for segment, inputs in read_prompt(context, model, prompt):
                if isinstance(segment, TokenSegment):
                    logits = llama_cpp.llama_get_logits(context)
                    rows.append(np.ctypeslib.as_array(logits, shape=(len(inputs), width)).copy())
            yield np.concatenate(rows)


def read_prompt(
    context: int, model: Path, prompt: Sequence[Segment]
) -> Iterator[tuple[Segment, NDArray[Any]]]:
    """Evaluate a prompt from an empty cache, batch by batch.

    Args:
        context: from `open_context`.
        model: the GGUF, for messages.
        prompt: segments of tokens and images.

    Yields:
        After each batch its segment and its inputs, while the context holds the batch's logits.

    Raises:
        NativeModelError: the evaluation fails.
    """
    llama_cpp = native_library()
    llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(context), True)
    start = 0
    places = places_of(positions_of(prompt))
    inputs: NDArray[Any]
    for segment in prompt:
        if isinstance(segment, TokenSegment):
            inputs, are_tokens = np.array(segment.ids, np.int32), True
        else:
            inputs, are_tokens = segment.image.rows, False
        for at in range(0, len(inputs), BATCH_POSITIONS):
            batch = inputs[at : at + BATCH_POSITIONS]
            stop = start + len(batch)
            there = places[..., start:stop]
            if are_tokens and there.ndim == 2:
                there = there[0]  # the same in all three planes
            decode(context, model, batch, there, outputs=are_tokens)
            start = stop
            yield segment, batch


def llama_tokens(model: Path, texts: Sequence[str], *, special: bool = False) -> list[list[int]]:
    """Tokenize texts by a GGUF's own vocabulary.

    Args:
        model: a GGUF; its weights are not loaded.
        texts: what to tokenize.
        special: whether `<|im_start|>` and the like are special tokens; if not, they are text.

    Returns:
        Token ids, at least one a text.

    Raises:
        NativeModelError: the GGUF cannot be loaded, or gives no tokens for a text.
    """
    llama_cpp = native_library()
    sequences = []
    with loaded_model(model, vocabulary_only=True) as loaded:
        vocabulary = llama_cpp.llama_model_get_vocab(loaded)
        for text in texts:
            data = text.encode()
            ids = (llama_cpp.llama_token * (len(data) + 1))()
            count = llama_cpp.llama_tokenize(
                vocabulary, data, len(data), ids, len(ids), False, special
            )
            if count < 1:
                raise NativeModelError(f"{model} gives no tokens for {text!r}")
            sequences.append(list(ids[:count]))
    return sequences


def require_runs(model: Path, adapter: Path | None = None) -> None:
    """Check that llama.cpp reads a text with a model, in a process of its own.

    For files that nobody vouches for: damaged ones can end a process.

    Args:
        model: a GGUF.
        adapter: a LoRA adapter for it.

    Raises:
        NativeModelError: it does not; the message says why.
    """
    for path in filter(None, (model, adapter)):
        try:
            check_gguf(path)
        except BundleError as err:
            raise NativeModelError(str(err)) from err
    in_child(str(adapter or model), _read_a_text, model, adapter)


def _read_a_text(model: Path, adapter: Path | None) -> None:
    for _ in llama_logits(model, llama_tokens(model, [_TEXT]), adapter=adapter):
        pass


def _apply_adapter(model: int, context: int, path: Path) -> None:
    llama_cpp = native_library()
    adapter = llama_cpp.llama_adapter_lora_init(model, os.fsencode(path))
    if adapter is None:
        raise NativeModelError(f"llama.cpp cannot load the adapter {path}{native_errors()}")
    adapters = (llama_cpp.llama_adapter_lora_p_ctypes * 1)(adapter)
    scales = (ctypes.c_float * 1)(1.0)
    if llama_cpp.llama_set_adapters_lora(context, adapters, 1, scales):
        raise NativeModelError(f"llama.cpp cannot apply the adapter {path}{native_errors()}")
