"""Contexts of models whose attention sees a window in most layers: Gemma 3.

In: batches, as for any context. Out: the same. llama.cpp keeps, of such layers, what the next
position sees, and takes the cells of what lies before it for others when it looks for room. So an
earlier place can be gone back to only while all is there that its window sees. A copy of a sequence
holds the window alone, so that keys and values would come to lie in other cells, which are summed
up in another order: none is made of what is longer than the window.
"""

from collections.abc import Container

import numpy as np
from numpy.typing import NDArray

from edge_et.llm.kv_protocol import KVCacheSettings
from edge_et.llm.llama import LlamaContext, LlamaModel
from edge_et.llm.model_shape import ModelShape
from edge_et.llm.places import End


class WindowedContext(LlamaContext):
    """A context over a model with sliding windows; it forgets rather than see a part of one."""

    def __init__(
        self,
        model: LlamaModel,
        shape: ModelShape,
        settings: KVCacheSettings,
        batch_positions: int,
    ) -> None:
        """Allocate the cache; see `LlamaContext`.

        Args:
            model: applied with its adapter.
            shape: the model's sizes.
            settings: length, threads, number type, attention.
            batch_positions: most rows of a batch.
        """
        super().__init__(model, shape, settings, batch_positions)
        self._window = model.window

    def reach(self, keep: int, among: Container[int] | None = None) -> int:
        """Return `keep`, or 0 where what its window sees is not there any more.

        Args:
            keep: at most so many positions; never more than are held.
            among: not asked.
        """
        with self._handle.lock:
            context = self._handle.value
            first = self._library.first_position(context, 0)
            is_all = self._library.last_position(context, 0) < keep
        return keep if is_all or first <= max(0, keep - self._window) else 0

    def truncate(self, end: End) -> int | None:
        """Drop all positions but the first ones, or all; see `LlamaContext.truncate`.

        Args:
            end: of those that stay.
        """
        if end.count and not self.reach(end.count):
            self.clear()
            return 0
        return super().truncate(end)

    def copy_state(self, end: End) -> NDArray[np.uint8] | None:
        """Copy what is held at the first positions, if a window holds all of it.

        Args:
            end: of the positions, at least one.

        Returns:
            [n] uint8, for `load_state`; None: they are more than that, or the engine failed.
        """
        if end.count > self._window or not self.reach(end.count):
            return None
        return super().copy_state(end)
