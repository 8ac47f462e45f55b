"""Closings: what makes a begun JSON text whole.

In: the state of a grammar behind a begun text. Out: a short rest that the grammar accepts. Models
and tokens are not known here.

The rest is found breadth first by bytes, what is forced counted as one step. As soon as a way has a
value behind it, those that have not are given up: values do not depend on one another, so a list of
them is as short as each of them, and a schema with many is searched in a time that grows with their
number. Where values do depend on one another and that leads nowhere, all ways are followed. Of ways
that stand in the same brackets and allow the same bytes next, only the first is followed; and where
many bytes may come, as in a string, some are tried, and those that patterns name where that led
nowhere. So a rest is short, but another may be shorter.
"""

import math
from collections.abc import Iterator

from edge_et.generation.json_grammar import BytesState

MAX_BYTES = 4096
"""Of a closing: more than any budget of the bundles there are."""

_MAX_STEPS = 8_000
"""That are tried without a value behind one before a search is given up, at 20 microseconds each;
a string of 600 characters takes as many."""

_WIDTH = 12
"""Ways that are followed at once at first, and bytes that are tried where `_MANY` may come."""

_MANY = 40
"""More bytes than a class of letters or digits has."""

_AHEAD = 3
"""Of these, ways that are kept when some have a value behind them."""

_THOROUGH_WIDTH = 64
"""Ways that are followed at once where that led nowhere; then bytes of patterns are tried, too."""

_IN_STRINGS = b'"a0A .-_:/@z59fF'
_OUTSIDE = b'"}]0123456789tfn[{-.,:eE+'


def find_closing(state: BytesState, place: "Place | None" = None) -> bytes | None:
    """Find a rest.

    Args:
        state: behind what was written; not changed.
        place: where that ends; None: nothing was written.

    Returns:
        What has to follow, nothing where the text is whole; None: no rest was found, as where a
        grammar has no end.
    """
    place = place or Place()
    found = _search(state, place, thorough=False)
    return _search(state, place, thorough=True) if found is None else found


def _search(state: BytesState, place: "Place", *, thorough: bool) -> bytes | None:
    ways = [_Way(state.copy(), b"", place)]
    steps = 0
    base = place
    while ways:
        live: list[tuple[_Way, list[int]]] = []
        seen: set[tuple[object, ...]] = set()
        for way in ways:
            if not way.follow_forced():
                continue
            if way.state.may_end():
                return way.rest
            allowed = way.state.allowed()
            key = (way.place.commas, way.place.in_string, bytes(allowed), way.named_byte(thorough))
            if allowed and key not in seen:
                seen.add(key)
                live.append((way, allowed))
        live.sort(key=lambda entry: entry[0].place.progress, reverse=True)  # stable
        if not thorough:
            ahead = [(way, allowed) for way, allowed in live if way.place.is_ahead_of(base)]
            live = ahead[:_AHEAD] or live
            if ahead or len(live) == 1:
                base = live[0][0].place
            steps = 0 if ahead else steps
        kept = live[: _THOROUGH_WIDTH if thorough else _WIDTH]
        ways = [step for way, allowed in kept for step in way.steps(allowed, thorough)]
        steps += len(ways)
        if steps > _MAX_STEPS:
            break
    return None


class _Way:
    """A rest as far as it was followed."""

    def __init__(self, state: BytesState, rest: bytes, place: "Place") -> None:
        self.state = state
        self.rest = rest
        self.place = place

    def follow_forced(self) -> bool:
        """Take what has to come; return whether the grammar could follow."""
        while forced := self.state.forced():
            if len(self.rest) + len(forced) > MAX_BYTES or not self.state.push(forced):
                return False
            self.rest += forced
            self.place = self.place.behind(forced)
        return True

    def named_byte(self, thorough: bool) -> int | None:
        """Return the last byte if a pattern may be waiting for it; what it allows does not tell."""
        named = thorough and self.place.in_string and self.rest and self.rest[-1]
        return named if named in self.state.named else None

    def steps(self, allowed: list[int], thorough: bool) -> Iterator["_Way"]:
        """Go on in all ways that are worth it, the preferred ones first."""
        order = _IN_STRINGS if self.place.in_string else _OUTSIDE
        preferred = [byte for byte in order if byte in allowed]
        others = [byte for byte in allowed if byte not in order]
        tried = [*preferred, *others]
        if len(tried) > _MANY:
            tried = tried[:_WIDTH]
        if thorough:
            tried += sorted(self.state.named.intersection(allowed).difference(tried))
        for byte in tried:
            state, text = self.state.copy(), bytes([byte])
            if len(self.rest) < MAX_BYTES and state.push(text):
                yield _Way(state, self.rest + text, self.place.behind(text))


class Place:
    """Where in a JSON text one stands.

    Attributes:
        commas: how many were passed in each open bracket, from outside to inside.
        in_string: whether a string is open.
        is_escaped: whether a backslash stands before.
    """

    def __init__(
        self, commas: tuple[int, ...] = (), in_string: bool = False, escaped: bool = False
    ) -> None:
        """Stand somewhere, at the beginning of a text if nothing is given."""
        self.commas = commas
        self.in_string = in_string
        self.is_escaped = escaped

    def behind(self, text: bytes) -> "Place":
        """Return the place behind some more text."""
        commas, in_string, escaped = list(self.commas), self.in_string, self.is_escaped
        for byte in text:
            if escaped:
                escaped = False
            elif in_string and byte == ord("\\"):
                escaped = True
            elif byte == ord('"'):
                in_string = not in_string
            elif in_string:
                continue
            elif byte in b"[{":
                commas.append(0)
            elif byte in b"]}":
                commas.pop()
            elif byte == ord(","):
                commas[-1] += 1
        return Place(tuple(commas), in_string, escaped)

    @property
    def progress(self) -> tuple[float, ...]:
        """What is greater the nearer the end is: commas, and brackets that are closed."""
        return (*self.commas, math.inf)

    def is_ahead_of(self, base: "Place") -> bool:
        """Return whether the value that is written at a base is behind this place."""
        return self.progress[: len(base.commas)] > base.commas
