"""A JSON text as it is written, which can be made whole at any time.

In: a grammar, a tokenizer, and what is wanted next. Out: whether it is taken, the text, and what
would make it whole. Samplers and models are not known here.
"""

from collections.abc import Sequence
from typing import Self

import numpy as np
from numpy.typing import NDArray

from edge_et.errors import OptionError
from edge_et.generation.json_closing import Place, find_closing
from edge_et.generation.json_grammar import JsonGrammar
from edge_et.llm import Tokenizer


class JsonText:
    """The beginning of a text that a grammar accepts.

    Attributes:
        written: the text so far, UTF-8.
        closing: a rest that makes it whole; empty where it may end here.
    """

    def __init__(self, grammar: JsonGrammar, tokenizer: Tokenizer) -> None:
        """Begin with no text.

        Args:
            grammar: what the text is held to.
            tokenizer: of the model that writes it.

        Raises:
            OptionError: no short text is found that the grammar accepts.
        """
        self._tokenizer = tokenizer
        self._bytes = grammar.bytes_state()
        self._tokens = grammar.tokens_state(tokenizer)
        self.written = b""
        self._place = Place()
        closing = find_closing(self._bytes)
        if closing is None:
            raise OptionError(
                "schema", grammar.schema, "a JSON schema that some short text fits; none was found"
            )
        self.closing = closing

    @property
    def closing_tokens(self) -> int:
        """How many tokens the closing has."""
        # A character that was begun ends in tokens of its own.
        begun = len(self.closing) - len(self.closing.lstrip(bytes(range(0x80, 0xC0))))
        return begun + len(self._tokenizer.encode(self.closing[begun:].decode()))

    @property
    def is_whole(self) -> bool:
        """Whether nothing can follow."""
        return not self.closing and not self._bytes.allowed()

    @property
    def may_end(self) -> bool:
        """Whether the text is whole, though more may follow."""
        return not self.closing

    @property
    def in_string(self) -> bool:
        """Whether a string is open, between two of its characters."""
        return self._place.in_string and not self._place.is_escaped

    @property
    def in_number(self) -> bool:
        """Whether the text ends with a number that can be one as it is, or with a part of it."""
        return not self._place.in_string and self.written[-1:].isdigit()

    def copy(self) -> Self:
        """Return a text that goes its own way."""
        copied = object.__new__(type(self))
        copied.__dict__ |= self.__dict__
        copied._bytes, copied._tokens = self._bytes.copy(), self._tokens.copy()
        return copied

    def forced(self) -> bytes:
        """Return what has to follow, possibly nothing."""
        return self._bytes.forced()

    def forced_tokens(self) -> list[int]:
        """Return tokens that have to follow, possibly none though bytes are forced."""
        return self._tokens.forced()

    def allowed(self) -> NDArray[np.bool_]:
        """Return which tokens may follow, [V] bool; see `TokensState.allowed`."""
        return self._tokens.allowed()

    def allowed_bytes(self) -> NDArray[np.bool_]:
        """Return which bytes may follow, [256] bool."""
        allowed = np.zeros(256, np.bool_)
        allowed[self._bytes.allowed()] = True
        return allowed

    def accepts(self, text: bytes) -> bool:
        """Return whether a rest would make the text whole."""
        state = self._bytes.copy()
        return state.push(text) and state.may_end()

    def fits(self, text: bytes) -> bool:
        """Return whether something may follow."""
        return self._bytes.copy().push(text)

    def push(self, text: bytes, tokens: Sequence[int], left: int | None = None) -> bool:
        """Take what follows, if the text can still be made whole behind it.

        Args:
            text: what follows, not empty.
            tokens: the same.
            left: tokens that may be written behind it; None: any number.

        Returns:
            Whether it was taken; if not, nothing has changed.
        """
        state = self._bytes.copy()
        if not state.push(text):
            return False
        before = self._bytes, self.written, self.closing, self._place
        self._bytes, self.written = state, self.written + text
        self._place = self._place.behind(text)
        closing = self._next_closing(text)
        if closing is not None:
            self.closing = closing
            if (left is None or self.closing_tokens <= left) and self._tokens.push(tokens):
                return True
        self._bytes, self.written, self.closing, self._place = before
        return False

    def _next_closing(self, text: bytes) -> bytes | None:
        if self._bytes.may_end():
            return b""
        if self.closing.startswith(text):
            return self.closing[len(text) :]
        if self.accepts(self.closing):  # as nearly always inside a string
            return self.closing
        return find_closing(self._bytes, self._place)
