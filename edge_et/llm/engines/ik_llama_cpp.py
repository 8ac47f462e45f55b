"""ik_llama.cpp by ik-llama-cpp-python, a fork of llama.cpp that comes compiled.

Its structs are those of one version, so that version alone is opened. What its package does not
bind is bound here, as its llama.h declares it. Of 0.1.5 are wrong: adapters, whatever the
weights (numbers that are not finite, or 1.3 nats), weights in Q4_1 and Q5_1 in a batch (x86), and
rows that are evaluated alone (ARM; see `IkLlamaCpp.pairs_rows`). It computes with no KV caches in
F32.
"""

import ctypes
import functools
import logging
import platform
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from edge_et.cpu_flags import missing_for
from edge_et.errors import EngineError
from edge_et.llm.batch_rules import BatchRules
from edge_et.llm.engines.engine import UNKNOWN
from edge_et.llm.engines.native_library import NativeLibrary, encoded, pointer
from edge_et.llm.kv_protocol import KVCacheSettings
from edge_et.llm.model_shape import ModelShape
from edge_et.llm.native_log import NativeLog
from edge_et.native_libraries import import_library
from edge_et.options import KvType

PACKAGE: Final = "ik-llama-cpp-python"
MODULE: Final = "ik_llama_cpp"
LIBRARY_VARIABLE: Final = "IK_LLAMA_CPP_LIB_PATH"
VERSION: Final = "0.1.5"

_ARM_COLUMNS = 128  # four blocks of 32, which a kernel takes at once

# From a number of rows on, which depends on the weights' type, it unpacks quantized weights to
# 8 bits and multiplies those: from 16 (IQ2_S and IQ*_KT), 32 (most) or 64 (Q6_K) rows
# (is_dequant_better in ggml/src/iqk/iqk_mul_mat.cpp). Whatever the batch, a row below all these
# bounds has the bits of that row alone, and one above them those of any large batch.
RULES: Final = BatchRules(group=1, most=15, image_group=64, image_most=256, spare=1, written=15)

# With flash attention a row alone, behind more than 256 cells, is split by the number of threads,
# and rounds unlike a row among others. With weights in F16 and KV caches in q8_0 there are more
# differences, of 0.00001 in logits, whose rule nobody found.
FLASH_RULES: Final = BatchRules(
    group=2, most=14, image_group=64, image_most=256, spare=1, written=1
)

_GGML_TYPES: dict[KvType, int] = {"f16": 1, "q8_0": 8}
KV_TYPES: Final = tuple(_GGML_TYPES)

# It warns of the memory of GPUs that are not there.
_native_log = NativeLog(warning_level=logging.DEBUG)


@functools.cache
def open_library(version: str) -> "IkLlamaCpp":
    """Return ik_llama.cpp, set up once.

    Args:
        version: of the package that is installed.

    Raises:
        EngineError: it is another version than ours is made for, or cannot be loaded, or would end
            the process on this CPU.
    """
    if missing := missing_for("prebuilt"):
        raise EngineError.lacking("prebuilt", missing)
    if version not in (VERSION, UNKNOWN):
        raise EngineError(
            "prebuilt",
            f"{PACKAGE} is {version}, this release of edge-et works with {VERSION} alone: "
            f"pip install {PACKAGE}=={VERSION}",
        )
    try:
        api = import_library("ik_llama_cpp._ctypes_api")
    except (ImportError, OSError) as err:
        raise EngineError("prebuilt", f"{PACKAGE} cannot be loaded: {err}") from err
    found = import_library("ik_llama_cpp").__version__
    if found != VERSION:
        return open_library(found)
    return IkLlamaCpp(_bindings(api), _native_log)


def _bindings(api: Any) -> SimpleNamespace:
    """Return what is called of llama.h, of which the package binds a part."""
    library = api._lib
    log_callback = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)
    address, number, size = ctypes.c_void_p, ctypes.c_int32, ctypes.c_size_t
    bytes_ = ctypes.POINTER(ctypes.c_uint8)
    declared: dict[str, tuple[Any, list[Any]]] = {
        "llama_model_meta_val_str": (number, [address, ctypes.c_char_p, ctypes.c_char_p, size]),
        "llama_lora_adapter_init": (address, [address, ctypes.c_char_p]),
        "llama_lora_adapter_set": (number, [address, address, ctypes.c_float]),
        "llama_set_n_threads": (None, [address, ctypes.c_uint32, ctypes.c_uint32]),
        "llama_set_abort_callback": (None, [address, api.ggml_abort_callback, address]),
        "llama_print_system_info": (ctypes.c_char_p, []),
        "llama_log_set": (None, [log_callback, address]),
        "llama_kv_cache_seq_rm": (ctypes.c_bool, [address, number, number, number]),
        "llama_kv_cache_seq_cp": (None, [address, number, number, number, number]),
        "llama_kv_cache_seq_pos_max": (number, [address, number]),
        "llama_state_seq_get_size": (size, [address, number, ctypes.c_uint32]),
        "llama_state_seq_get_data": (size, [address, bytes_, size, number, ctypes.c_uint32]),
        "llama_state_seq_set_data": (size, [address, bytes_, size, number, ctypes.c_uint32]),
    }
    bindings = SimpleNamespace(**vars(api), llama_log_callback=log_callback)
    for name, (result, arguments) in declared.items():
        function = library[name]  # one of ours: the attribute would be shared with others
        function.restype, function.argtypes = result, arguments
        setattr(bindings, name, function)
    return bindings


