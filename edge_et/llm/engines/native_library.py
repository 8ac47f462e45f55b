"""What models and contexts call, with the same meaning in every engine.

In: addresses of models and contexts. Out: addresses, numbers, bytes. Who may call when, and what an
address belongs to, is not known here.
"""

import ctypes
import os
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from edge_et.cancellation import native_callback
from edge_et.llm.batch_rules import BatchRules
from edge_et.llm.kv_protocol import KVCacheSettings
from edge_et.llm.model_shape import ModelShape
from edge_et.llm.native_log import NativeLog

_INTEGER, _TEXT = 0, 3  # kinds of values of metadata (llama_model_kv_override_type)

ABORTED: Final = 2
"""What `decode` may return when it was stopped."""


class NativeLibrary(ABC):
    """A library of the llama.cpp family; what differs between them is abstract.

    Attributes:
        log: what it says.
        tells_of_aborting: whether `decode` returns `ABORTED` when it was stopped, else 0.
    """

    tells_of_aborting = True

    def __init__(self, bindings: Any, log: NativeLog) -> None:
        """Set the library up; once a process.

        Args:
            bindings: the C functions by their names.
            log: takes what it says from now on.
        """
        self.bindings = bindings
        self.log = log
        log.attach(bindings)
        self.load_kernels()
        bindings.llama_backend_init()

    def load_kernels(self) -> None:  # noqa: B027
        """Load what it computes with, where that is not in the library itself.

        Raises:
            EngineError: it cannot be loaded.
        """

    @abstractmethod
    def load_model(
        self, path: Path, architecture: str, vocabulary_size: int, *, mapped: bool
    ) -> Any:
        """Open a GGUF, without its tokens; return its model, or None.

        Args:
            path: the file.
            architecture: its ``general.architecture``.
            vocabulary_size: rows of its embedding table.
            mapped: whether the weights stay in the file, whose pages the system may take back.
        """

    @abstractmethod
    def free_model(self, model: Any) -> None:
        """Free a model, and its adapters."""

    @abstractmethod
    def load_adapter(self, model: Any, path: Path) -> Any:
        """Load a LoRA for a model; return it, or None."""

    @abstractmethod
    def apply_adapter(self, context: Any, adapter: Any) -> bool:
        """Apply a LoRA with scale 1; return whether it is."""

    @abstractmethod
    def new_context(self, model: Any, settings: KVCacheSettings, batch_positions: int) -> Any:
        """Return a context with room for two sequences over the same cells, or None."""

    @abstractmethod
    def truncate(self, context: Any, sequence: int, keep: int) -> bool:
        """Drop all positions of a sequence but the first ones; return whether it can."""

    @abstractmethod
    def clear(self, context: Any, *, numbers: bool) -> None:
        """Drop all positions, and overwrite what they held if `numbers`."""

    @abstractmethod
    def copy_sequence(self, context: Any, source: int, target: int, count: int) -> None:
        """Let a sequence share the cells of another one's first positions."""

    @abstractmethod
    def last_position(self, context: Any, sequence: int) -> int:
        """Return the last position that a sequence holds; -1: none."""

    def is_recurrent(self, model: Any) -> bool:
        """Say whether it keeps a state of all positions, of which no end can be dropped."""
        return False

    def rules_here(self, rules: BatchRules) -> BatchRules:
        """Return the rules that hold on this CPU.

        Args:
            rules: of the engine.
        """
        return rules

    def pairs_rows(self, shape: ModelShape) -> bool:
        """Say whether a row comes out right only where another one is in its batch."""
        return False

    def window(self, model: Any) -> int:
        """Return how many positions its layers with a sliding window see; 0: there are none."""
        return 0

    def is_mrope(self, model: Any) -> bool:
        """Say whether rows of an image stand in a grid; see `edge_et.llm.places`."""
        return False

    def first_position(self, context: Any, sequence: int) -> int:
        """Return the first position that all of a sequence's memory holds; -1: none."""
        raise NotImplementedError

    def copy_recurrent(self, context: Any, sequence: int) -> NDArray[np.uint8] | None:
        """Copy the state of a recurrent model, without its keys and values; None: it failed."""
        raise NotImplementedError

    def write_recurrent(self, context: Any, sequence: int, data: NDArray[np.uint8]) -> bool:
        """Put such a state back beside keys and values; return whether it was."""
        raise NotImplementedError

    @abstractmethod
    def state_bytes(self, context: Any, sequence: int) -> int:
        """Return how large a copy of a sequence is."""

    @abstractmethod
    def read_state(self, context: Any, sequence: int, data: NDArray[np.uint8]) -> int:
        """Copy a sequence; return how many bytes were written."""

    @abstractmethod
    def write_state(self, context: Any, sequence: int, data: NDArray[np.uint8]) -> int:
        """Put back a sequence that was copied; return how many bytes were read."""

    @abstractmethod
    def decode(
        self,
        context: Any,
        inputs: NDArray[np.int32] | NDArray[np.float32],
        places: NDArray[np.int32],
        wanted: NDArray[np.int8],
    ) -> int:
        """Evaluate a batch of the sequence 0.

        Args:
            context: whose.
            inputs: token ids [n] int32, or embedding rows [n,D] float32, C-contiguous.
            places: positions [n].
            wanted: behind which rows logits are wanted [n].

        Returns:
            0: it was done; otherwise not.
        """

    def no_tokens(self, architecture: str, vocabulary_size: int) -> Any:
        """Return overrides of a GGUF's metadata that leave out its tokens, which nobody asks for.

        Those of Qwen3, 151,936, took 0.4 s to read and 35 MB.

        Args:
            architecture: its ``general.architecture``.
            vocabulary_size: rows of its embedding table.
        """
        kind = self.bindings.llama_model_kv_override
        value = self.bindings.llama_model_kv_override_value
        size_key = f"{architecture}.vocab_size".encode()
        return (kind * 3)(
            kind(_TEXT, b"tokenizer.ggml.model", value(val_str=b"no_vocab")),
            kind(_INTEGER, size_key, value(val_i64=vocabulary_size)),
        )  # and one without a key, which ends them

    def free_context(self, context: Any) -> None:
        """Free a context."""
        self.bindings.llama_free(context)

    def embedding_width(self, model: Any) -> int:
        """Return D."""
        return int(self.bindings.llama_model_n_embd(model))

    def vocabulary_size(self, model: Any) -> int:
        """Return the rows of the embedding table."""
        vocabulary = self.bindings.llama_model_get_vocab(model)
        return int(self.bindings.llama_vocab_n_tokens(vocabulary))

    def metadata(self, model: Any, key: str) -> str:
        """Return a value of the GGUF's metadata as text; empty where there is none."""
        buffer = ctypes.create_string_buffer(256)
        length = self.bindings.llama_model_meta_val_str(model, key.encode(), buffer, len(buffer))
        return buffer.value.decode(errors="replace") if length >= 0 else ""

    def obey(self, context: Any, address: int) -> None:
        """Stop `decode` between two nodes of the graph once a byte is not 0 any more.

        Args:
            context: whose.
            address: of the byte.
        """
        callback = ctypes.cast(native_callback(), self.bindings.ggml_abort_callback)
        self.bindings.llama_set_abort_callback(context, callback, address)

    def set_threads(self, context: Any, tokens: int, batches: int) -> None:
        """Set how many threads compute from now on.

        Args:
            context: whose.
            tokens: for batches of a single row.
            batches: for all others.
        """
        self.bindings.llama_set_n_threads(context, tokens, batches)

    def logits(self, context: Any, row: int, count: int) -> NDArray[np.float32]:
        """Return the logits [count] behind an output of the last batch, in the library's memory."""
        values = self.bindings.llama_get_logits_ith(context, row)
        return np.ctypeslib.as_array(values, shape=(count,))

    def describe_build(self) -> str:
        """Return which kernels the library was built with."""
        text: bytes = self.bindings.llama_print_system_info()
        return text.decode(errors="replace").strip()


def pointer(array: NDArray[Any], kind: Any) -> Any:
    """Return an array's address as ctypes wants it."""
    return array.ctypes.data_as(ctypes.POINTER(kind))


def encoded(path: Path) -> bytes:
    """Return a path as C wants it."""
    return os.fsencode(path)
