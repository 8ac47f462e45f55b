"""Who is let in, and who computes: calls of several threads over one pipeline.

At most as many calls are inside as there are contexts; the others wait, those of a higher priority
first, then in the order in which they came. Of those inside one computes at a time, since one alone
uses all cores: the first by the same order that wants to. It has the turn until it is done. Between
two steps of its models it gives way to a call that goes before it; and while a stream's caller has
an event, the next one may step in. Whoever would be inside only to wait for the turn stays outside:
the context is there for a call that goes before both.

Access is referred to weakly here: what a signal handler's exception cut off between two steps is
forgotten with the call.
"""

import itertools
import math
import os
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic

from edge_et.cancellation import CancelToken
from edge_et.errors import BusyError, ClosedError, ForkedError, QueueFullError
from edge_et.native_threads import THREAD_PREFIX
from edge_et.pipeline.access import Access

# A stream that nobody continues for so long is not waited for: where all workers of a server wait,
# none is left to continue it.
_PATIENCE_S = 30.0

# The same for the only thread that ever ran the stream, and would most likely wait for itself.
_OWN_PATIENCE_S = 5.0

# For so long a stream's caller may keep an event before others of its priority step in: theirs may
# be a batch of a prompt, for which the next token would wait.
_GRACE_S = 0.005

_LOOK_AGAIN_S = 1.0


