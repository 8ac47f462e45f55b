"""Models and contexts of an engine.

In: a GGUF; batches of token ids or embedding rows. Out: an opened model; logits; what a context
holds, as bytes. What positions mean, and which of them are kept, is not known here; nor which
engine it is, but for what `edge_et.llm.engines` says of it.
"""

from collections.abc import Container
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_et.cancellation import CancelToken
from edge_et.errors import CancelledError, DecodeError, EngineError, ModelFileError
from edge_et.llm.engines import ABORTED, Engine
from edge_et.llm.kv_protocol import KVCacheSettings
from edge_et.llm.model_shape import ModelShape
from edge_et.llm.places import End
from edge_et.native_handle import NativeHandle
from edge_et.native_threads import call_undisturbed, compute
from edge_et.threads import SpareThreads

# Everything is evaluated in the sequence 0. This one is only for `LlamaContext.copy_state`.
COPIED = 1

_FEW_ROWS = 16
"""Fewer than these take as many threads as one: there is as little to do between two barriers."""


class LlamaModel:
    """The weights of a GGUF in memory, and the LoRA adapter that goes with them.

    Attributes:
        embedding_width: D.
        vocabulary_size: rows of the embedding table, V and padding.
        is_recurrent: whether it keeps a state of all positions; see `RecurrentContext`.
        window: positions that most layers see, see `WindowedContext`; 0: all of them do.
        is_mrope: whether rows of an image stand in a grid; see `edge_et.llm.places`.
        engine: what opened it.
        library: the engine's.
        handle: the library's model, for contexts over it.
        adapter: the library's adapter; None: there is none.
    """

    def __init__(
        self,
        path: Path,
        engine: Engine,
        *,
        architecture: str,
        vocabulary_size: int,
        mapped: bool = False,
    ) -> None:
        """Open the file; the tokens in it are not read.

        Args:
            path: the file.
            engine: opens it.
            architecture: its ``general.architecture``.
            vocabulary_size: rows of the embedding table.
            mapped: whether the weights stay in the file, whatever the engine prefers.

        Raises:
            ModelFileError: the engine cannot open it.
            EngineError: the engine cannot be loaded.
        """
        self.engine, library = engine, engine.open()
        self.library = library

        def load() -> Any:
            model = library.load_model(path, architecture, vocabulary_size, mapped=mapped)
            if not model:
                reason = f"{engine.title} cannot open it{library.log.last_errors()}"
                raise ModelFileError(path, reason)
            return model

        self.handle = NativeHandle("language model", load, library.free_model)
        self.adapter: Any = None
        self._path = path
        with self.handle.lock:
            model = self.handle.value
            self.embedding_width = library.embedding_width(model)
            self.is_recurrent = library.is_recurrent(model)
            self.window = library.window(model)
            self.is_mrope = library.is_mrope(model)
            self.vocabulary_size = library.vocabulary_size(model)

    @property
    def is_open(self) -> bool:
        """Whether it was not closed yet."""
        return self.handle.is_open

    def metadata(self, key: str) -> str:
        """Return a value of the GGUF's metadata as text; empty where there is none."""
        with self.handle.lock:
            return self.library.metadata(self.handle.value, key)

    def load_adapter(self, path: Path) -> None:
        """Load the LoRA that contexts over this model apply with scale 1.

        Args:
            path: GGUF file.

        Raises:
            ModelFileError: it cannot be opened, or does not fit this model.
            EngineError: the engine would apply it wrongly.
        """
        if not self.engine.applies_adapters:
            raise EngineError(
                self.engine.name,
                f"the engine {self.engine.name!r} computes wrongly with the adapter {path}: merge "
                "it into the weights, or choose engine='llama'",
            )
        library = self.library
        with self.handle.lock:  # the adapter is freed together with the model
            model = self.handle.value
            self.adapter = call_undisturbed(lambda: library.load_adapter(model, path))
        if not self.adapter:
            reason = f"it does not fit {self._path.name}{library.log.last_errors()}"
            raise ModelFileError(path, reason)

    def close(self) -> None:
        """Free the weights; contexts over them have to be closed before. May be called again."""
        self.handle.close()


