"""llama.cpp itself: the library, its log, its models and its contexts.

In: a GGUF; batches of token ids or embedding rows. Out: an opened model, or what its metadata says;
logits; what a context holds, as bytes. What positions mean, and which of them are kept, is not
known here. Nothing else asks for llama_cpp or calls it: its low-level functions alone are used,
since its class ``Llama`` clears its cache for every image, and takes no embeddings.
"""

import ctypes
import functools
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_et.cancellation import CancelToken, native_callback
from edge_et.errors import CancelledError, DecodeError, ModelFileError
from edge_et.llm.kv_protocol import KVCacheSettings
from edge_et.llm.model_shape import ModelShape
from edge_et.llm.native_log import NativeLog
from edge_et.native_handle import NativeHandle
from edge_et.native_libraries import import_library, mapped_files
from edge_et.native_threads import call_undisturbed, compute
from edge_et.threads import SpareThreads

_MADV_DONTNEED = 4

_AMX = "AMX_INT8 = 1"  # in llama.cpp's description of itself

_ABORTED = 2  # what llama_decode returns then

# Everything is evaluated in the sequence 0. This one is only for `LlamaContext.copy_state`.
_COPIED = 1

native_log = NativeLog()


@functools.cache
def load_library() -> Any:
    """Return the module llama_cpp, set up once: its log goes to `native_log`."""
    llama_cpp = import_library("llama_cpp")
    native_log.attach(llama_cpp)
    llama_cpp.llama_backend_init()
    return llama_cpp


class LlamaModel:
    """The weights of a GGUF, mapped into memory, and the LoRA adapter that goes with them.

    Attributes:
        embedding_width: D.
        vocabulary_size: rows of the embedding table, V and padding.
        handle: llama.cpp's model, for contexts over it.
        adapter: llama.cpp's adapter; None: there is none.
    """

    def __init__(self, path: Path, *, vocab_only: bool = False) -> None:
        """Map the file.

        Args:
            path: the file.
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

        def load() -> Any:
            model = library.llama_model_load_from_file(os.fsencode(path), params)
            if not model:
                raise ModelFileError(path, f"llama.cpp cannot open it{native_log.last_errors()}")
            return model

        self.handle = NativeHandle("language model", load, library.llama_model_free)
        self.adapter: Any = None
        self._path = path
        with self.handle.lock:
            model = self.handle.value
            self.embedding_width: int = library.llama_model_n_embd(model)
            vocabulary = library.llama_model_get_vocab(model)
            self.vocabulary_size: int = library.llama_vocab_n_tokens(vocabulary)
        if sys.platform == "linux":
            _release_pages(path)

    @property
    def is_open(self) -> bool:
        """Whether it was not closed yet."""
        return self.handle.is_open

    def metadata(self, key: str) -> str:
        """Return a value of the GGUF's metadata as text; empty where there is none."""
        buffer = ctypes.create_string_buffer(256)
        with self.handle.lock:
            model = self.handle.value
            length = load_library().llama_model_meta_val_str(
                model, key.encode(), buffer, len(buffer)
            )
        return buffer.value.decode(errors="replace") if length >= 0 else ""

    def load_adapter(self, path: Path) -> None:
        """Load the LoRA that contexts over this model apply with scale 1.

        Args:
            path: GGUF file.

        Raises:
            ModelFileError: it cannot be opened, or does not fit this model.
        """
        library, name = load_library(), os.fsencode(path)
        with self.handle.lock:  # the adapter is freed together with the model
            model = self.handle.value
            self.adapter = call_undisturbed(lambda: library.llama_adapter_lora_init(model, name))
        if not self.adapter:
            reason = f"it does not fit {self._path.name}{native_log.last_errors()}"
            raise ModelFileError(path, reason)

    def close(self) -> None:
        """Free the weights; contexts over them have to be closed before. May be called again."""
        self.handle.close()


