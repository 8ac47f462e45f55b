"""Writing JSON with a model: a sampler that keeps to a grammar and can end at any time.

In: a grammar, a tokenizer, a sampler, a budget. Out: tokens to evaluate, and the text that they
make. What stands before the text, and how tokens are evaluated, is not known here.
"""

import codecs
import re
from collections.abc import Callable, Iterable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edge_et.generation.json_grammar import JsonGrammar
from edge_et.generation.json_text import JsonText
from edge_et.generation.sampling import Sampler
from edge_et.generation.token_pieces import pieces_of
from edge_et.llm import Tokenizer

OBJECT_FRAME: Final = re.compile(r'\{"(?:[^"\\]|\\.)*": "')
"""What stands before a text that is the first value of an object."""

Among = Callable[[NDArray[np.bool_], bool], int]
"""Chooses among tokens that may come, [V] bool, and those that stop if the text may end."""


class JsonWriter:
    """Writes a JSON text, which the model sees as it grows.

    Attributes:
        opening: what the text has to begin with.
        shown: what is put behind the marker for the model to see before the first token.
        least: tokens of a short text.
        left: tokens that may be written behind the opening.
        is_cut: whether the next token did not fit, so that one that stops was chosen instead.
    """

    def __init__(self, grammar: JsonGrammar, tokenizer: Tokenizer, budget: int) -> None:
        """Begin a text.

        Args:
            grammar: what it is held to.
            tokenizer: of the model that writes.
            budget: most tokens of the text, at least `least`.

        Raises:
            OptionError: no short text is found that the grammar accepts.
        """
        self.is_cut = False
        self._stop_ids: frozenset[int] = frozenset()
        self._tokenizer = tokenizer
        self._pieces = pieces_of(tokenizer)
        self._text = JsonText(grammar, tokenizer)
        self._utf8 = codecs.getincrementaldecoder("utf-8")()
        forced = codecs.getincrementaldecoder("utf-8")().decode(self._text.forced())
        self.opening = self._begin_with(forced)
        tokens = len(tokenizer.encode(f" {self.opening}" if self.opening else ""))
        if self.opening:
            self._text.push(self.opening.encode(), tokenizer.encode(self.opening))
        self.least = tokens + self._text.closing_tokens
        self.left = budget - tokens
        self._told = len(self._text.written)
        self.shown = self._shown()

    @property
    def leads_with_text(self) -> bool:
        """Whether the text begins with a name and a string, of an object."""
        frame = OBJECT_FRAME.match(self.opening)
        return frame is not None and '"' not in self.opening[frame.end() :]

    @property
    def is_done(self) -> bool:
        """Whether there is nothing to choose."""
        return self._text.is_whole

    @property
    def has_begun(self) -> bool:
        """Whether the text may be closed without a look at what the model would write."""
        return True

    def sampler(
        self, sampler: Sampler, stop_ids: Iterable[int], special_ids: Iterable[int]
    ) -> Sampler:
        """Return a sampler that chooses tokens of the text and takes them.

        Args:
            sampler: chooses among those that may come.
            stop_ids: tokens that end the text, where it may end; at least one.
            special_ids: tokens that it cannot hold.
        """
        stops, never = sorted(stop_ids), sorted(special_ids)
        self._stop_ids = frozenset(stops)

        def among(allowed: NDArray[np.bool_], may_stop: bool, logits: NDArray[np.float32]) -> int:
            allowed[never] = False
            allowed[stops] = may_stop
            if not allowed.any():  # limits of the grammar were reached
                self.is_cut = True
                return stops[0]
            return sampler(np.where(allowed, logits, np.float32(-np.inf)))

        def write(logits: NDArray[np.float32]) -> int:
            token = self._choose(lambda allowed, may_stop: among(allowed, may_stop, logits))
            if token in stops:
                return token
            self.left -= 1
            if not self._take(token):
                self.is_cut = True
                return stops[0]
            return token

        return write

    def take(self) -> str:
        """Return what was written since this was last asked, whole characters only."""
        settled = self._settled()
        new, self._told = self._text.written[self._told : settled], settled
        return self._utf8.decode(new)

    def finish(self) -> str:
        """Make the text whole; return what was not told of it yet."""
        written, closing = self._ending()
        return self._utf8.decode(written[self._told :] + closing, final=True)

    def _begin_with(self, forced: str) -> str:
        """Return the part of what has to come first that is not left to the model."""
        return forced

    def _shown(self) -> str:
        return f" {self.opening}" if self.opening else ""

    def _choose(self, among: Among) -> int:
        forced = self._text.forced_tokens()
        if forced:
            return forced[0]
        allowed, pieces, may_end = self._text.allowed(), self._pieces, self._text.may_end
        if self._text.in_string:
            if pieces.quote is None or not allowed[pieces.quote]:
                return among(allowed, may_end)
            token = among(allowed | pieces.ends_string, True)
            return token if allowed[token] else pieces.quote
        is_end = allowed & ~pieces.is_number
        if not self._text.in_number or not is_end.any():
            return among(allowed, may_end)
        # What cannot be part of the number ends it, and what follows is chosen anew.
        token = among(allowed | ~pieces.is_number, True)
        return token if allowed[token] else among(is_end, may_end)

    def _take(self, token: int) -> bool:
        return self._text.push(self._tokenizer.token_bytes(token), [token], self.left)

    def _settled(self) -> int:
        """Return how much of the text will stay as it is, bytes."""
        return len(self._text.written)

    def _ending(self) -> tuple[bytes, bytes]:
        """Return the text, and what makes it whole."""
        return self._text.written, self._text.closing
