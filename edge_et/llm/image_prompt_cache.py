"""Image prefixes: what a KV cache holds of a prompt up to the end of its image, kept on disk.

In: a prompt, and a cache that lacks its image. Out: the cache with it, if a snapshot has it;
otherwise one is asked for. A snapshot ends where a segment ends, and evaluation may restart there
(see `edge_et.llm.kv_positions`), so that a cache filled from it goes on to the same bits. llama.cpp
is not known here.
"""

import functools
import hashlib
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edge_et.bundle import LanguageModelSpec
from edge_et.llm.kv_positions import Position, positions_of
from edge_et.llm.model_shape import ModelShape
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
    """The snapshots of one model's image prefixes."""

    def __init__(self, snapshots: Snapshots, spec: LanguageModelSpec) -> None:
        """Touch nothing yet.

        Args:
            snapshots: hold them.
            spec: what the manifest says about the model.
        """
        self._snapshots = snapshots
        self._weights = spec.weights.sha256
        self._adapter = "" if spec.adapter is None else spec.adapter.sha256

    def recall(self, cache: PrefixCache, segments: Sequence[Segment], shared: int) -> int:
        """Fill a cache up to the end of a prompt's last image, or ask for a snapshot of that.

        Args:
            cache: will be made to hold the segments.
            segments: the whole prompt.
            shared: positions that the cache has in common with it.

        Returns:
            Positions that it has in common with it now.
        """
        images = [i for i, segment in enumerate(segments) if isinstance(segment, ImageSegment)]
        if not images:
            return shared
        prefix = segments[: images[-1] + 1]
        positions = positions_of(prefix)
        store = self._snapshots.store
        size_bytes = cache.shape.kv_bytes(len(positions), cache.kv_type)
        if len(positions) <= shared or not store.accepts(size_bytes):
            return shared
        key = self._snapshots.key(
            "kv",
            weights=self._weights,
            adapter=self._adapter,
            cache=f"{cache.kv_type} {cache.context_length}",
            content=_digest(prefix),
        )
        data = store.read(key)
        if data is not None:
            if cache.restore(positions, data):
                return len(positions)
            store.drop(key)
            shared = 0
        self._snapshots.later(key, functools.partial(cache.save, positions))
        return shared


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