class IkLlamaCpp(NativeLibrary):
    """The functions of ik-llama-cpp-python 0.1.5."""

    tells_of_aborting = False

    def load_model(
        self, path: Path, architecture: str, vocabulary_size: int, *, mapped: bool
    ) -> Any:
        """Map a GGUF in any case, without its tokens; return its model, or None."""
        params = self.bindings.llama_model_default_params()
        params.n_gpu_layers = 0
        params.use_mmap = True
        params.kv_overrides = self.no_tokens(architecture, vocabulary_size)
        return self.bindings.llama_model_load_from_file(encoded(path), params)

    def free_model(self, model: Any) -> None:
        """Free a model, and its adapters."""
        self.bindings.llama_free_model(model)

    def load_adapter(self, model: Any, path: Path) -> Any:
        """Load a LoRA for a model; return it, or None."""
        return self.bindings.llama_lora_adapter_init(model, encoded(path))

    def apply_adapter(self, context: Any, adapter: Any) -> bool:
        """Apply a LoRA with scale 1; return whether it is."""
        return bool(self.bindings.llama_lora_adapter_set(context, adapter, 1.0) == 0)

    def new_context(self, model: Any, settings: KVCacheSettings, batch_positions: int) -> Any:
        """Return a context with room for two sequences over the same cells, or None."""
        params = self.bindings.llama_context_default_params()
        params.n_ctx = settings.context_length
        params.n_batch = params.n_ubatch = batch_positions
        params.n_seq_max = 2
        params.n_threads = params.n_threads_batch = settings.threads
        params.flash_attn = settings.has_flash_attention
        params.type_k = params.type_v = _GGML_TYPES[settings.kv_type]
        return self.bindings.llama_init_from_model(model, params)

    def pairs_rows(self, shape: ModelShape) -> bool:
        """Say whether a row comes out right only where another one is in its batch.

        On ARM the product of a single row with weights in blocks of 32 leaves out what remains of
        the columns behind the last whole 128: of SmolLM2-135M, which has 576, the last 64. Two rows
        take other kernels.
        """
        columns = (shape.width, shape.heads * shape.value_width, shape.feed_forward)
        is_whole = all(count % _ARM_COLUMNS == 0 for count in columns)
        return platform.machine() == "aarch64" and not is_whole

    def truncate(self, context: Any, sequence: int, keep: int) -> bool:
        """Drop all positions of a sequence but the first ones; return whether it can."""
        return bool(self.bindings.llama_kv_cache_seq_rm(context, sequence, keep, -1))

    def clear(self, context: Any, *, numbers: bool) -> None:
        """Drop all positions and overwrite what they held; this engine has no other way."""
        self.bindings.llama_kv_cache_clear(context)

    def copy_sequence(self, context: Any, source: int, target: int, count: int) -> None:
        """Let a sequence share the cells of another one's first positions."""
        self.bindings.llama_kv_cache_seq_cp(context, source, target, 0, count)

    def last_position(self, context: Any, sequence: int) -> int:
        """Return the last position that a sequence holds; -1: none."""
        return int(self.bindings.llama_kv_cache_seq_pos_max(context, sequence))

    def state_bytes(self, context: Any, sequence: int) -> int:
        """Return how large a copy of a sequence is."""
        return int(self.bindings.llama_state_seq_get_size(context, sequence, 0))

    def read_state(self, context: Any, sequence: int, data: NDArray[np.uint8]) -> int:
        """Copy a sequence; return how many bytes were written."""
        target = pointer(data, ctypes.c_uint8)
        return int(self.bindings.llama_state_seq_get_data(context, target, len(data), sequence, 0))

    def write_state(self, context: Any, sequence: int, data: NDArray[np.uint8]) -> int:
        """Put back a sequence that was copied; return how many bytes were read."""
        source = pointer(data, ctypes.c_uint8)
        return int(self.bindings.llama_state_seq_set_data(context, source, len(data), sequence, 0))

    def decode(
        self,
        context: Any,
        inputs: NDArray[np.int32] | NDArray[np.float32],
        places: NDArray[np.int32],
        wanted: NDArray[np.int8],
    ) -> int:
        """Evaluate a batch of the sequence 0; return 0 where it was done."""
        are_tokens, is_alone = inputs.ndim == 1, inputs.shape[:-1] == (1,)
        rows: NDArray[Any] = inputs
        if is_alone:  # an embedding row: it takes two or more
            rows, wanted = np.repeat(inputs, 2, axis=0), np.append(wanted, np.int8(0))
            places = np.append(places, places + 1)
        batch = self.bindings.llama_batch(
            n_tokens=len(rows),
            token=pointer(rows, ctypes.c_int32) if are_tokens else None,
            embd=None if are_tokens else pointer(rows, ctypes.c_float),
            pos=pointer(places, ctypes.c_int32),
            logits=pointer(wanted, ctypes.c_int8),
            all_seq_id=0,
        )
        status = int(self.bindings.llama_decode(context, batch))
        if is_alone:
            self.truncate(context, 0, int(places[1]))
        return status
