"""Copies in memory of what a KV cache holds, so that what was displaced comes back.

In: bytes under a key that tells what they are of. Out: the same bytes, or nothing. What they mean
is not known here.
"""

from collections import OrderedDict
from collections.abc import Collection, Hashable

import numpy as np
from numpy.typing import NDArray


class PrefixMemory:
    """The copies used last, up to a number of bytes."""

    def __init__(self, limit_bytes: int) -> None:
        """Begin empty.

        Args:
            limit_bytes: most bytes of all copies; 0 keeps none.
        """
        self._limit_bytes = limit_bytes
        self._copies: OrderedDict[Hashable, NDArray[np.uint8]] = OrderedDict()

    def get(self, key: Hashable) -> NDArray[np.uint8] | None:
        """Return the copy under a key, [n] uint8, not to be changed; None: there is none."""
        data = self._copies.get(key)
        if data is not None:
            self._copies.move_to_end(key)
        return data

    def has_room(self, size_bytes: int, beside: Collection[Hashable]) -> bool:
        """Return whether a copy of so many bytes can be kept.

        Args:
            size_bytes: of the copy.
            beside: keys whose copies stay. Pictures that come round after round would otherwise
                drive out one another, and none would be there when its turn comes.
        """
        staying = sum(self._copies[key].nbytes for key in beside if key in self._copies)
        return staying + size_bytes <= self._limit_bytes

    def make_room(self, size_bytes: int, beside: Collection[Hashable]) -> bool:
        """Forget those unused for longest if they leave no room for a copy that is to be made.

        Args:
            size_bytes: of the copy.
            beside: as for `has_room`.

        Returns:
            Whether there is room; if not, nothing is forgotten.
        """
        if not self.has_room(size_bytes, beside):
            return False
        total_bytes = size_bytes + sum(copy.nbytes for copy in self._copies.values())
        for old in [old for old in self._copies if old not in beside]:
            if total_bytes <= self._limit_bytes:
                break
            total_bytes -= self._copies.pop(old).nbytes
        return True

    def put(self, key: Hashable, data: NDArray[np.uint8], beside: Collection[Hashable]) -> None:
        """Keep a copy, and forget those unused for longest if they leave no room.

        Args:
            key: of which there is no copy yet.
            data: [n] uint8, not to be changed any more.
            beside: as for `has_room`.
        """
        if self.make_room(data.nbytes, beside):
            self._copies[key] = data

    def drop(self, key: Hashable) -> None:
        """Forget a copy that turned out to be of no use."""
        self._copies.pop(key, None)

    def clear(self) -> None:
        """Forget everything."""
        self._copies.clear()
