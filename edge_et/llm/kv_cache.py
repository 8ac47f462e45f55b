"""One KV cache over a language model.

In: segments of tokens and image tokens. Out: the logits behind the last position, and how many
positions were evaluated or found in the cache. Text is not known here. Only low-level functions of
llama_cpp are used: the class ``Llama`` clears its cache for every image, and takes no embeddings.
"""

import ctypes
import weakref
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edge_et.errors import ClosedError, DecodeError, PromptTooLongError
from edge_et.llm.image_prompt_cache import ImagePrefixes
from edge_et.llm.kv_positions import (
    Position,
    chunks,
    common_prefix,
    generated,
    positions_of,
    restart_at,
    whole_groups,
)
from edge_et.llm.kv_protocol import Evaluation
from edge_et.llm.llama_cpp import copy_state, load_library, load_state, native_log
from edge_et.llm.model_shape import DecoderShape, KvType
from edge_et.llm.prompt import Segment, TokenSegment

# Positions that llama.cpp evaluates at once. A batch's attention is a rectangle, of its rows and
# all positions up to its last one, so smaller batches compute less that the causal mask drops: on
# two cores of an AMD Zen 4, 281 positions of SmolLM2-135M took 425 ms in batches of 512, 333 in
# those of 256, 334 of 128 and 375 of 64, and 814 of Qwen3-0.6B 4.25, 3.72, 3.72 and 3.78 s.
_BATCH_POSITIONS = 256


class Weights(Protocol):
    """What a context needs of a model; `edge_et.llm.language_model.LanguageModel` is one.

    Attributes:
        model: llama.cpp's pointer to it; lives as long as this object.
        adapter: llama.cpp's pointer to the LoRA that goes with it; None where there is none.
        shape: its sizes.
        vocabulary_size: rows of its embedding table, V and padding.
        token_count: V, ids that the tokenizer knows.
        prefixes: keep on disk what contexts hold of images; None: nobody does.
    """

    model: Any
    adapter: Any
    shape: DecoderShape
    vocabulary_size: int
    token_count: int
    prefixes: ImagePrefixes | None