class LlamaContext:
    """One context over a model: batches in, logits out.

    Threads may take turns. A method raises a `ClosedError` after `close`, and a `ForkedError` in a
    process that was forked from the one that made the context.
    """

    def __init__(
        self,
        model: LlamaModel,
        shape: ModelShape,
        settings: KVCacheSettings,
        batch_positions: int,
    ) -> None:
        """Allocate the cache.

        Args:
            model: applied with its adapter, if it has one; kept alive by this object.
            shape: the model's sizes.
            settings: length, threads, number type, attention.
            batch_positions: most rows of a batch.

        Raises:
            DecodeError: there is not enough memory, or the model has no such cache.
            EngineError: the engine computes with no such number type.
        """
        if settings.kv_type not in model.engine.kv_types:
            raise model.engine.has_no(settings.kv_type)
        shape.check_blocks(settings.kv_type)
        library = self._library = model.library
        self._pairs_rows, self._partners = library.pairs_rows(shape), 0
        if self._pairs_rows:  # which needs room for one more
            settings = replace(settings, context_length=settings.context_length + 1)
            batch_positions = max(batch_positions, 2)
        self._cancel = CancelToken()
        # Flash attention's sums have as many parts as there are threads.
        self._spare_threads = (
            None if settings.has_flash_attention else SpareThreads(settings.threads)
        )
        self._is_mrope = model.is_mrope
        self._embedding_width = model.embedding_width
        self._vocabulary_size = model.vocabulary_size

        def make() -> Any:
            with model.handle.lock:
                context = library.new_context(model.handle.value, settings, batch_positions)
            if not context:
                raise DecodeError(
                    f"no memory for a context of {settings.context_length} tokens"
                    f"{library.log.last_errors()}"
                )
            return context

        self._handle = NativeHandle("KV cache", make, library.free_context, over=model.handle)
        if model.adapter is not None:

            def apply_adapter() -> bool:
                with self._handle.lock:
                    return library.apply_adapter(self._handle.value, model.adapter)

            if not call_undisturbed(apply_adapter):
                self.close()
                raise DecodeError(f"the adapter cannot be applied{library.log.last_errors()}")

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
                self._library.obey(self._handle.value, cancel.address)
                del before

        if self._handle.is_open:
            compute(set_callback)  # which is logged

    def decode(
        self,
        inputs: NDArray[np.int32] | NDArray[np.float32],
        places: NDArray[np.int32],
        outputs: int,
    ) -> None:
        """Evaluate one batch.

        Args:
            inputs: token ids [n] int32, or embedding rows [n,D] float32.
            places: where they stand, [n] int32; or [3,n], of rows of an image with a grid.
            outputs: behind how many of the last rows logits are wanted.

        Raises:
            CancelledError: the token that is obeyed was cancelled; what was held before is.
            DecodeError: the engine failed; the context may hold anything then.
        """
        are_tokens = inputs.ndim == 1
        if not are_tokens and inputs.shape[1:] != (self._embedding_width,):
            expected = f"expected [n,{self._embedding_width}]"
            raise DecodeError(f"embedding rows of shape {list(inputs.shape)}, {expected}")
        # The engine is told where they begin, and takes the rest for granted.
        inputs = np.require(inputs, np.int32 if are_tokens else np.float32, ["C", "A"])
        count = len(inputs)
        if not are_tokens and self._is_mrope:
            places = np.concatenate([np.broadcast_to(places, (3, count)), np.zeros((1, count))])
        elif places.ndim != 1:
            raise DecodeError("the image has a grid, which the places of this model have not")
        places = np.ascontiguousarray(places, np.int32)
        wanted = np.zeros(count, np.int8)
        wanted[count - outputs :] = 1
        if are_tokens and not 0 <= inputs.min() <= inputs.max() < self._vocabulary_size:
            raise DecodeError(f"token ids beyond the model's {self._vocabulary_size}")
        is_paired = self._pairs_rows and count == 1
        if is_paired:
            inputs = inputs[[0, 0]]
            places, wanted = np.append(places, places + 1), np.repeat(wanted, 2)
        elif self._pairs_rows and outputs:  # only rows with logits go through the last layer
            wanted[-2] = 1
        self._partners = int(is_paired)
        cancel = self._cancel

        def evaluate() -> int:
            # By the thread that computes: whoever waits for it may be interrupted and go on.
            with self._handle.lock, self._library.log.expecting(cancel):
                context = self._handle.value
                if (spare := self._spare_threads) is not None:
                    threads = spare.for_tokens()
                    of_batches = threads if count < _FEW_ROWS else spare.most
                    self._library.set_threads(context, threads, of_batches)
                status = self._library.decode(context, inputs, places, wanted)
                if is_paired:
                    self._library.truncate(context, 0, int(places[1]))
                return status

        status = compute(evaluate, stop=cancel.cancel)
        is_untold = status == 0 and not self._library.tells_of_aborting and cancel.is_cancelled
        if status == ABORTED or is_untold:
            raise CancelledError
        if status != 0:
            raise DecodeError(
                f"a batch failed with status {status}{self._library.log.last_errors()}"
            )

    def logits(self, row: int, count: int) -> NDArray[np.float32]:
        """Copy the logits behind a row of the last batch.

        Args:
            row: counted among the outputs, from the last one at -1.
            count: of how many ids, from the first one, at most the model's vocabulary.

        Returns:
            [count] float32.
        """
        with self._handle.lock:
            row -= self._partners
            return self._library.logits(self._handle.value, row, count).copy()

    def truncate(self, end: End) -> int | None:
        """Drop all positions but the first ones.

        Args:
            end: of those that stay, at most those that are held.

        Returns:
            How many did, which is `reach(end.count)`; None: the model's cache cannot drop its end.
        """
        with self._handle.lock:
            is_cut = self._library.truncate(self._handle.value, 0, end.following)
        return end.count if is_cut else None

    def reach(self, keep: int, among: Container[int] | None = None) -> int:
        """Return how many positions `truncate` can keep, `keep` or less.

        Args:
            keep: at most so many.
            among: one of these numbers, or 0; None: any. Where every number can be kept, it is not
                asked.
        """
        return keep

    def mark(self, end: End) -> None:
        """Let `truncate` come back to the present end, where it could not otherwise.

        Args:
            end: of what is held.
        """

    def clear(self, *, numbers: bool = False) -> None:
        """Drop all positions.

        Args:
            numbers: overwrite what they held, too. Attention reads dropped positions with a weight
                of 0, so they do not matter, unless they are not finite.
        """
        with self._handle.lock:
            self._library.clear(self._handle.value, numbers=numbers)

    def last_place(self) -> int:
        """Return the place of the last position that is held; -1: none is."""
        with self._handle.lock:
            return self._library.last_position(self._handle.value, 0)

    def copy_state(self, end: End) -> NDArray[np.uint8] | None:
        """Copy what is held at the first positions, whatever lies behind them.

        An engine copies a whole sequence or nothing. So the positions are made a sequence of their
        own, which shares the cells and touches no numbers.

        Args:
            end: of the positions, at least one.

        Returns:
            [n] uint8, for `load_state`; None: the engine failed.
        """
        library = self._library
        with self._handle.lock:
            context = self._handle.value
            library.copy_sequence(context, 0, COPIED, end.following)
            try:
                if not self._complete_copy(end):
                    return None
                data = np.empty(library.state_bytes(context, COPIED), np.uint8)
                size = library.read_state(context, COPIED, data)
            finally:
                library.truncate(context, COPIED, 0)
        return data if size == len(data) else None

    def _complete_copy(self, end: End) -> bool:
        """Make right what was copied to the sequence `COPIED`; return whether it is."""
        return True

    def load_state(self, data: NDArray[np.uint8], end: End) -> bool:
        """Make an empty context hold what `copy_state` copied.

        Args:
            data: exactly what was copied, over the same weights and with the same number types:
                engines are not made for damaged data.
            end: of the positions that it has.

        Returns:
            Whether it does; otherwise it may hold anything.
        """
        with self._handle.lock:
            size = self._library.write_state(self._handle.value, 0, data)
        return bool(size == len(data) and self.last_place() == end.last)

    def close(self) -> None:
        """Free it; may be called again."""
        self._handle.close()
