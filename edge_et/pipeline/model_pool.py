"""The contexts of one loaded bundle: the same models several times, each with its own KV caches.

In: which picture a call is about. Out: models that nobody else uses meanwhile, those whose KV cache
holds that picture if they are free. How many calls there may be is the scheduler's concern.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from edge_et.cancellation import CancelToken
from edge_et.errors import ClosedError, ForkedError
from edge_et.pipeline.models import Models


class ModelPool:
    """Models over the same weights. Used by the call that computes, so by one thread at a time."""

    def __init__(self, contexts: Sequence[Models]) -> None:
        """Begin with all of them free.

        Args:
            contexts: as many as calls may be inside at once, at least one.
        """
        self._contexts = tuple(contexts)
        self._free = list(contexts)  # the one used last is last
        self._pictures: dict[int, str] = {}
        """The digest of the picture that a context was used for last, by its place."""

    @contextmanager
    def lease(self, picture: str | None, cancel: CancelToken) -> Iterator[Models]:
        """Have a context while the block runs.

        Args:
            picture: digest of the picture that will be read; None: there is none.
            cancel: ends what is evaluated in it.
        """
        models = self._choose(picture)
        self._free.remove(models)
        place = self._contexts.index(models)
        try:
            if picture is not None:
                self._pictures[place] = picture
            models.obey(cancel)
            yield models
        finally:
            with suppress(ClosedError, ForkedError):
                models.obey(CancelToken())
            self._free.append(models)

    def forget(self) -> None:
        """Empty the caches that are not in use."""
        for models in self._free:
            models.forget()
            self._pictures.pop(self._contexts.index(models), None)

    def _choose(self, picture: str | None) -> Models:
        for models in self._free:
            if picture is not None and picture == self._pictures.get(self._contexts.index(models)):
                return models
        return self._free[0]
