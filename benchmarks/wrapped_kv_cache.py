"""A language model whose KV caches are wrapped, to force tokens or to record calls."""

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from edge_et.cancellation import CancelToken
from edge_et.llm import KVCache, KVCacheSettings, ModelShape, PrefillProgress, Segment
from edge_et.options import KvType
from edge_et.pipeline import Model


class WrappedKVCache:
    """A `KVCache` that passes every call on to another; subclasses change some of them."""

    def __init__(self, inner: KVCache) -> None:
        """Wrap a KV cache.

        Args:
            inner: does the work; closed together with this one.
        """
        self._inner = inner

    @property
    def shape(self) -> ModelShape:
        """Sizes of the model."""
        return self._inner.shape

    @property
    def kv_type(self) -> KvType:
        """Number type of the cache."""
        return self._inner.kv_type

    @property
    def context_length(self) -> int:
        """Positions that the cache can hold."""
        return self._inner.context_length

    @property
    def max_draft_tokens(self) -> int:
        """Most draft tokens that `decode` evaluates."""
        return self._inner.max_draft_tokens

    @property
    def logits(self) -> NDArray[np.float32]:
        """Logits [V] float32 behind the last position."""
        return self._inner.logits

    def prefill_steps(self, segments: Sequence[Segment]) -> Iterator[PrefillProgress]:
        """Make the cache hold exactly these segments; tell before each batch how far it is."""
        return self._inner.prefill_steps(segments)

    def decode(self, token: int, draft: Sequence[int] = ()) -> int:
        """Evaluate one token, just written, behind what the cache holds."""
        return self._inner.decode(token, draft)

    def keep_image(self, segments: Sequence[Segment], beside: Iterable[Sequence[Segment]]) -> None:
        """Copy what is held of a prompt's image, so that it comes back when it was displaced."""
        self._inner.keep_image(segments, beside)

    def missing(self, segments: Sequence[Segment]) -> int:
        """Return how many positions of a prompt would have to be evaluated, about."""
        return self._inner.missing(segments)

    def rewind(self, positions: int) -> None:
        """Drop what was evaluated behind the first positions."""
        self._inner.rewind(positions)

    def obey(self, cancel: CancelToken) -> None:
        """Let evaluation end early from now on."""
        self._inner.obey(cancel)

    def clear(self) -> None:
        """Forget everything."""
        self._inner.clear()

    def close(self) -> None:
        """Free what is held; may be called again."""
        self._inner.close()


class WrappedModel:
    """A model that wraps each of its KV caches; see `edge_et.pipeline.Model`."""

    def __init__(self, inner: Model, wrap: Callable[[KVCache], KVCache]) -> None:
        """Wrap a model.

        Args:
            inner: closed together with this one.
            wrap: is given each new KV cache, and returns what the pipeline gets.
        """
        self._inner = inner
        self._wrap = wrap

    def new_kv_cache(self, settings: KVCacheSettings) -> KVCache:
        """Make a KV cache and wrap it."""
        return self._wrap(self._inner.new_kv_cache(settings))

    def rest(self) -> None:
        """Do as the model does."""
        self._inner.rest()

    def close(self) -> None:
        """Free the model and its KV caches."""
        self._inner.close()
