"""Stop texts: the answer's text ends before the first of them.

In: text in pieces, as it is written. Out: what is known to come before them. Tokens are not known
here.
"""

from collections.abc import Sequence


class StopTexts:
    """Ends text that arrives in pieces before the first of some texts.

    First is the one that is complete first, however the text is cut into pieces. One that has
    nothing but white space before it belongs to the text, which so is never empty for it.

    Attributes:
        found: whether the text has ended.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        """Begin with no text.

        Args:
            stops: none of them empty; may be none.
        """
        self.found = False
        self._stops = tuple(stops)
        self._text = ""
        self._told = 0
        self._from = 0  # where the next one may begin

    def push(self, piece: str) -> str:
        """Take text and return what is known to come before the end."""
        self._text += piece
        while (place := self._first()) is not None:
            start, end = place
            if self._text[:start].strip():
                self.found = True
                return self._tell(start)
            self._from = end
        return self._tell(len(self._text) - self._held())

    def finish(self, piece: str) -> str:
        """Take the last text and return everything that comes before the end."""
        told = self.push(piece)
        return told if self.found else told + self._tell(len(self._text))

    def _tell(self, end: int) -> str:
        begin, self._told = self._told, end
        return self._text[begin:end]

    def _first(self) -> tuple[int, int] | None:
        """Return where a stop text stands that is complete before all others."""
        begin = max(self._from, self._told)
        places = ((self._text.find(stop, begin), stop) for stop in self._stops)
        found = [(start + len(stop), start) for start, stop in places if start >= 0]
        if not found:
            return None
        end, start = min(found)
        return start, end

    def _held(self) -> int:
        """Return how many characters at the end may be the beginning of a stop text."""
        behind = self._text[max(self._from, self._told) :]
        sizes = (
            size
            for stop in self._stops
            for size in range(1, min(len(stop), len(behind) + 1))
            if behind.endswith(stop[:size])
        )
        return max(sizes, default=0)
