"""The contexts of one loaded bundle: the same models several times, each with its own KV caches.

In: which picture a call is about. Out: models that nobody else uses meanwhile, those whose KV cache
holds that picture if they are free. How many calls there may be is the scheduler's concern.
"""

import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from edge_et.cancellation import CancelToken
from edge_et.errors import ClosedError, ForkedError
from edge_et.pipeline.access import Access
from edge_et.pipeline.models import Models


class ModelPool:
    """Models over the same weights. Used by the call that computes, so by one thread at a time.

    A context belongs to a call until that has ended, so that no exception of a signal handler can
    lose one: there are as many as the scheduler lets calls in.
    """

    def __init__(self, contexts: Sequence[Models]) -> None:
        """Begin with all of them free.

        Args:
            contexts: as many as calls may be inside at once, at least one.
        """
        self._contexts = tuple(contexts)
        self._order = list(range(len(contexts)))  # the one used last is last
        self._users: dict[int, weakref.ref[Access]] = {}
        self._pictures: dict[int, str] = {}
        """The digest of the picture that a context was used for last, by its place."""

    @contextmanager
    def lease(self, picture: str | None, access: Access) -> Iterator[Models]:
        """Have a context while the block runs.

        Args:
            picture: digest of the picture that will be read; None: there is none.
            access: of the call; its token ends what is evaluated.
        """
        place = self._choose(picture)
        models = self._contexts[place]
        self._users[place] = weakref.ref(access)
        if picture is not None:
            self._pictures[place] = picture
        try:
            models.obey(access.cancel)
            yield models
        finally:
            with suppress(ClosedError, ForkedError):
                models.obey(CancelToken())
            self._users.pop(place, None)

    def forget(self) -> None:
        """Empty the caches that are not in use."""
        for place in filter(self._is_free, self._order):
            self._contexts[place].forget()
            self._pictures.pop(place, None)

    def _choose(self, picture: str | None) -> int:
        free = list(filter(self._is_free, self._order))
        known = (place for place in free if self._pictures.get(place) == picture)
        chosen = free[0] if picture is None else next(known, free[0])
        self._order = [*(place for place in self._order if place != chosen), chosen]
        return chosen

    def _is_free(self, place: int) -> bool:
        user = self._users.get(place)
        access = None if user is None else user()
        return access is None or not access.is_inside
