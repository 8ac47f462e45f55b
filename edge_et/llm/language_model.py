"""Language models: llama.cpp weights, over which there may be any number of KV caches.

In: a GGUF, and a LoRA that goes with it. Out: contexts.
"""

import functools
import os
import weakref
from pathlib import Path

from edge_et.bundle import LanguageModelSpec
from edge_et.errors import ClosedError, ModelFileError
from edge_et.llm.image_prompt_cache import ImagePrefixes
from edge_et.llm.kv_cache import Context
from edge_et.llm.llama_cpp import load_library, native_log, open_model, read_metadata
from edge_et.llm.model_shape import DecoderShape, KvType


class LanguageModel:
    """Weights and, if there is one, the LoRA adapter that goes with them."""

    def __init__(
        self,
        weights: Path,
        spec: LanguageModelSpec,
        *,
        adapter: Path | None,
        token_count: int,
        prefixes: ImagePrefixes | None = None,
    ) -> None:
        """Map the weights into memory.

        Args:
            weights: GGUF file.
            spec: what the manifest says about it.
            adapter: LoRA as a GGUF file, applied with scale 1.
            token_count: ids that the tokenizer knows; rows behind them are padding, and their
                logits are never shown to anyone.
            prefixes: keep on disk what contexts hold of images; None: nobody does.

        Raises:
            ModelFileError: a file cannot be opened, or is not what the manifest says.
        """
        library = load_library()
        self.model = open_model(weights)
        self._free = weakref.finalize(self, library.llama_model_free, self.model)
        self._contexts: weakref.WeakSet[Context] = weakref.WeakSet()
        self.embedding_width: int = library.llama_model_n_embd(self.model)
        self.vocabulary_size: int = library.llama_vocab_n_tokens(
            library.llama_model_get_vocab(self.model)
        )
        self.token_count = token_count
        self.prefixes = prefixes
        self.adapter = None
        try:
            self._check(weights, spec)
            self.shape = DecoderShape.of(functools.partial(read_metadata, self.model), weights)
            if adapter is not None:
                # Freed together with the model.
                self.adapter = library.llama_adapter_lora_init(self.model, os.fsencode(adapter))
                if not self.adapter:
                    reason = f"it does not fit {weights.name}{native_log.last_errors()}"
                    raise ModelFileError(adapter, reason)
        except ModelFileError:
            self.close()
            raise

    def new_context(
        self,
        context_length: int,
        threads: int,
        kv_type: KvType,
        *,
        flash_attention: bool = False,
        most_guesses: int = 0,
    ) -> "Context":
        """Make an empty context over these weights.

        Args:
            context_length: positions of the cache, at least 1.
            threads: threads for prefill and decode, at least 1.
            kv_type: number type of the cache.
            flash_attention: whether attention never makes its whole matrix; q8_0 always has it. On
                a CPU it rounds keys and values to F16 and, for few rows, sums in F16: logits of
                SmolLM2-135M (F16 weights) move by 0.27, by 0.03 with an F16 cache alone.
            most_guesses: guesses that `Context.append` evaluates; each takes memory for its logits.

        Raises:
            DecodeError: there is not enough memory, or the model has no such cache.
            ClosedError: the model was closed.
        """
        if not self._free.alive:
            raise ClosedError("language model")
        context = Context(self, context_length, threads, kv_type, flash_attention, most_guesses)
        self._contexts.add(context)
        return context

    def close(self) -> None:
        """Free the weights, and the contexts over them before; may be called again."""
        for context in list(self._contexts):
            context.close()
        self._free()

    def _check(self, weights: Path, spec: LanguageModelSpec) -> None:
        found = {
            "architecture": read_metadata(self.model, "general.architecture"),
            "embedding_width": self.embedding_width,
            "vocabulary_size": self.vocabulary_size,
        }
        for name, value in found.items():
            expected = getattr(spec, name)
            if value != expected:
                raise ModelFileError(
                    weights, f"its {name} is {value}, the manifest says {expected}"
                )