class LlamaContext:
    """One context over a model: batches in, logits out.

    Threads may take turns. A method raises a `ClosedError` after `close`, and a `ForkedError` in a
    process that was forked from the one that made the context.
    """

    def __init__(self, model: LlamaModel, settings: KVCacheSettings, batch_positions: int) -> None:
        """Allocate the cache.

        Args:
            model: applied with its adapter, if it has one; kept alive by this object.
            settings: length, threads, number type, attention.
            batch_positions: most rows of a batch.

        Raises:
            DecodeError: there is not enough memory, or the model has no such cache.
        """
        library = self._library = load_library()
        self._cancel = CancelToken()
        flash_attention = settings.flash_attention or settings.kv_type == "q8_0"
        # Its sums have as many parts as there are threads: another number would change bits.
        self._spare = None if flash_attention else SpareThreads(settings.threads)
        self._embedding_width = model.embedding_width
        self._vocabulary_size = model.vocabulary_size
        params = library.llama_context_default_params()
        params.n_ctx = settings.context_length
        params.n_batch = params.n_ubatch = batch_positions
        # The second sequence is for `copy_state`; both share all cells.
        params.n_seq_max, params.kv_unified = 2, True
        params.n_outputs_max = max(params.n_seq_max, 1 + settings.max_draft_tokens)
        params.n_threads = params.n_threads_batch = settings.threads
        choice = "ENABLED" if flash_attention else "DISABLED"
        params.flash_attn_type = getattr(library, f"LLAMA_FLASH_ATTN_TYPE_{choice}")
        params.type_k = params.type_v = getattr(library, f"GGML_TYPE_{settings.kv_type.upper()}")

        def make() -> Any:
            with model.handle.lock:
                context = library.llama_init_from_model(model.handle.value, params)
            if not context:
                raise DecodeError(
                    f"no memory for a context of {settings.context_length} tokens"
                    f"{native_log.last_errors()}"
                )
            return context

        self._handle = NativeHandle("KV cache", make, library.llama_free, over=model.handle)
        if model.adapter is not None:
            adapters = (library.llama_adapter_lora_p_ctypes * 1)(model.adapter)
            scales = (ctypes.c_float * 1)(1.0)

            def apply_adapter() -> int:
                with self._handle.lock:
                    context = self._handle.value
                    status: int = library.llama_set_adapters_lora(context, adapters, 1, scales)
                    return status

            if call_undisturbed(apply_adapter) != 0:
                self.close()
                raise DecodeError(f"the adapter cannot be applied{native_log.last_errors()}")

    @property
    def is_open(self) -> bool:
        """Whether it was not closed yet."""
        return self._handle.is_open

    def obey(self, cancel: CancelToken) -> None:
        """Stop evaluating when a token is cancelled, between two nodes of the graph.

        Args:
            cancel: takes the place of the one before.
        """

        def set_callback() -> None:
            with self._handle.lock:
                before, self._cancel = self._cancel, cancel  # neither goes while its byte is read
                self._library.llama_set_abort_callback(
                    self._handle.value,
                    ctypes.cast(native_callback(), self._library.ggml_abort_callback),
                    cancel.address,
                )
                del before

        if self._handle.is_open:
            compute(set_callback)  # which llama.cpp logs

    def decode(
        self, inputs: NDArray[np.int32] | NDArray[np.float32], start: int, outputs: int
    ) -> None:
        """Evaluate one batch at the positions from `start` on.

        Args:
            inputs: token ids [n] int32, or embedding rows [n,D] float32.
            start: position of the first row.
            outputs: behind how many of the last rows logits are wanted.

        Raises:
            CancelledError: the token that is obeyed was cancelled; what was held before is.
            DecodeError: llama.cpp failed; the context may hold anything then.
        """
        are_tokens = inputs.ndim == 1
        if not are_tokens and inputs.shape[1:] != (self._embedding_width,):
            expected = f"expected [n,{self._embedding_width}]"
            raise DecodeError(f"embedding rows of shape {list(inputs.shape)}, {expected}")
        # llama.cpp is told where they begin, and takes the rest for granted.
        inputs = np.require(inputs, np.int32 if are_tokens else np.float32, ["C", "A"])
        count = len(inputs)
        places = np.arange(start, start + count, dtype=np.int32)
        wanted = np.zeros(count, np.int8)
        wanted[count - outputs :] = 1
        batch = self._library.llama_batch(
            count,
            _pointer(inputs, ctypes.c_int32) if are_tokens else None,
            None if are_tokens else _pointer(inputs, ctypes.c_float),
            _pointer(places, ctypes.c_int32),
            None,  # no sequence ids: everything belongs to sequence 0
            None,
            _pointer(wanted, ctypes.c_int8),
        )
        cancel = self._cancel

        def evaluate() -> int:
            # By the thread that computes: whoever waits for it may be interrupted and go on.
            with self._handle.lock, native_log.expecting(cancel):
                context = self._handle.value
                if (spare := self._spare) is not None:
                    self._library.llama_set_n_threads(context, spare.for_tokens(), spare.most)
                return int(self._library.llama_decode(context, batch))

        status = compute(evaluate, stop=cancel.cancel)
        if status == _ABORTED:
            raise CancelledError
        if status != 0:
            raise DecodeError(f"llama_decode returned {status}{native_log.last_errors()}")

    def logits(self, row: int, count: int) -> NDArray[np.float32]:
        """Copy the logits behind a row of the last batch.

        Args:
            row: counted among the outputs, from the last one at -1.
            count: of how many ids, from the first one, at most the model's vocabulary.

        Returns:
            [count] float32.
        """
        with self._handle.lock:
            context = self._handle.value
            values = self._library.llama_get_logits_ith(context, row)
            return np.ctypeslib.as_array(values, shape=(self._vocabulary_size,))[:count].copy()

    def truncate(self, keep: int) -> bool:
        """Drop all positions but the first ones; return whether the model's cache can do so."""
        library = self._library
        with self._handle.lock:
            context = self._handle.value
            return bool(library.llama_memory_seq_rm(library.llama_get_memory(context), 0, keep, -1))

    def clear(self, *, numbers: bool = False) -> None:
        """Drop all positions.

        Args:
            numbers: overwrite what they held, too. Attention reads dropped positions with a weight
                of 0, so they do not matter, unless they are not finite.
        """
        with self._handle.lock:
            memory = self._library.llama_get_memory(self._handle.value)
            self._library.llama_memory_clear(memory, numbers)

    def count_positions(self) -> int:
        """Return how many positions are held, of a context that was filled from the first on."""
        with self._handle.lock:
            context = self._handle.value
            library = self._library
            return int(library.llama_memory_seq_pos_max(library.llama_get_memory(context), 0)) + 1

    def copy_state(self, count: int) -> NDArray[np.uint8] | None:
        """Copy what is held at the first positions, whatever lies behind them.

        llama.cpp copies a whole sequence or nothing. So the positions are made a sequence of their
        own, which shares the cells and touches no numbers.

        Args:
            count: positions, at least 1.

        Returns:
            [n] uint8, for `load_state`; None: llama.cpp failed.
        """
        library = self._library
        with self._handle.lock:
            context = self._handle.value
            memory = library.llama_get_memory(context)
            library.llama_memory_seq_cp(memory, 0, _COPIED, 0, count)
            try:
                data = np.empty(library.llama_state_seq_get_size(context, _COPIED), np.uint8)
                size = library.llama_state_seq_get_data(
                    context, _pointer(data, ctypes.c_uint8), len(data), _COPIED
                )
            finally:
                library.llama_memory_seq_rm(memory, _COPIED, -1, -1)
        return data if size == len(data) else None

    def load_state(self, data: NDArray[np.uint8], count: int) -> bool:
        """Make an empty context hold what `copy_state` copied.

        Args:
            data: exactly what was copied, over the same weights and with the same number types:
                llama.cpp is not made for damaged data.
            count: positions that it has.

        Returns:
            Whether it does; otherwise it may hold anything.
        """
        with self._handle.lock:
            context = self._handle.value
            size = self._library.llama_state_seq_set_data(
                context, _pointer(data, ctypes.c_uint8), len(data), 0
            )
        return bool(size == len(data) and self.count_positions() == count)

    def close(self) -> None:
        """Free it; may be called again."""
        self._handle.close()


def read_shape(weights: Path) -> ModelShape:
    """Read a model's sizes: llama.cpp loads the vocabulary alone (0.1 s for 49,152 tokens).

    Args:
        weights: GGUF file.

    Raises:
        ModelFileError: the file cannot be opened, or does not tell them.
    """
    model = LlamaModel(weights, vocab_only=True)
    try:
        return ModelShape.of(model.metadata, weights)
    finally:
        model.close()


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


def _release_pages(weights: Path) -> None:
    """Give back the memory of a mapped file's pages; those that are read again come back.

    llama.cpp reads the whole file when it maps it, and copies the matrices for which it has faster
    layouts: of Qwen3-0.6B in Q4_0 that leaves 250 MB of pages that nobody needs.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    target = str(weights.resolve())
    for start, end, path in mapped_files():
        if path == target:
            libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), _MADV_DONTNEED)


def _pointer(array: NDArray[Any], kind: Any) -> Any:
    return array.ctypes.data_as(ctypes.POINTER(kind))
