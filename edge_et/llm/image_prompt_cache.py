"""Image prefixes: what a KV cache holds of a prompt up to the end of its image, kept elsewhere.

In: a prompt, and a cache that lacks its image. Out: the cache with it, if a copy in memory or a
snapshot on disk has it; otherwise a snapshot is asked for. Both end where a segment ends, and
evaluation may restart there (see `edge_et.llm.kv_positions`), so that a cache filled from them goes
on to the same bits. No engine is known here.

Copies in memory are made where something else takes a picture's place in the cache: another picture
of the question, or a prompt without any. A caller who asks for neither pays neither bytes nor time.
"""

import functools
import hashlib
from collections.abc import Hashable, Iterable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edge_et.bundle import LanguageModelSpec
from edge_et.llm.kv_positions import Position, positions_of
from edge_et.llm.model_shape import ModelShape
from edge_et.llm.prefix_memory import PrefixMemory
from edge_et.llm.prompt import ImageSegment, Segment
from edge_et.options import KvType
from edge_et.store import Snapshots


class PrefixCache(Protocol):
    """What is needed of a KV cache; `edge_et.llm.kv_cache.Context` is one."""

    @property
    def shape(self) -> ModelShape:
        """Sizes of the model."""

    @property
    def kv_type(self) -> KvType:
        """Number type of the cache."""

    @property
    def engine(self) -> str:
        """What evaluates it, its version and build: another reads nothing that this one saved."""

    @property
    def context_length(self) -> int:
        """Positions that the cache can hold."""

    def save(self, positions: Sequence[Position]) -> NDArray[np.uint8] | None:
        """Copy what is held at the first positions, for `restore` in another process.

        Args:
            positions: what they should hold, at least one.

        Returns:
            [n] uint8; None: they hold something else.
        """

    def restore(self, positions: Sequence[Position], data: NDArray[np.uint8]) -> bool:
        """Hold exactly what was saved.

        Args:
            positions: what will be held, at most the context's length.
            data: what `save` returned for them, of the same model and settings.

        Returns:
            Whether it is held; otherwise nothing is.
        """


class ImagePromptCache:
    """The copies and snapshots of one model's image prefixes."""

    def __init__(
        self, snapshots: Snapshots | None, spec: LanguageModelSpec, memory_bytes: int = 0
    ) -> None:
        """Touch nothing yet.

        Args:
            snapshots: hold what is kept on disk; None: nothing is.
            spec: what the manifest says about the model.
            memory_bytes: most bytes of the copies in memory; 0 keeps none.
        """
        self._snapshots = snapshots
        self._weights = spec.weights.sha256
        self._adapter = "" if spec.adapter is None else spec.adapter.sha256
        self._memory = PrefixMemory(memory_bytes)

    def recall(self, cache: PrefixCache, segments: Sequence[Segment], shared: int) -> int:
        """Fill a cache up to the end of a prompt's last image, or ask for a snapshot of that.

        Args:
            cache: will be made to hold the segments.
            segments: the whole prompt.
            shared: positions that the cache has in common with it.

        Returns:
            Positions that it has in common with it now.
        """
        prefix = _up_to_image(segments)
        positions = positions_of(prefix)
        if len(positions) <= shared:
            return shared
        memory_key = _memory_key(cache, prefix)
        data = self._memory.get(memory_key)
        if data is not None:
            if cache.restore(positions, data):
                return len(positions)
            self._memory.drop(memory_key)
            shared = 0
        if self._snapshots is None:
            return shared
        store = self._snapshots.store
        size_bytes = cache.shape.copy_bytes(len(positions), cache.kv_type)
        if not store.accepts(size_bytes):
            return shared
        key = self._snapshots.key(
            "kv",
            weights=self._weights,
            adapter=self._adapter,
            engine=cache.engine,
            cache=f"{cache.kv_type} {cache.context_length}",
            content=_digest(prefix),
        )
        data = store.read(key)
        if data is not None:
            if cache.restore(positions, data):
                return len(positions)
            store.drop(key)
            shared = 0
        self._snapshots.later(key, functools.partial(self._copy, cache, memory_key, positions))
        return shared

    def keep(
        self, cache: PrefixCache, segments: Sequence[Segment], beside: Iterable[Sequence[Segment]]
    ) -> None:
        """Copy what a cache holds up to the end of a prompt's last image, if there is room.

        Args:
            cache: may hold it.
            segments: the whole prompt.
            beside: prompts whose copies stay.
        """
        prefix = _up_to_image(segments)
        key = _memory_key(cache, prefix)
        if not prefix or self._memory.get(key) is not None:
            return
        positions = positions_of(prefix)
        staying = {_memory_key(cache, _up_to_image(other)) for other in beside}
        size_bytes = cache.shape.copy_bytes(len(positions), cache.kv_type)
        if self._memory.make_room(size_bytes, staying):
            data = cache.save(positions)
            if data is not None:
                self._memory.put(key, data, staying)

    def copied(self, cache: PrefixCache, segments: Sequence[Segment]) -> int:
        """Return how many positions of a prompt a copy in memory would spare a cache."""
        prefix = _up_to_image(segments)
        copy = self._memory.get(_memory_key(cache, prefix))
        return 0 if copy is None else sum(map(len, prefix))

    def clear(self) -> None:
        """Forget the copies in memory."""
        self._memory.clear()

    def _copy(
        self, cache: PrefixCache, memory_key: Hashable, positions: Sequence[Position]
    ) -> NDArray[np.uint8] | None:
        """Return what a snapshot shall hold, also where another picture has displaced it."""
        copied = self._memory.get(memory_key)
        return cache.save(positions) if copied is None else copied


def _up_to_image(segments: Sequence[Segment]) -> Sequence[Segment]:
    """Return a prompt up to its last image; nothing where it has none."""
    images = [i for i, segment in enumerate(segments) if isinstance(segment, ImageSegment)]
    return segments[: images[-1] + 1] if images else ()


def _memory_key(cache: PrefixCache, prefix: Sequence[Segment]) -> Hashable:
    """Identify a prefix as the cache itself does: an image by its digest."""
    content = tuple(
        (segment.image.digest, len(segment)) if isinstance(segment, ImageSegment) else segment
        for segment in prefix
    )
    return cache.engine, cache.kv_type, cache.context_length, content


def _digest(segments: Sequence[Segment]) -> str:
    """Identify segments by their content; an image's own digest is what its maker says."""
    digest = hashlib.sha256()
    for segment in segments:
        if isinstance(segment, ImageSegment):
            rows = segment.image.rows
            digest.update(f"image {rows.shape}".encode())
            digest.update(np.ascontiguousarray(rows).data)
        else:
            digest.update(f"tokens {segment.ids} {segment.generated}".encode())
    return digest.hexdigest()
