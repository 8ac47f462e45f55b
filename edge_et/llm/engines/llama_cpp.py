"""llama.cpp by llama-cpp-python, compiled on the user's machine: the reference.

Its low-level functions alone are used, since its class ``Llama`` clears its cache for every image,
and takes no embeddings.
"""

import ctypes
import functools
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from edge_et.errors import EngineError
from edge_et.llm.batch_rules import IN_EVEN_CHUNKS, BatchRules
from edge_et.llm.engines.native_library import NativeLibrary, encoded, pointer
from edge_et.llm.kv_protocol import KVCacheSettings
from edge_et.llm.native_log import NativeLog
from edge_et.native_libraries import import_library

PACKAGE: Final = "llama-cpp-python"
MODULE: Final = "llama_cpp"
LIBRARY_VARIABLE: Final = "LLAMA_CPP_LIB_PATH"

_AMX, _I8MM = "AMX_INT8 = 1", "MATMUL_INT8 = 1"  # in llama.cpp's description of itself

# It makes up tokens where it is told to read none; and rows of a picture in a grid stand at one
# place in time, and what follows them further on.
native_log = NativeLog(expected=("dummy tokens", "non-consecutive token position"))


@functools.cache
def open_library() -> "LlamaCpp":
    """Return llama.cpp, set up once.

    Raises:
        EngineError: it is not installed, or cannot be loaded.
    """
    try:
        bindings = import_library("llama_cpp")
    except ImportError as err:
        raise EngineError("llama", f"llama-cpp-python cannot be imported: {err}") from err
    return LlamaCpp(bindings, native_log)


def load_library() -> Any:
    """Return the module llama_cpp, its log routed to `native_log`; for tools.

    Raises:
        EngineError: as for `open_library`.
    """
    return open_library().bindings


def lays_out_weights() -> bool:
    """Say whether llama.cpp may copy weights to layouts of its own, which are faster.

    With AMX it crashes the process at the first evaluation of weights that are laid out for it
    (github.com/ggml-org/llama.cpp/issues/20824).
    """
    return _AMX not in open_library().describe_build()


