"""Writing a single value as a model would without JSON.

In: a grammar of one value, alone or in an object of one property. Out: as `JsonWriter`. The model
writes the value as if it were free text: frame and quotes are not shown to it, white space around
the value is dropped, what JSON escapes is escaped for it, and "yes" is true. Models that were tuned
to answer in plain words do that better than JSON.
"""

from dataclasses import dataclass
from threading import Lock
from typing import Any, Final, Literal
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from edge_et.generation.json_grammar import JsonGrammar
from edge_et.generation.json_schema import Schema, resolve
from edge_et.generation.json_text import JsonText
from edge_et.generation.json_writer import Among, JsonWriter
from edge_et.llm import Tokenizer

BareKind = Literal["string", "number", "boolean"]

_FRAME: Final = frozenset(
    {"type", "properties", "additionalProperties", "required", "$defs", "definitions"}
)
_KINDS: Final[dict[object, BareKind]] = {
    "string": "string",
    "integer": "number",
    "number": "number",
    "boolean": "boolean",
}
_ESCAPES: Final = {code: b"\\u%04x" % code for code in range(0x20)} | dict(
    zip(b'"\\\b\f\n\r\t', (rb"\"", rb"\\", rb"\b", rb"\f", rb"\n", rb"\r", rb"\t"), strict=True)
)
_NUMBER: Final = frozenset(b"0123456789+-.eE")
_WORDS: Final = {b"true": b"true", b"yes": b"true", b"false": b"false", b"no": b"false"}


def bare_value(schema: Schema) -> tuple[BareKind, Schema] | None:
    """Say whether a schema asks for one value that can be written bare.

    Args:
        schema: from `prepare_schema`.

    Returns:
        What the value is, and a schema that asks for it; None: it is something else.
    """
    frame = resolve(schema, schema)
    if frame.get("type") != "object":
        kind = _kind(frame)
        return None if kind is None else (kind, schema)
    properties = frame.get("properties", {})
    if len(properties) != 1 or not _FRAME.issuperset(frame):
        return None
    ((name, value),) = properties.items()
    if frame.get("additionalProperties") is not False or not isinstance(value, dict):
        return None
    kind = _kind(resolve(value, schema))
    asked = {**frame, "required": [name]}
    asked |= {key: schema[key] for key in ("$defs", "definitions") if key in schema}
    return None if kind is None else (kind, asked)


def _kind(value: Schema) -> BareKind | None:
    choices: list[Any] = value.get("enum", [value["const"]] if "const" in value else [])
    if choices:
        if all(isinstance(choice, bool) for choice in choices):
            return "boolean"
        plain = all(isinstance(choice, str) and choice == choice.strip() for choice in choices)
        return "string" if plain else None
    named = value.get("type")
    joins = not {"$ref", "allOf", "anyOf", "oneOf"}.isdisjoint(value)
    return None if joins or not isinstance(named, str) else _KINDS.get(named)


