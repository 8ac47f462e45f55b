"""Text to token ids and back.

In: a tokenizer.json with byte-level BPE. Out: ids; and text from ids that arrive one by one, never
with half a character. Special tokens are recognised in trusted text only, by the caller's choice;
models and prompts are not known here.
"""

import codecs
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec
from tokenizers import Tokenizer as NativeTokenizer

from edge_et.errors import ModelFileError
from edge_et.foreign_errors import raised_by
from edge_et.llm.memory import trim_heap


class Tokenizer:
    """A tokenizer.json.

    Attributes:
        size: one more than the largest id; the model may have further rows, which mean nothing.
    """

    def __init__(self, path: Path) -> None:
        """Read the file.

        Args:
            path: tokenizer.json.

        Raises:
            ModelFileError: the file is none, or not of a kind that is supported.
        """
        self._native, added, silent, self.size = _read(path)
        trim_heap()
        self._added = added
        self._added_ids = frozenset(added.values())
        self._added_text = {number: text for text, number in added.items() if number not in silent}
        self._silent = silent
        self._of_alphabet: dict[bytes, dict[int, bytes]] = {}
        longest_first = sorted(added, key=len, reverse=True)
        self._split = re.compile("|".join(map(re.escape, longest_first))) if added else None

    def special_id(self, text: str) -> int | None:
        """Return the id of an added token; None where there is no such token."""
        return self._added.get(text)

    def is_added(self, token: int) -> bool:
        """Return whether a token is an added one, which no text is encoded to."""
        return token in self._added_ids

    def split_special(self, text: str) -> list[str | int]:
        """Split trusted text at its added tokens.

        Args:
            text: text from the bundle, never from a user or a model.

        Returns:
            Plain text and ids of added tokens, in order; the longest token wins where two could
            begin.
        """
        if self._split is None:
            return [text]
        parts: list[str | int] = []
        end = 0
        for match in self._split.finditer(text):
            parts += [text[end : match.start()], self._added[match.group()]]
            end = match.end()
        return [part for part in [*parts, text[end:]] if part != ""]

    def encode(self, text: str) -> list[int]:
        """Turn text into ids; whatever it holds is plain text.

        Args:
            text: any text without lone surrogates.
        """
        ids: list[int] = self._native.encode(text, add_special_tokens=False).ids
        return ids

    def token_bytes(self, token: int) -> bytes:
        """Return what a token stands for: UTF-8, possibly a part of a character.

        Args:
            token: an id below `size`; special tokens stand for nothing.
        """
        if token in self._silent:
            return b""
        if token in self._added_text:
            return self._added_text[token].encode()
        piece = self._native.id_to_token(token)
        if piece is None:
            return b""
        if not _BYTE_OF.keys() >= set(piece):  # no byte-level token, and stands for its own text
            return piece.encode()
        return bytes(_BYTE_OF[character] for character in piece)

    def tokens_of(self, alphabet: bytes) -> Mapping[int, bytes]:
        """Return the tokens that consist of some bytes alone, with what they stand for.

        Added tokens are not among them. The first call for an alphabet looks at every token.

        Args:
            alphabet: the bytes.
        """
        if alphabet not in self._of_alphabet:
            letters = {letter for letter, byte in _BYTE_OF.items() if byte in alphabet}
            self._of_alphabet[alphabet] = {
                token: self.token_bytes(token)
                for piece, token in self._native.get_vocab(with_added_tokens=False).items()
                if letters.issuperset(piece) and not self.is_added(token)
            }
        return self._of_alphabet[alphabet]

    def decode(self, tokens: Iterable[int]) -> str:
        """Return the text of some ids, broken characters as U+FFFD.

        Args:
            tokens: ids below `size`.
        """
        return b"".join(map(self.token_bytes, tokens)).decode(errors="replace")


class TextStream:
    """Text from ids that arrive one by one; holds back what is not yet a whole character."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        """Begin with no text."""
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token: int) -> str:
        """Take a token and return the text that is now complete, possibly none."""
        return self._decoder.decode(self._tokenizer.token_bytes(token))

    def finish(self) -> str:
        """Return U+FFFD if the last character never became complete, else nothing."""
        return self._decoder.decode(b"", final=True)


class _AddedToken(msgspec.Struct):
    """An entry of `added_tokens`; how it is looked for in texts is of no interest here."""

    content: Annotated[str, msgspec.Meta(min_length=1)]
    id: Annotated[int, msgspec.Meta(ge=0, le=2**24)]
    special: bool


def _read(path: Path) -> tuple[NativeTokenizer, dict[str, int], set[int], int]:
    """Read a tokenizer.json.

    Returns:
        The library's tokenizer without added tokens; these by their text; those of them that are
        special; and one more than the largest id.

    Raises:
        ModelFileError: the file is none, or not of a kind that is supported.
    """
    try:
        content = msgspec.json.decode(path.read_bytes())
        entries = msgspec.convert(content.get("added_tokens", ()), tuple[_AddedToken, ...])
        added = {entry.content: entry.id for entry in entries}
        silent = {entry.id for entry in entries if entry.special}
        if not _is_byte_level(content["decoder"]):
            raise ModelFileError(path, "only byte-level BPE tokenizers are supported")
        # The library recognises added tokens in every text it encodes, those that are not
        # "special" even when it is asked not to; so it must not know any. Padding, truncation
        # and a BOS token would be additions of its own.
        plain = content | dict.fromkeys(("truncation", "padding", "post_processor"))
        native = NativeTokenizer.from_str(
            msgspec.json.encode(plain | {"added_tokens": []}).decode()
        )
        size = max([*native.get_vocab().values(), *added.values()]) + 1
    except ModelFileError:
        raise
    except Exception as err:  # the tokenizers library raises bare Exceptions
        if not raised_by(err, "tokenizers", "msgspec"):
            raise
        if isinstance(err, OSError | msgspec.DecodeError | KeyError | TypeError | AttributeError):
            raise ModelFileError(path, f"it is no tokenizer.json: {err!r}") from err
        raise ModelFileError(path, f"it is no usable tokenizer.json: {err}") from err
    return native, added, silent, size


def _is_byte_level(decoder: Any) -> bool:
    if decoder["type"] == "Sequence":
        return any(_is_byte_level(part) for part in decoder["decoders"])
    return bool(decoder["type"] == "ByteLevel")


def _byte_alphabet() -> dict[str, int]:
    """Return the byte that each character of a byte-level token stands for.

    Source: `bytes_to_unicode` of GPT-2's encoder.py: printable Latin-1 bytes stand for themselves,
    the others are numbered from U+0100 on.
    """
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in printable]
    alphabet = {chr(byte): byte for byte in printable}
    return alphabet | {chr(0x100 + index): byte for index, byte in enumerate(others)}


_BYTE_OF = _byte_alphabet()
