"""Writing a single value as a model would without JSON.

In: a grammar of one value, alone or in an object of one property. Out: as `JsonWriter`. The model
writes the value as if it were free text: frame and quotes are not shown to it, white space around
the value is dropped, what JSON escapes is escaped for it, and "yes" is true. Models that were tuned
to answer in plain words do that better than JSON.
"""

import re
from typing import Any, Final, Literal

import numpy as np

from edge_et.generation.json_grammar import JsonGrammar
from edge_et.generation.json_schema import Schema, resolve
from edge_et.generation.json_text import JsonText
from edge_et.generation.json_writer import Among, JsonWriter
from edge_et.generation.token_pieces import ESCAPES
from edge_et.llm import Tokenizer

BareKind = Literal["string", "number", "boolean"]

_FRAME: Final = frozenset(
    {"type", "properties", "additionalProperties", "required", "$defs", "definitions"}
)
_VALUE_FRAME: Final = re.compile(r'(?:\{"(?:[^"\\]|\\.)*": )?"?')
_KINDS: Final[dict[object, BareKind]] = {
    "string": "string",
    "integer": "number",
    "number": "number",
    "boolean": "boolean",
}


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

    def _begin_with(self, forced: str) -> str:
        if self._text.accepts(forced.encode()):
            return forced
        # What all values begin with is left to the model, which is shown nothing of it.
        frame = _VALUE_FRAME.match(forced)
        return forced if frame is None else frame.group()

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
        may_stop = self._has_value and any(map(self._may_end_value, self._texts()))
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

    def _may_end_value(self, text: JsonText) -> bool:
        return text.accepts(self._end)

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
            return b"".join(ESCAPES.get(byte, bytes([byte])) for byte in piece)
        return piece

    def _tokens_of(self, token: int, text: bytes) -> list[int]:
        unspaced = int(self._pieces.unspaced[token])
        if unspaced >= 0 and self._tokenizer.token_bytes(unspaced) == text:
            return [unspaced]
        return self._tokenizer.encode(text.decode())


class LeadingWriter(BareWriter):
    """Writes an object of which the model sees the first value, a text, bare, and the rest as JSON.

    Before that value a small model copies the name that stands there, or whole phrases where it
    sees a quote alone. For `JsonWriter.leads_with_text`, and tokenizers that have a quote.
    """

    def __init__(self, grammar: JsonGrammar, tokenizer: Tokenizer, budget: int) -> None:
        """Begin a text; see `JsonWriter`."""
        super().__init__(grammar, tokenizer, budget, "string")
        self._leads = True

    @property
    def is_done(self) -> bool:
        """Whether there is nothing to choose."""
        return self._text.is_whole

    def _choose(self, among: Among) -> int:
        quote = self._pieces.quote
        if self._leads and not (self._has_value and self._text.forced().startswith(b'"')):
            token = super()._choose(among)
            if token not in self._stop_ids or self.is_cut or quote is None:
                return token
            # White space behind the value is no part of it.
            if self._solid is not None and self._may_end_value(self._solid):
                self._text = self._solid
            self._leads, self._solid = False, None
            return quote
        self._leads, self._solid = False, None
        return JsonWriter._choose(self, among)

    def _take(self, token: int) -> bool:
        return super()._take(token) if self._leads else JsonWriter._take(self, token)

    def _may_end_value(self, text: JsonText) -> bool:
        return text.fits(b'"')

    def _ending(self) -> tuple[bytes, bytes]:
        return JsonWriter._ending(self)