class BareWriter(JsonWriter):
    """Writes one value, of which the model sees the bare text alone."""

    def __init__(
        self, grammar: JsonGrammar, tokenizer: Tokenizer, budget: int, kind: BareKind
    ) -> None:
        """Begin a text.

        Args:
            grammar: of a schema from `bare_value`.
            tokenizer: as for `JsonWriter`.
            budget: as for `JsonWriter`. What is not shown to the model counts, too.
            kind: from `bare_value`.

        Raises:
            OptionError: as for `JsonWriter`.
        """
        super().__init__(grammar, tokenizer, budget)
        self.shown = ""
        self._kind = kind
        self._pieces = _pieces_of(tokenizer)
        self._is_spaced = False
        self._has_value = False
        self._solid: JsonText | None = None  # the text before white space that may be its end
        self._end = (b'"' if kind == "string" else b"") + (
            b"}" if self.opening.startswith("{") else b""
        )

    @property
    def is_done(self) -> bool:
        """Whether there is nothing to choose."""
        if self._text.is_whole:
            return True
        return self._has_value and self._text.forced() == self._end != b""

    @property
    def has_begun(self) -> bool:
        """Whether there is a value, or a part of it."""
        return self._has_value

    def _choose(self, among: Among) -> int:
        pieces = self._pieces
        if self._kind == "boolean":
            return among(pieces.is_word.copy(), False)
        allowed = self._text.allowed()
        if self._kind == "number":
            allowed &= pieces.is_number
        if not self._has_value:
            allowed = np.where(pieces.unspaced >= 0, allowed[pieces.unspaced], False)
        if self._kind == "string":
            begin_value = self._text.allowed_bytes()[pieces.first]
            allowed = np.where(pieces.is_unsure, begin_value, allowed)
            allowed[pieces.broken] = False
        if not self._has_value:
            allowed[pieces.blank] = False
            allowed[pieces.space] = not self._is_spaced
        may_stop = self._has_value and any(text.accepts(self._end) for text in self._texts())
        while True:
            token = among(allowed, may_stop)
            if not pieces.is_unsure[token] or self._text.fits(self._meaning(token)):
                return token
            allowed[token] = False

    def _take(self, token: int) -> bool:
        text = self._meaning(token)
        if not text:
            self._is_spaced = True
            return self._text.closing_tokens <= self.left
        piece = self._tokenizer.token_bytes(token)
        solid = (self._solid or self._text.copy()) if not piece.strip() else None
        tokens = [token] if text == piece else self._tokens_of(token, text)
        if not self._text.push(text, tokens, self.left):
            return False
        self._solid, self._has_value = solid, True
        return True

    def _settled(self) -> int:
        return len(self._texts()[-1].written)

    def _ending(self) -> tuple[bytes, bytes]:
        for text in reversed(self._texts()):
            if text.accepts(self._end):
                return text.written, self._end
        return super()._ending()

    def _texts(self) -> list[JsonText]:
        return [self._text, self._solid] if self._solid else [self._text]

    def _meaning(self, token: int) -> bytes:
        """Return what a token adds to the JSON text; nothing if it is white space before it."""
        if self._kind == "boolean":
            return self._pieces.words[token]
        piece = self._tokenizer.token_bytes(token)
        if not self._has_value:
            piece = piece.lstrip()
        if self._kind == "string" and self._pieces.is_escaped[token]:
            return b"".join(_ESCAPES.get(byte, bytes([byte])) for byte in piece)
        return piece

    def _tokens_of(self, token: int, text: bytes) -> list[int]:
        unspaced = int(self._pieces.unspaced[token])
        if unspaced >= 0 and self._tokenizer.token_bytes(unspaced) == text:
            return [unspaced]
        return self._tokenizer.encode(text.decode())


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pieces:
    """What the tokens of a tokenizer are, for bare values.

    Attributes:
        unspaced: [V] int64, the token without spaces before it, itself where there are none; -1: no
            such token.
        blank: ids of tokens of white space alone.
        space: ids of those of one space.
        is_escaped: [V] bool, whether it has characters that JSON escapes.
        is_unsure: [V] bool, whether it is one of these, or has spaces and `unspaced` is -1; whether
            a grammar allows it is not told by that for tokens.
        first: [V] uint8, first byte of what such a token means in JSON.
        broken: ids of those with such characters and with a part of another.
        is_number: [V] bool, whether a number may hold it.
        is_word: [V] bool, whether it begins to say yes or no.
        words: by such a token what it means in JSON.
    """

    unspaced: NDArray[np.int64]
    blank: NDArray[np.int64]
    space: NDArray[np.int64]
    is_escaped: NDArray[np.bool_]
    is_unsure: NDArray[np.bool_]
    first: NDArray[np.uint8]
    broken: NDArray[np.int64]
    is_number: NDArray[np.bool_]
    is_word: NDArray[np.bool_]
    words: dict[int, bytes]


_known: WeakKeyDictionary[Tokenizer, _Pieces] = WeakKeyDictionary()
_making = Lock()


def _pieces_of(tokenizer: Tokenizer) -> _Pieces:
    with _making:
        if tokenizer not in _known:
            _known[tokenizer] = _make_pieces(tokenizer)
        return _known[tokenizer]


def _make_pieces(tokenizer: Tokenizer) -> _Pieces:
    texts = [tokenizer.token_bytes(token) for token in range(tokenizer.size)]
    stripped = [text.lstrip(b" ") for text in texts]
    by_text = {text: token for token, text in enumerate(texts)}
    words = {token: word for token, text in enumerate(stripped) if (word := _word(text))}
    escaped, twinless, broken = [], [], []
    for token, text in enumerate(stripped):
        special = not _ESCAPES.keys().isdisjoint(text)
        if (special or text not in by_text) and not _is_whole(text):
            broken.append(token)
        elif special:
            escaped.append(token)
        elif text and text not in by_text:
            twinless.append(token)

    def ids(found: list[int]) -> NDArray[np.int64]:
        return np.array(found, np.int64)

    def flags(found: list[int]) -> NDArray[np.bool_]:
        return np.isin(np.arange(len(texts)), found)

    firsts = [_ESCAPES.get(text[0], text)[0] if text else 0 for text in stripped]
    return _Pieces(
        unspaced=ids([by_text.get(text, -1) if text else -1 for text in stripped]),
        blank=ids([token for token, text in enumerate(texts) if text.isspace()]),
        space=ids([token for token, text in enumerate(texts) if text == b" "]),
        is_escaped=flags(escaped),
        is_unsure=flags([*escaped, *twinless]),
        first=np.array(firsts, np.uint8),
        broken=ids(broken),
        is_number=flags([i for i, text in enumerate(texts) if text and _NUMBER.issuperset(text)]),
        is_word=flags(list(words)),
        words=words,
    )


def _is_whole(text: bytes) -> bool:
    return len(text.decode(errors="ignore").encode()) == len(text)


def _word(text: bytes) -> bytes | None:
    found = {word for said, word in _WORDS.items() if text and said.startswith(text.lower())}
    return found.pop() if len(found) == 1 else None
