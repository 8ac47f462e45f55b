"""Grammars of JSON: what may come next in a text that a schema describes.

In: a prepared schema, a tokenizer, what was written so far. Out: bytes and tokens that may come
next. The only door to llguidance, which is imported when a schema is first compiled. What is
chosen, and when it ends, is not known here.

The same grammar is asked in two ways: by bytes, for what would close a text, in microseconds; and
by tokens, for what the model may choose. Between values stands one space, as `json.dumps` has it:
fewer tokens than any layout with line feeds, what models have read most, and never endless.
"""

import json
import threading
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, Self
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from edge_et.errors import MissingExtraError, OptionError
from edge_et.generation.json_schema import Schema
from edge_et.llm import Tokenizer

_LAYOUT = {
    "coerce_one_of": False,
    "item_separator": ", ",
    "key_separator": ": ",
    "lenient": False,
    "whitespace_flexible": False,
}

_LIMITS = {"max_lexer_states": 20_000, "verbose_errors": False}
"""A state takes one or two kilobytes; the library's own limit is 250,000. Other limits are its."""

_BYTES = 256

_tokenizers: WeakKeyDictionary[Tokenizer, Any] = WeakKeyDictionary()
_making = threading.Lock()


class JsonGrammar:
    """A compiled schema.

    Attributes:
        schema: what was compiled.
    """

    def __init__(self, schema: Schema) -> None:
        """Compile a schema.

        Args:
            schema: from `prepare_schema`.

        Raises:
            OptionError: it asks for what cannot be expressed, contradicts itself, or is too large.
            MissingExtraError: llguidance is not installed.
        """
        library = _library()
        self.schema = schema
        try:
            self._text = library.LLMatcher.grammar_from_json_schema(
                json.dumps(schema), overrides=_LAYOUT
            )
        except ValueError as err:
            raise self._refusal(str(err)) from err
        self._begun: dict[Tokenizer, Any] = {}
        self._named = frozenset("".join(_patterns(schema)).encode())
        self._start = self._matcher(_byte_tokenizer())
        if reason := self._start.get_error():
            raise self._refusal(reason)

    def bytes_state(self) -> "BytesState":
        """Return the state before the first byte."""
        return BytesState(self._start.deep_copy(), self._named)

    def tokens_state(self, tokenizer: Tokenizer) -> "TokensState":
        """Return the state before the first token.

        Args:
            tokenizer: whose tokens; what is made of them is kept as long as the tokenizer.
        """
        with _making:
            if tokenizer not in _tokenizers:
                _tokenizers[tokenizer] = _library().LLTokenizer(
                    _Vocabulary(tokenizer), slices=_library().LLTokenizer.json_slices()
                )
        if tokenizer not in self._begun:
            self._begun[tokenizer] = self._matcher(_tokenizers[tokenizer])
        return TokensState(self._begun[tokenizer].deep_copy(), tokenizer.size)

    def _matcher(self, tokenizer: Any) -> Any:
        library = _library()
        return library.LLMatcher(
            tokenizer, self._text, log_level=0, limits=library.LLParserLimits(**_LIMITS)
        )

    def _refusal(self, reason: str) -> OptionError:
        first = " ".join(reason.split("<state>")[0].split())
        return OptionError(
            "schema", self.schema, f"a JSON schema that answers can be held to; {first}"
        )


class BytesState:
    """What may come next, by bytes.

    Attributes:
        named: bytes that patterns of the schema name, of which a text may need some.
    """

    def __init__(self, matcher: Any, named: frozenset[int]) -> None:
        self._matcher = matcher
        self.named = named

    def copy(self) -> Self:
        """Return a state that goes its own way."""
        return type(self)(self._matcher.deep_copy(), self.named)

    def push(self, text: bytes) -> bool:
        """Take text; return whether it fits. The state is of no use if it does not."""
        return bool(self._matcher.consume_tokens(list(text)))

    def forced(self) -> bytes:
        """Return what has to come next, possibly nothing."""
        found: bytes = self._matcher.compute_ff_bytes()
        return found

    def allowed(self) -> list[int]:
        """Return the bytes that may come next; none where there is an error."""
        mask = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
        if self._matcher.is_error():
            return []
        return [int(b) for b in np.flatnonzero(np.unpackbits(mask, bitorder="little")[:_BYTES])]

    def may_end(self) -> bool:
        """Return whether the text is whole."""
        return bool(self._matcher.is_accepting())


class TokensState:
    """What may come next, by tokens."""

    def __init__(self, matcher: Any, size: int) -> None:
        self._matcher = matcher
        self._size = size

    def copy(self) -> Self:
        """Return a state that goes its own way."""
        return type(self)(self._matcher.deep_copy(), self._size)

    def push(self, tokens: Sequence[int]) -> bool:
        """Take tokens; return whether they fit. The state is of no use if they do not."""
        return bool(self._matcher.consume_tokens(list(tokens)))

    def forced(self) -> list[int]:
        """Return the tokens that have to come next, possibly none."""
        found: list[int] = self._matcher.compute_ff_tokens()
        return found

    def allowed(self) -> NDArray[np.bool_]:
        """Return which tokens may come next, [V] bool; none where there is an error.

        Special tokens never may, those that stop neither.
        """
        mask = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
        if self._matcher.is_error():
            return np.zeros(self._size, np.bool_)
        return np.unpackbits(mask, count=self._size, bitorder="little").view(np.bool_)


def _patterns(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        if isinstance(schema.get("pattern"), str):
            yield schema["pattern"]
        yield from schema.get("patternProperties", {})
    for part in schema.values() if isinstance(schema, dict) else schema:
        if isinstance(part, dict | list):
            yield from _patterns(part)


class _Vocabulary:
    """A tokenizer as llguidance asks for it."""

    is_tokenizer_wrapper = True
    bos_token_id = None

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        # The last one is no token of the model: what the library takes for the end of a text.
        self.tokens = [*map(tokenizer.token_bytes, range(tokenizer.size)), b""]
        self.eos_token_id = tokenizer.size
        self.special_token_ids = [i for i, text in enumerate(self.tokens) if not text]

    def __call__(self, text: str | bytes) -> list[int]:
        if isinstance(text, bytes):
            text = text.decode()
        return self._tokenizer.encode(text)


def _library() -> Any:
    try:
        import llguidance
    except ImportError as err:
        raise MissingExtraError("llguidance", "schema") from err
    return llguidance


@cache
def _byte_tokenizer() -> Any:
    return _library().LLTokenizer("byte")
