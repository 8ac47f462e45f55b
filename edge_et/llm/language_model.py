"""Language models: weights that an engine opened, over which there may be any number of KV caches.

In: a GGUF, and a LoRA that goes with it. Out: KV caches.
"""

import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_et.bundle import LanguageModelSpec, read_gguf
from edge_et.errors import (
    ClosedError,
    EngineError,
    ModelFileError,
    UnreadableFileError,
)
from edge_et.llm.engines import Engine, default_engine
from edge_et.llm.image_prompt_cache import ImagePromptCache
from edge_et.llm.kv_cache import LlamaKVCache
from edge_et.llm.kv_protocol import KVCacheSettings
from edge_et.llm.llama import LlamaContext, LlamaModel
from edge_et.llm.memory import drop_pages
from edge_et.llm.model_shape import ModelShape


class LanguageModel:
    """Weights and, if there is one, the LoRA adapter that goes with them.

    Attributes:
        weights: file of the weights.
        adapter: file of the LoRA; None: there is none, or the weights hold it.
    """

    def __init__(
        self,
        weights: Path,
        spec: LanguageModelSpec,
        *,
        adapter: Path | None,
        token_count: int,
        engine: Engine | None = None,
        image_prompt_cache: ImagePromptCache | None = None,
        mapped: bool = False,
    ) -> None:
        """Read the weights into memory, or map them.

        Args:
            weights: GGUF file.
            spec: what the manifest says about it.
            adapter: LoRA as a GGUF file, applied with scale 1.
            token_count: ids that the tokenizer knows; rows behind them are padding, and their
                logits are never shown to anyone.
            engine: evaluates it; None: one that is installed, the reference first.
            image_prompt_cache: keeps what KV caches hold of images; None: nobody does.
            mapped: whether the weights stay in the file, of which the system can take pages back.
                They are not laid out for the processor then, which may round differently.

        Raises:
            ModelFileError: a file cannot be opened, or is not what the manifest says.
            EngineError: the engine is not installed, or cannot be loaded.
        """
        self.weights = weights
        self.adapter = adapter
        self.engine = engine or default_engine()
        try:
            self._native = LlamaModel(
                weights,
                self.engine,
                architecture=spec.architecture,
                vocabulary_size=spec.vocabulary_size,
                mapped=mapped,
            )
        except ModelFileError:
            _compare_with_head(weights, spec)  # which tells more
            raise
        self._kv_caches: weakref.WeakSet[LlamaKVCache] = weakref.WeakSet()
        self._token_count = token_count
        self._image_prompt_cache = image_prompt_cache
        try:
            self._check(weights, spec)
            self.shape = ModelShape.of(self._native.metadata, weights)
            if adapter is not None:
                self._native.load_adapter(adapter)
        except (EngineError, ModelFileError):
            self.close()
            raise

    def new_kv_cache(self, settings: KVCacheSettings) -> LlamaKVCache:
        """Make an empty KV cache over these weights.

        Args:
            settings: its length, threads, number type and attention.

        Raises:
            DecodeError: there is not enough memory, or the model has no such cache.
            ClosedError: the model was closed.
        """
        if not self._native.is_open:
            raise ClosedError("language model")
        kv_cache = LlamaKVCache(
            self._native, self.shape, self._token_count, settings, self._image_prompt_cache
        )
        self._kv_caches.add(kv_cache)
        return kv_cache

    def all_logits(
        self, ids: NDArray[np.int32], settings: KVCacheSettings, *, batch_positions: int
    ) -> NDArray[np.float32]:
        """Compute the logits behind each of some tokens, to compare them with other ones.

        Args:
            ids: [n] int32, at most as many as the settings' context holds.
            settings: of the cache that is made for it.
            batch_positions: how many are evaluated at once.

        Returns:
            [n, V] float32, padding rows of the vocabulary included.

        Raises:
            DecodeError: there is not enough memory, the model has no such cache, or the evaluation
                failed.
            ClosedError: the model was closed.
        """
        settings = replace(settings, max_draft_tokens=batch_positions - 1)
        logits = np.empty((len(ids), self._native.vocabulary_size), np.float32)
        context = LlamaContext(self._native, self.shape, settings, batch_positions)
        try:
            for start in range(0, len(ids), batch_positions):
                batch = ids[start : start + batch_positions]
                places = np.arange(start, start + len(batch), dtype=np.int32)
                context.decode(batch, places, len(batch))
                for row in range(len(batch)):
                    logits[start + row] = context.logits(row - len(batch), logits.shape[1])
        finally:
            context.close()
        return logits

    def rest(self) -> None:
        """Give back the memory of mapped weights; they are read again when they are needed."""
        for file in (self.weights, self.adapter):
            if file is not None:
                drop_pages(file)

    def close(self) -> None:
        """Free the weights, and the KV caches over them before; may be called again."""
        for kv_cache in list(self._kv_caches):
            kv_cache.close()
        self._native.close()

    def _check(self, weights: Path, spec: LanguageModelSpec) -> None:
        if self._native.metadata("split.count") not in ("", "1"):
            raise ModelFileError(
                weights, "it is a part of a model in several files, which nobody has verified"
            )
        _compare(weights, "embedding_width", self._native.embedding_width, spec)
        _compare(weights, "architecture", self._native.metadata("general.architecture"), spec)


def _compare_with_head(weights: Path, spec: LanguageModelSpec) -> None:
    """Look for what the engine was told wrongly of a file that it could not open.

    Raises:
        ModelFileError: the file is not what the manifest says.
    """
    try:
        head = read_gguf(weights)
    except (ModelFileError, UnreadableFileError):  # of which the engine told what it saw
        return
    _compare(weights, "architecture", head.values.get("general.architecture"), spec)
    for tensor in head.tensors:
        if tensor.name == "token_embd.weight":
            _compare(weights, "vocabulary_size", tensor.shape[0], spec)


def _compare(weights: Path, name: str, found: object, spec: LanguageModelSpec) -> None:
    expected = getattr(spec, name)
    if found != expected:
        raise ModelFileError(weights, f"its {name} is {found}, the manifest says {expected}")
