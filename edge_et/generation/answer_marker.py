"""The answer marker: text that separates what is thought from what is answered.

In: text in pieces, as it is written. Out: what comes before the marker and behind it.
"""


class MarkerSplitter:
    """Splits text that arrives in pieces at the first occurrence of a marker.

    Attributes:
        rest: what came behind the marker in the piece that completed it; None: no marker so far.
    """

    def __init__(self, marker: str) -> None:
        """Begin with no text."""
        self.rest: str | None = None
        self._marker = marker
        self._held = ""

    def push(self, piece: str) -> str:
        """Take text and return what is known to come before the marker."""
        text = self._held + piece
        before, found, rest = text.partition(self._marker)
        if found:
            self.rest, self._held = rest, ""
            return before
        held = next(
            size
            for size in range(min(len(self._marker) - 1, len(text)), -1, -1)
            if text.endswith(self._marker[:size])
        )
        self._held = text[len(text) - held :]
        return text[: len(text) - held]

    def finish(self, piece: str) -> str:
        """Take the last text and return everything that was held back."""
        text, self._held = self._held + piece, ""
        return text


def forced_marker(marker: str, before: str) -> str:
    """Return the text that is put in where the model has not written the marker itself.

    Args:
        marker: the marker.
        before: what was written before it.
    """
    return marker if not before or before.endswith("\n") else f"\n{marker}"