class LlamaCpp(NativeLibrary):
    """The functions of llama-cpp-python 0.3.36."""

    def load_kernels(self) -> None:
        """Load the kernels that fit this CPU best, where they are in libraries of their own.

        Built with GGML_BACKEND_DL, llama.cpp looks for them beside the program and in the current
        folder, where anybody may have put some, and not beside itself.

        Raises:
            EngineError: there are none for this CPU.
        """
        library = self.bindings.llama_cpp._lib
        if library.ggml_backend_reg_count():
            return
        folder = Path(library._name).parent
        library.ggml_backend_load_all_from_path(encoded(folder))
        if not library.ggml_backend_reg_count():
            raise EngineError(
                "llama",
                f"llama.cpp has no kernels for this CPU in {folder}: it was built with "
                "GGML_BACKEND_DL, so copy the libggml-cpu*.so of its build there, or build it "
                "without that option",
            )

    def load_model(
        self, path: Path, architecture: str, vocabulary_size: int, *, mapped: bool
    ) -> Any:
        """Read a GGUF into memory, without its tokens; return its model, or None.

        A mapped file would stay resident beside the matrices that are laid out anew: of Qwen3-0.6B
        in Q4_0 the peak is 715 MB with its KV cache of 2048 positions, and 943 MB mapped. So one
        that is to be mapped is not laid out anew.
        """
        library = self.bindings
        params = library.llama_model_default_params()
        params.n_gpu_layers = 0
        mode = library.LLAMA_LOAD_MODE_MMAP if mapped else library.LLAMA_LOAD_MODE_NONE
        params.load_mode = mode
        params.use_extra_bufts = not mapped and lays_out_weights()
        params.kv_overrides = self.no_tokens(architecture, vocabulary_size)
        return library.llama_model_load_from_file(encoded(path), params)

    def free_model(self, model: Any) -> None:
        """Free a model, and its adapters."""
        self.bindings.llama_model_free(model)

    def load_adapter(self, model: Any, path: Path) -> Any:
        """Load a LoRA for a model; return it, or None."""
        return self.bindings.llama_adapter_lora_init(model, encoded(path))

    def apply_adapter(self, context: Any, adapter: Any) -> bool:
        """Apply a LoRA with scale 1; return whether it is."""
        adapters = (self.bindings.llama_adapter_lora_p_ctypes * 1)(adapter)
        scales = (ctypes.c_float * 1)(1.0)
        return bool(self.bindings.llama_set_adapters_lora(context, adapters, 1, scales) == 0)

    def new_context(self, model: Any, settings: KVCacheSettings, batch_positions: int) -> Any:
        """Return a context with room for two sequences over the same cells, or None."""
        library = self.bindings
        params = library.llama_context_default_params()
        params.n_ctx = settings.context_length
        params.n_batch = params.n_ubatch = batch_positions
        params.n_seq_max, params.kv_unified = 2, True
        params.n_outputs_max = max(params.n_seq_max, 1 + (settings.max_draft_tokens or 0))
        params.n_threads = params.n_threads_batch = settings.threads
        params.flash_attn_type = (
            library.LLAMA_FLASH_ATTN_TYPE_ENABLED
            if settings.has_flash_attention
            else library.LLAMA_FLASH_ATTN_TYPE_DISABLED
        )
        params.type_k = params.type_v = getattr(library, f"GGML_TYPE_{settings.kv_type.upper()}")
        return library.llama_init_from_model(model, params)

    def truncate(self, context: Any, sequence: int, keep: int) -> bool:
        """Drop all positions of a sequence but the first ones; return whether it can."""
        memory = self.bindings.llama_get_memory(context)
        return bool(self.bindings.llama_memory_seq_rm(memory, sequence, keep, -1))

    def clear(self, context: Any, *, numbers: bool) -> None:
        """Drop all positions, and overwrite what they held if `numbers`."""
        self.bindings.llama_memory_clear(self.bindings.llama_get_memory(context), numbers)

    def copy_sequence(self, context: Any, source: int, target: int, count: int) -> None:
        """Let a sequence share the cells of another one's first positions."""
        memory = self.bindings.llama_get_memory(context)
        self.bindings.llama_memory_seq_cp(memory, source, target, 0, count)

    def last_position(self, context: Any, sequence: int) -> int:
        """Return the last position that a sequence holds; -1: none."""
        memory = self.bindings.llama_get_memory(context)
        return int(self.bindings.llama_memory_seq_pos_max(memory, sequence))

    def state_bytes(self, context: Any, sequence: int) -> int:
        """Return how large a copy of a sequence is."""
        return int(self.bindings.llama_state_seq_get_size(context, sequence))

    def read_state(self, context: Any, sequence: int, data: NDArray[np.uint8]) -> int:
        """Copy a sequence; return how many bytes were written."""
        target = pointer(data, ctypes.c_uint8)
        return int(self.bindings.llama_state_seq_get_data(context, target, len(data), sequence))

    def write_state(self, context: Any, sequence: int, data: NDArray[np.uint8]) -> int:
        """Put back a sequence that was copied; return how many bytes were read."""
        source = pointer(data, ctypes.c_uint8)
        return int(self.bindings.llama_state_seq_set_data(context, source, len(data), sequence))

    def rules_here(self, rules: BatchRules) -> BatchRules:
        """Return the rules that hold on this CPU.

        Args:
            rules: of the engine.
        """
        return IN_EVEN_CHUNKS if _I8MM in self.describe_build() else rules

    def is_recurrent(self, model: Any) -> bool:
        """Say whether it keeps a state of all positions, of which no end can be dropped."""
        library = self.bindings
        return bool(library.llama_model_is_recurrent(model) or library.llama_model_is_hybrid(model))

    def window(self, model: Any) -> int:
        """Return how many positions its layers with a sliding window see; 0: there are none."""
        return int(self.bindings.llama_model_n_swa(model))

    def is_mrope(self, model: Any) -> bool:
        """Say whether rows of an image stand in a grid; see `edge_et.llm.places`."""
        library = self.bindings
        kinds = (library.LLAMA_ROPE_TYPE_MROPE, library.LLAMA_ROPE_TYPE_IMROPE)
        return bool(library.llama_model_rope_type(model) in kinds)

    def first_position(self, context: Any, sequence: int) -> int:
        """Return the first position that all of a sequence's memory holds; -1: none."""
        memory = self.bindings.llama_get_memory(context)
        return int(self.bindings.llama_memory_seq_pos_min(memory, sequence))

    def copy_recurrent(self, context: Any, sequence: int) -> NDArray[np.uint8] | None:
        """Copy the state of a recurrent model, without its keys and values; None: it failed."""
        library, flags = self.bindings, self.bindings.LLAMA_STATE_SEQ_FLAGS_PARTIAL_ONLY
        data = np.empty(library.llama_state_seq_get_size_ext(context, sequence, flags), np.uint8)
        target = pointer(data, ctypes.c_uint8)
        size = library.llama_state_seq_get_data_ext(context, target, len(data), sequence, flags)
        return data if size == len(data) else None

    def write_recurrent(self, context: Any, sequence: int, data: NDArray[np.uint8]) -> bool:
        """Put such a state back beside keys and values; return whether it was."""
        library, source = self.bindings, pointer(data, ctypes.c_uint8)
        flags = library.LLAMA_STATE_SEQ_FLAGS_PARTIAL_ONLY
        size = library.llama_state_seq_set_data_ext(context, source, len(data), sequence, flags)
        return bool(size == len(data))

    def decode(
        self,
        context: Any,
        inputs: NDArray[np.int32] | NDArray[np.float32],
        places: NDArray[np.int32],
        wanted: NDArray[np.int8],
    ) -> int:
        """Evaluate a batch of the sequence 0; return 0 where it was done."""
        are_tokens = inputs.ndim == 1
        batch = self.bindings.llama_batch(
            len(inputs),
            pointer(inputs, ctypes.c_int32) if are_tokens else None,
            None if are_tokens else pointer(inputs, ctypes.c_float),
            pointer(places, ctypes.c_int32),
            None,  # no sequence ids: everything belongs to sequence 0
            None,
            pointer(wanted, ctypes.c_int8),
        )
        return int(self.bindings.llama_decode(context, batch))
