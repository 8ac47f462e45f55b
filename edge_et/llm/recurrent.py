"""Contexts of models that keep a state of all that was read: short convolutions, delta nets.

In: batches, as for any context. Out: the same; and a way back to earlier positions, which the
engine has not. Such models have attention in some layers, whose end can be dropped, and in the
others a state, which cannot go back: llama.cpp refuses to drop an end of theirs, and copies the
beginning of a sequence with the state of its end. So the states at some positions are copied, and
put back when they are wanted; what lies between two of them is evaluated again. Which positions
those are, the KV cache says.

What a state was copied behind can only be judged by its place: every function here asks llama.cpp
where attention and state end, and what is not at one place is not used.
"""

from collections.abc import Container

import numpy as np
from numpy.typing import NDArray

from edge_et.llm.kv_protocol import KVCacheSettings
from edge_et.llm.llama import COPIED, LlamaContext, LlamaModel
from edge_et.llm.model_shape import ModelShape
from edge_et.llm.places import End


class RecurrentContext(LlamaContext):
    """A context over a model whose end cannot be dropped, but for the places that are marked."""

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
            shape: the model's sizes, and how many states are kept.
            settings: length, threads, number type, attention.
            batch_positions: most rows of a batch.
        """
        super().__init__(model, shape, settings, batch_positions)
        self._states: dict[int, tuple[End, NDArray[np.uint8]]] = {}  # by count, in order
        self._most_states = shape.states
        self._held = 0
        self._is_torn = False  # by a batch that did not end, or whose end nobody waited for

    def decode(
        self,
        inputs: NDArray[np.int32] | NDArray[np.float32],
        places: NDArray[np.int32],
        outputs: int,
    ) -> None:
        """Evaluate one batch; see `LlamaContext.decode`.

        Args:
            inputs: token ids [n] int32, or embedding rows [n,D] float32.
            places: where they stand, [n] or [3,n] int32.
            outputs: behind how many of the last rows logits are wanted.

        Raises:
            CancelledError: the token that is obeyed was cancelled; only a marked place is whole.
            DecodeError: the engine failed; the context may hold anything then.
        """
        was_torn, self._is_torn = self._is_torn, True
        super().decode(inputs, places, outputs)
        self._held += len(inputs)
        self._is_torn = was_torn

    def mark(self, end: End) -> None:
        """Copy the state, so that `truncate` can come back to it; see `LlamaContext.mark`.

        Args:
            end: of what is held.
        """
        if end.count == 0 or end.count in self._states or not self._ends_at(end.count):
            return
        with self._handle.lock:
            data = self._library.copy_recurrent(self._handle.value, 0)
        if data is not None:
            self._states[end.count] = (end, data)
            self._make_room()

    def reach(self, keep: int, among: Container[int] | None = None) -> int:
        """Return how many positions `truncate` can keep; see `LlamaContext.reach`.

        Args:
            keep: at most so many.
            among: one of these numbers, or 0; None: any.
        """
        places = [place for place in self._states if place <= keep]
        if self._ends_at(keep):
            places.append(keep)
        return max((place for place in places if among is None or place in among), default=0)

    def truncate(self, end: End) -> int | None:
        """Go back to the last marked place within the first positions.

        Args:
            end: of the positions; no more than these stay.

        Returns:
            How many did; None: the engine failed.
        """
        keep = self.reach(end.count)
        self._states = {count: kept for count, kept in self._states.items() if count <= keep}
        if self._ends_at(keep):
            return keep
        if keep == 0:
            self.clear()
            return 0
        end, data = self._states[keep]
        library = self._library
        with self._handle.lock:
            context = self._handle.value
            is_back = library.write_recurrent(context, 0, data)
            is_back = is_back and library.truncate(context, 0, end.following)
            is_back = is_back and self._is_whole(0, end)
        if not is_back:
            return None
        self._held, self._is_torn = keep, False
        return keep

    def clear(self, *, numbers: bool = False) -> None:
        """Drop all positions and all states; see `LlamaContext.clear`.

        Args:
            numbers: overwrite what the positions held, too.
        """
        self._states.clear()
        super().clear(numbers=numbers)
        self._held, self._is_torn = 0, False

    def load_state(self, data: NDArray[np.uint8], end: End) -> bool:
        """Make an empty context hold what `copy_state` copied; see `LlamaContext.load_state`.

        Args:
            data: exactly what was copied.
            end: of the positions that it has.

        Returns:
            Whether it does; otherwise it may hold anything.
        """
        self._is_torn = True
        if not super().load_state(data, end):
            return False
        with self._handle.lock:
            self._is_torn = not self._is_whole(0, end)
        self._held = end.count
        return not self._is_torn

    def _complete_copy(self, end: End) -> bool:
        """Give the copied attention the state that was there; the engine copied that of the end."""
        if not self._ends_at(end.count):
            _, state = self._states.get(end.count, (end, None))
            if state is None or not self._library.write_recurrent(
                self._handle.value, COPIED, state
            ):
                return False
        return self._is_whole(COPIED, end)

    def _ends_at(self, count: int) -> bool:
        return not self._is_torn and self._held == count

    def _is_whole(self, sequence: int, end: End) -> bool:
        """Say whether attention and state of a sequence both end at a place."""
        library, context = self._library, self._handle.value
        # The first position that all of it holds is the state's, which holds no other.
        ends = library.first_position(context, sequence), library.last_position(context, sequence)
        return ends == (end.last, end.last)

    def _make_room(self) -> None:
        """Drop the states that cost least to compute again, but not the newest one."""
        while len(self._states) > self._most_states:
            places = list(self._states)
            gaps = {
                place: place - before
                for before, place in zip([0, *places], places[:-1], strict=False)
            }
            del self._states[min(gaps, key=lambda place: gaps[place])]
