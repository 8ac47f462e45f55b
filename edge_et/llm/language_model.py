"""Language models: llama.cpp weights, over which there may be any number of KV caches.

In: a GGUF, and a LoRA that goes with it. Out: KV caches.
"""

import weakref
from pathlib import Path

from edge_et.bundle import LanguageModelSpec
from edge_et.errors import ClosedError, ModelFileError
from edge_et.llm.image_prompt_cache import ImagePromptCache
from edge_et.llm.kv_cache import LlamaKVCache
from edge_et.llm.kv_protocol import KVCacheSettings
from edge_et.llm.llama_cpp import LlamaModel
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
        image_prompt_cache: ImagePromptCache | None = None,
    ) -> None:
        """Map the weights into memory.

        Args:
            weights: GGUF file.
            spec: what the manifest says about it.
            adapter: LoRA as a GGUF file, applied with scale 1.
            token_count: ids that the tokenizer knows; rows behind them are padding, and their
                logits are never shown to anyone.
            image_prompt_cache: keeps what KV caches hold of images; None: nobody does.

        Raises:
            ModelFileError: a file cannot be opened, or is not what the manifest says.
        """
        self.weights = weights
        self.adapter = adapter
        self._native = LlamaModel(weights)
        self._kv_caches: weakref.WeakSet[LlamaKVCache] = weakref.WeakSet()
        self._token_count = token_count
        self._image_prompt_cache = image_prompt_cache
        try:
            self._check(weights, spec)
            self.shape = ModelShape.of(self._native.metadata, weights)
            if adapter is not None:
                self._native.load_adapter(adapter)
        except ModelFileError:
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
        found = {
            "architecture": self._native.metadata("general.architecture"),
            "embedding_width": self._native.embedding_width,
            "vocabulary_size": self._native.vocabulary_size,
        }
        for name, value in found.items():
            expected = getattr(spec, name)
            if value != expected:
                raise ModelFileError(
                    weights, f"its {name} is {value}, the manifest says {expected}"
                )