class Scheduler:
    """Lets calls in, lets one compute at a time, and closes when no thread is inside."""

    def __init__(self, contexts: int, max_waiting: int) -> None:
        """Begin with nobody inside.

        Args:
            contexts: most calls inside, at least 1.
            max_waiting: most calls that wait, at least 0.
        """
        self._contexts = contexts
        self._max_waiting = max_waiting
        self._process_id = os.getpid()
        self._changed = threading.Condition()
        self._numbers = itertools.count()
        self._inside: list[weakref.ref[Access]] = []
        self._waiting: list[weakref.ref[Access]] = []
        self._wanting: list[weakref.ref[Access]] = []  # of those inside, the turn
        self._turn: weakref.ref[Access] | None = None
        self._closed = False
        self._free: Callable[[], object] | None = None

    def check(self) -> None:
        """Raise what every call would.

        Raises:
            ForkedError: another process opened the pipeline.
            ClosedError: it was closed.
        """
        if not self._is_own_process():
            raise ForkedError("pipeline")
        if self._closed:
            raise ClosedError("pipeline")

    def join(
        self, priority: int, cancel: CancelToken, cancel_of_caller: CancelToken | None = None
    ) -> Access:
        """Line up; `admit` waits.

        Args:
            priority: the higher goes first.
            cancel: ends this call alone.
            cancel_of_caller: ends others as well; None: nobody has such a one.

        Raises:
            QueueFullError: too many wait already.
            EdgeETError: as for `check`.
        """
        self.check()
        with self._changed:
            waiting = _alive(self._waiting)
            # A signal handler goes before the calls of its thread, which cannot go on before it.
            this = threading.get_ident()
            known = (*waiting, *_alive(self._wanting))
            is_nested = any(other.thread == this for other in known)
            rank = (-math.inf if is_nested else -priority, next(self._numbers))
            access = Access(self, rank, cancel, cancel_of_caller)
            without_context = len(waiting) + len(_alive(self._inside)) - self._contexts
            if without_context >= self._max_waiting:
                raise QueueFullError(without_context, self._max_waiting)
            self._waiting.append(weakref.ref(access))
            self._waiting.sort(key=_rank)
        return access

    @contextmanager
    def admit(self, access: Access) -> Iterator[None]:
        """Let a call be inside while the block runs, after all calls that go before it.

        Raises:
            BusyError: streams are inside that nobody continues, or this thread is inside already.
            CancelledError: the call was cancelled.
            EdgeETError: as for `check`.
        """
        try:
            access.thread = threading.get_ident()
            access.threads.add(access.thread)
            cancel = access.cancel
            with cancel.watch(self._wake), access.cancel_of_caller.watch(cancel.cancel):
                self._wait_outside(access)
                yield
        finally:
            if self._is_own_process():
                self._give_back(access)
                self._free_if_asked()

    def take_turn(self, access: Access) -> None:
        """Wait until a call may compute.

        Raises:
            BusyError: this thread computes for another call.
            CancelledError: the call was cancelled.
        """
        own = weakref.ref(access)
        with self._changed:
            self._wanting.append(own)
            try:
                while (wait_s := self._wait_for_turn(access)) > 0:
                    access.cancel.check()
                    self._changed.wait(wait_s)
                self._turn = own
            finally:
                self._wanting.remove(own)

    def give_way(self, access: Access) -> None:
        """Let a call that goes before this one compute; called between two steps.

        Raises:
            CancelledError: the call was cancelled.
        """
        access.cancel.check()
        if not self._wanting:
            return
        with self._changed:
            if not any(other.rank < access.rank for other in _alive(self._wanting)):
                return
            self._turn = None
            self._changed.notify_all()
        self.take_turn(access)

    def leave(self, access: Access) -> None:
        """Let no thread be inside; the call keeps its place, and the turn if nobody wants it."""
        with self._changed:
            access.thread, access.left_at = None, monotonic()
            if self._closed or self._wanting or self._has_room_for_waiting():
                self._changed.notify_all()
        self._free_if_asked()

    def enter(self, access: Access) -> None:
        """Let this thread be inside, with the turn.

        Raises:
            CancelledError: the call was cancelled.
            EdgeETError: as for `check`.
        """
        self.check()
        with self._changed:
            self.check()
            access.thread = threading.get_ident()
            access.threads.add(access.thread)
            if self._turn is not None and self._turn() is access:
                return
        self.take_turn(access)

    def reenter(self, access: Access) -> bool:
        """Let this thread be inside, for what is left to do, if the call still has the turn."""
        if not self._is_own_process():
            return False
        with self._changed:
            has_turn = self._turn is not None and self._turn() is access
            if not has_turn or (self._closed and access.thread is None):
                return False
            access.thread = threading.get_ident()
            return True

    def close(self, free: Callable[[], object]) -> None:
        """Let nobody in any more, wait until no thread is inside, and free; may be called again.

        Where this thread is inside, a signal handler calls, and what is held is freed when the
        thread leaves. A forked child frees nothing.

        Args:
            free: frees what the calls use.
        """
        if not self._is_own_process():
            return
        with self._changed:
            if self._closed:
                return
            self._closed = True
            self._changed.notify_all()
            if threading.get_ident() in self._threads_inside():
                self._free = free
                return
            while self._threads_inside():
                self._changed.wait(_LOOK_AGAIN_S)
        free()

    def _wait_outside(self, access: Access) -> None:
        own = weakref.ref(access)
        with self._changed:
            while not self._closed and not self._is_next(access):
                access.cancel.check()
                self._changed.wait(self._patience())
            if self._closed:
                raise ClosedError("pipeline")
            access.cancel.check()
            self._waiting.remove(own)
            self._inside.append(own)
            self._changed.notify_all()

    def _is_next(self, access: Access) -> bool:
        """Return whether a call is the first of those who wait, and its context would be used."""
        inside = _alive(self._inside)
        if len(inside) == self._contexts or _alive(self._waiting)[0] is not access:
            return False
        return not any(self._goes_on_before(other, access) for other in inside)

    def _goes_on_before(self, other: Access, access: Access) -> bool:
        """Return whether one that is inside computes, or will soon, before a call would."""
        if other.rank > access.rank or other.thread == access.thread:
            return False
        return other.thread is not None or monotonic() < other.left_at + _GRACE_S

    def _has_room_for_waiting(self) -> bool:
        return bool(self._waiting) and len(_alive(self._inside)) < self._contexts

    def _give_back(self, access: Access) -> None:
        own = weakref.ref(access)
        with self._changed:
            for places in (self._inside, self._waiting):
                if own in places:
                    places.remove(own)
            if self._turn == own:
                self._turn = None
            self._changed.notify_all()

    def _wait_for_turn(self, access: Access) -> float:
        """Return for how long to wait before it is looked again who has the turn; 0: access has.

        Raises:
            BusyError: there is no use in waiting.
        """
        holder = None if self._turn is None else self._turn()
        if any(other.rank < access.rank for other in _alive(self._wanting)):
            return _LOOK_AGAIN_S
        if holder is None or holder is access:
            return 0
        if holder.thread is not None:
            if holder.thread == access.thread:
                raise BusyError
            return _LOOK_AGAIN_S
        if access.rank < holder.rank:
            return 0
        return holder.left_at + _GRACE_S - monotonic()

    def _patience(self) -> float:
        """Return for how long to wait before it is looked again who is inside.

        Raises:
            BusyError: there is no use in waiting.
        """
        this = threading.get_ident()
        hopeful = []
        wait_s = _LOOK_AGAIN_S
        inside = _alive(self._inside)
        for other in inside:
            if other.thread is None:
                grace_s = other.left_at + _GRACE_S - monotonic()
                if grace_s > 0 and len(inside) < self._contexts:
                    wait_s = min(wait_s, grace_s)
                own = other.threads == {this}
                patience = _OWN_PATIENCE_S if own else _PATIENCE_S
                left = other.left_at + patience - monotonic()
                if left > 0 and not (own and _is_only_thread()):
                    hopeful.append(left)
            elif other.thread != this:
                hopeful.append(_LOOK_AGAIN_S)
        if len(inside) == self._contexts and not hopeful:
            raise BusyError
        return min([*hopeful, wait_s])

    def _is_own_process(self) -> bool:
        """Return whether the lock may be touched: in a fork, a thread that is lost may hold it."""
        return os.getpid() == self._process_id

    def _threads_inside(self) -> list[int]:
        inside = (access.thread for access in _alive(self._inside))
        return [thread for thread in inside if thread is not None]

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _free_if_asked(self) -> None:
        """Free what `close` could not, as soon as no thread is inside."""
        if self._free is None:
            return
        with self._changed:
            free = None if self._threads_inside() else self._free
            if free is not None:
                self._free = None
        if free is not None:
            free()


def _alive(places: list["weakref.ref[Access]"]) -> list[Access]:
    """Return those who are not forgotten; called by whoever has the lock."""
    places[:] = [ref for ref in places if ref() is not None]
    return [access for ref in places if (access := ref()) is not None]


def _rank(place: "weakref.ref[Access]") -> tuple[float, int]:
    access = place()
    return (0, 0) if access is None else access.rank


def _is_only_thread() -> bool:
    """Return whether the program has no other thread; those that edge-et began do not count."""
    others = [t for t in threading.enumerate() if not t.name.startswith(THREAD_PREFIX)]
    return len(others) == 1