class Context:
    """One KV cache. Not safe for use from several threads at once."""

    def __init__(
        self,
        weights: Weights,
        context_length: int,
        threads: int,
        kv_type: KvType,
        flash_attention: bool,
        most_guesses: int,
    ) -> None:
        """Allocate the cache; see `edge_et.llm.language_model.LanguageModel.new_context`."""
        library = self._library = load_library()
        self._weights = weights  # must outlive the context
        self.shape, self.kv_type = weights.shape, kv_type
        self._context_length = context_length
        self._cached: list[Position] = []
        self._most_guesses = most_guesses
        self._guessed: list[int] = []  # in llama.cpp's cache behind `_cached`, with their logits
        self._logits: NDArray[np.float32] | None = None
        params = library.llama_context_default_params()
        params.n_ctx = context_length
        params.n_batch = params.n_ubatch = _BATCH_POSITIONS
        # The second sequence is for `copy_state`; both share all cells.
        params.n_seq_max, params.kv_unified = 2, True
        params.n_outputs_max = max(params.n_seq_max, 1 + most_guesses)
        params.n_threads = params.n_threads_batch = threads
        params.flash_attn_type = (
            library.LLAMA_FLASH_ATTN_TYPE_ENABLED
            if flash_attention or kv_type == "q8_0"
            else library.LLAMA_FLASH_ATTN_TYPE_DISABLED
        )
        params.type_k = params.type_v = getattr(library, f"GGML_TYPE_{kv_type.upper()}")
        self._context = library.llama_init_from_model(weights.model, params)
        if not self._context:
            raise DecodeError(
                f"no memory for a context of {context_length} tokens{native_log.last_errors()}"
            )
        self._free = weakref.finalize(self, library.llama_free, self._context)
        if weights.adapter is not None:
            adapters = (library.llama_adapter_lora_p_ctypes * 1)(weights.adapter)
            scales = (ctypes.c_float * 1)(1.0)
            if library.llama_set_adapters_lora(self._context, adapters, 1, scales) != 0:
                self.close()
                raise DecodeError(f"the adapter cannot be applied{native_log.last_errors()}")

    @property
    def context_length(self) -> int:
        """Positions that the cache can hold."""
        return self._context_length

    @property
    def cached_positions(self) -> int:
        """Positions that the cache holds."""
        return len(self._cached)

    @property
    def logits(self) -> NDArray[np.float32]:
        """Logits [V] float32 behind the last position, of the ids that the tokenizer knows.

        Raises:
            DecodeError: nothing was evaluated yet.
        """
        if self._logits is None:
            raise DecodeError("there are no logits: nothing was evaluated yet")
        return self._logits

    def evaluate(self, segments: Sequence[Segment]) -> Evaluation:
        """Make the cache hold exactly these segments, and compute the logits behind them.

        What the cache has in common with them from the start is kept, but for a few positions at
        the seam (see `edge_et.llm.kv_positions`), and the rest dropped; only the rest of the
        segments goes through the model. If all of it is there, its end is evaluated again unless
        the logits behind it are still known. The outcome does not depend on what was kept.

        Args:
            segments: the whole prompt, at least one position.

        Returns:
            How many positions were reused and evaluated.

        Raises:
            PromptTooLongError: more positions than the context holds; nothing was changed.
            DecodeError: llama.cpp failed; the cache is empty now and can be used again.
            ClosedError: the context was closed.
        """
        return list(self.steps(segments))[-1]

    def steps(self, segments: Sequence[Segment]) -> Iterator[Evaluation]:
        """Do what `evaluate` does, batch by batch.

        Args:
            segments: as for `evaluate`.

        Yields:
            What was done so far: before each batch, of 256 positions at most, and at the end. The
            cache holds the beginning of the segments if the end is not waited for.

        Raises:
            EdgeETError: as for `evaluate`.
        """
        wanted = positions_of(segments)
        if not wanted:
            raise DecodeError("an empty prompt has nothing to continue")
        shared = self._shared(wanted)
        if self._weights.prefixes is not None:
            shared = self._weights.prefixes.recall(self, segments, shared)
        if shared == len(wanted) == len(self._cached) and self._logits is not None:
            yield Evaluation(reused=shared, evaluated=0)
            return
        keep = restart_at(segments, min(shared, len(wanted) - 1))
        yield from self._replace(segments, wanted, keep, logits=True)

    def feed(self, segments: Sequence[Segment]) -> Iterator[Evaluation]:
        """Evaluate the beginning of a prompt whose end is not known yet.

        Of its last segment whole groups of eight go into the cache, as if the end were known. What
        the cache holds behind them stays if it can. No logits are computed.

        Args:
            segments: the beginning; the last segment may go on.

        Yields:
            As `steps`, of whole groups.

        Raises:
            EdgeETError: as for `evaluate`.
        """
        segments = whole_groups(segments)
        wanted = positions_of(segments)
        shared = self._shared(wanted)
        if shared == len(wanted):
            yield Evaluation(reused=shared, evaluated=0)
        else:
            yield from self._replace(segments, wanted, restart_at(segments, shared), logits=False)

    def append(self, token: int, guesses: Sequence[int] = ()) -> int:
        """Evaluate one token, just written, behind what the cache holds.

        Args:
            token: an id that the tokenizer knows.
            guesses: ids that may be appended next. They are evaluated in the same batch, as far as
                there is room; a guess that comes true is not evaluated again, the others are
                dropped when something else comes. A batch rounds differently: see
                `edge_et.llm.kv_positions`.

        Returns:
            How many tokens were evaluated; 0: this one had been guessed.

        Raises:
            PromptTooLongError: the context is full; nothing was changed.
            DecodeError: llama.cpp failed; the cache is empty now and can be used again.
            ClosedError: the context was closed.
        """
        self._check_open()
        held = len(self._cached)
        if self._guessed[:1] == [token]:
            del self._guessed[0]
            self._cached.append(generated(token))
            self._take_logits()
            return 0
        if held == self._context_length:
            raise PromptTooLongError(held + 1, self._context_length)
        if self._guessed:
            self._truncate(held)
        room = min(self._most_guesses, self._context_length - held - 1)
        tokens = [token, *guesses[:room]]
        self._decode(np.array(tokens, np.int32), [generated(token)], outputs=len(tokens))
        return len(tokens)

    def save(self, positions: Sequence[Position]) -> NDArray[np.uint8] | None:
        """Copy what is held at the first positions, for `restore` in another process.

        Args:
            positions: what they should hold, at least one.

        Returns:
            [n] uint8; None: they hold something else, or the context was closed.
        """
        if not self._free.alive or common_prefix(self._cached, positions) < len(positions):
            return None
        return copy_state(self._context, len(positions))

    def restore(self, positions: Sequence[Position], data: NDArray[np.uint8]) -> bool:
        """Hold exactly what was saved.

        Args:
            positions: what will be held, at most the context's length.
            data: what `save` returned for them, of the same model and settings.

        Returns:
            Whether it is held; otherwise nothing is.

        Raises:
            ClosedError: the context was closed.
        """
        self.clear()
        if not load_state(self._context, data, len(positions)):
            self._forget()
            return False
        self._cached = list(positions)
        return True

    def clear(self) -> None:
        """Forget everything.

        Raises:
            ClosedError: the context was closed.
        """
        self._check_open()
        self._forget()

    def close(self) -> None:
        """Free the cache; may be called again."""
        self._free()

    def _check_open(self) -> None:
        if not self._free.alive:
            raise ClosedError("context")

    def _forget(self) -> None:
        self._cached, self._guessed, self._logits = [], [], None
        library = self._library
        library.llama_memory_clear(library.llama_get_memory(self._context), False)

    def _shared(self, wanted: Sequence[Position]) -> int:
        self._check_open()
        if len(wanted) > self._context_length:
            raise PromptTooLongError(len(wanted), self._context_length)
        return common_prefix(self._cached, wanted)

    def _replace(
        self, segments: Sequence[Segment], wanted: Sequence[Position], keep: int, *, logits: bool
    ) -> Iterator[Evaluation]:
        self._truncate(keep)
        for segment, part in chunks(segments, keep, _BATCH_POSITIONS):
            start = len(self._cached)
            yield Evaluation(reused=keep, evaluated=start - keep)
            held = wanted[start : start + part.stop - part.start]
            outputs = int(logits and start + len(held) == len(wanted))
            if isinstance(segment, TokenSegment):
                self._decode(np.array(segment.ids[part], np.int32), held, outputs)
            else:
                self._decode(segment.image.rows[part], held, outputs)
        yield Evaluation(reused=keep, evaluated=len(wanted) - keep)

    def _truncate(self, keep: int) -> None:
        library = self._library
        memory = library.llama_get_memory(self._context)
        # Told even if nothing has to go: guesses, and an interrupt between a decode and its
        # bookkeeping, leave positions in llama.cpp's cache that are not listed here.
        if not library.llama_memory_seq_rm(memory, 0, keep, -1):
            self._forget()
            raise DecodeError("llama.cpp cannot drop the end of this model's cache")
        del self._cached[keep:]
        self._guessed, self._logits = [], None

    def _decode(
        self,
        inputs: NDArray[np.int32] | NDArray[np.float32],
        held: Sequence[Position],
        outputs: int,
    ) -> None:
        """Evaluate one batch behind what the cache holds.

        Args:
            inputs: token ids [n] int32, or embedding rows [n,D] float32, C-contiguous.
            held: what the positions will hold; those behind them are guesses.
            outputs: behind how many of the last positions logits are wanted; those behind what is
                held are taken at once.
        """
        library = self._library
        are_tokens = inputs.ndim == 1
        start, count = len(self._cached), len(inputs)
        places = np.arange(start, start + count, dtype=np.int32)
        wanted = np.zeros(count, np.int8)
        wanted[count - outputs :] = 1
        batch = library.llama_batch(
            count,
            _pointer(inputs, ctypes.c_int32) if are_tokens else None,
            None if are_tokens else _pointer(inputs, ctypes.c_float),
            _pointer(places, ctypes.c_int32),
            None,  # no sequence ids: everything belongs to sequence 0
            None,
            _pointer(wanted, ctypes.c_int8),
        )
        self._logits = None
        status = library.llama_decode(self._context, batch)
        if status != 0:
            self._forget()
            raise DecodeError(f"llama_decode returned {status}{native_log.last_errors()}")
        self._cached += held
        self._guessed = inputs[len(held) :].tolist()
        if outputs:
            self._take_logits()

    def _take_logits(self) -> None:
        """Copy the logits in front of the first guess; the next decode overwrites them."""
        values = self._library.llama_get_logits_ith(self._context, -1 - len(self._guessed))
        every = np.ctypeslib.as_array(values, shape=(self._weights.vocabulary_size,))
        self._logits = every[: self._weights.token_count].copy()


def _pointer(array: NDArray[Any], kind: Any) -> Any:
    return array.ctypes.data_as(ctypes.POINTER(kind))
