"""Pieces of JSON: what the tokens of a tokenizer stand for in numbers, strings and booleans.

In: a tokenizer. Out: arrays over its ids. Grammars are not known here.
"""

from dataclasses import dataclass
from threading import Lock
from typing import Final
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from edge_et.llm import Tokenizer

ESCAPES: Final = {code: b"\\u%04x" % code for code in range(0x20)} | dict(
    zip(b'"\\\b\f\n\r\t', (rb"\"", rb"\\", rb"\b", rb"\f", rb"\n", rb"\r", rb"\t"), strict=True)
)
"""By byte what stands for it in a string."""

_NUMBER: Final = frozenset(b"0123456789+-.eE")
_WORDS: Final = {b"true": b"true", b"yes": b"true", b"false": b"false", b"no": b"false"}


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenPieces:
    """Which tokens of a tokenizer stand for what in JSON.

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
        ends_string: [V] bool, whether it begins with a quote or a line feed.
        quote: the token of a quote alone; None: there is none.
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
    ends_string: NDArray[np.bool_]
    quote: int | None


_known: WeakKeyDictionary[Tokenizer, TokenPieces] = WeakKeyDictionary()
_making = Lock()


def pieces_of(tokenizer: Tokenizer) -> TokenPieces:
    """Return what the tokens of a tokenizer are; found once and kept as long as it."""
    with _making:
        if tokenizer not in _known:
            _known[tokenizer] = _make_pieces(tokenizer)
        return _known[tokenizer]


def _make_pieces(tokenizer: Tokenizer) -> TokenPieces:
    texts = [tokenizer.token_bytes(token) for token in range(tokenizer.size)]
    stripped = [text.lstrip(b" ") for text in texts]
    by_text = {text: token for token, text in enumerate(texts)}
    words = {token: word for token, text in enumerate(stripped) if (word := _word(text))}
    escaped, twinless, broken = [], [], []
    for token, text in enumerate(stripped):
        special = not ESCAPES.keys().isdisjoint(text)
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

    firsts = [ESCAPES.get(text[0], text)[0] if text else 0 for text in stripped]
    return TokenPieces(
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
        ends_string=flags([token for token, text in enumerate(texts) if text[:1] in (b'"', b"\n")]),
        quote=by_text.get(b'"'),
    )


def _is_whole(text: bytes) -> bool:
    return len(text.decode(errors="ignore").encode()) == len(text)


def _word(text: bytes) -> bytes | None:
    found = {word for said, word in _WORDS.items() if text and said.startswith(text.lower())}
    return found.pop() if len(found) == 1 else None
