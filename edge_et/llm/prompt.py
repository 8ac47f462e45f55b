"""Prompts: from a bundle's templates and a caller's texts to segments of tokens and images.

In: templates (trusted), a question and an extraction (not trusted), image tokens. Out: segments,
what a context evaluates. How they are evaluated is not known here.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from edge_et.bundle import ChatSpec
from edge_et.image import ImageTokens
from edge_et.llm.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class TokenSegment:
    """Token ids, one cache position each.

    Attributes:
        ids: the tokens.
        generated: whether the model wrote them, one after another, rather than read them at once;
            see `edge_et.llm.kv_positions` for why that is remembered.
    """

    ids: tuple[int, ...]
    generated: bool = False

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, slots=True, eq=False)
class ImageSegment:
    """Image tokens, one cache position each."""

    image: ImageTokens

    def __len__(self) -> int:
        return len(self.image.rows)


Segment = TokenSegment | ImageSegment


@dataclass(frozen=True, slots=True)
class Trusted:
    """Text from the bundle: its special tokens are special."""

    text: str


@dataclass(frozen=True, slots=True)
class Plain:
    """Text from elsewhere: whatever it holds is text."""

    text: str


Part = Trusted | Plain | ImageTokens


def fill(
    template: str, values: Mapping[str, str], image: ImageTokens | Iterable[Part] | None = None
) -> list[Part]:
    """Put texts and images into a template's places.

    Args:
        template: text with the placeholders ``{image}`` and those named in `values`.
        values: text by placeholder.
        image: what ``{image}`` stands for, or several parts that do; needed where the template has
            it.
    """
    parts: list[Part] = []
    for piece in re.split(r"(\{[a-z_]+\})", template):
        name = piece[1:-1]
        if piece == "{image}" and image is not None:
            parts += [image] if isinstance(image, ImageTokens) else image
        elif piece.startswith("{") and name in values:
            parts.append(Plain(values[name]))
        else:
            parts.append(Trusted(piece))
    return parts


def in_a_row(images: Iterable[ImageTokens], between: str) -> list[Part]:
    """Return images one after the other, with trusted text between two of them."""
    parts: list[Part] = []
    for image in images:
        parts += [Trusted(between), image] if parts else [image]
    return parts


def system_turn(chat: ChatSpec, text: str | Sequence[Part] = "") -> list[Part]:
    """Return the opening of a conversation.

    Args:
        chat: the chat format.
        text: instructions in place of the chat format's own, not trusted where they are no parts;
            empty: its own, and no turn where it has none.
    """
    default = chat.system
    opening = [Trusted(chat.start)] if chat.start else []
    if default is None and not text:
        return list[Part](opening)
    opening.append(_begin_turn(chat, chat.roles.system))
    if not text:
        return [*opening, Trusted(default or ""), *end_turn(chat)]
    # White space before a default belongs to the turn: some templates have it before any text.
    gap = (default or "")[: len(default or "") - len((default or "").lstrip())]
    told = [Plain(text)] if isinstance(text, str) else text
    return [*opening, Trusted(gap), *told, *end_turn(chat)]


def user_turn(chat: ChatSpec, content: Iterable[Part], opening: str = "") -> list[Part]:
    """Return a user's turn and the opening of the assistant's.

    Args:
        chat: the chat format.
        content: what the user says.
        opening: trusted text with which the assistant begins.
    """
    content = [part for part in content if part != Trusted("")]
    shows = bool(content) and isinstance(content[0], ImageTokens)
    start = _begin_turn(chat, chat.roles.user, before_text=not shows)
    return [start, *content, *begin_reply(chat, opening)]


def assistant_turn(chat: ChatSpec, text: str) -> list[Part]:
    """Return a turn that the assistant is told to have said; its text is not trusted."""
    return [_begin_assistant_turn(chat), *told_reply(chat, text), *end_turn(chat)]


def told_reply(chat: ChatSpec, text: str) -> list[Part]:
    """Return text that the assistant is told to have begun its turn with; it is not trusted."""
    return [Trusted(chat.before_text), Plain(text)]


def begin_user_turn(chat: ChatSpec) -> list[Part]:
    """Return what opens a user's turn that begins with text."""
    return [_begin_turn(chat, chat.roles.user)]


def begin_reply(chat: ChatSpec, opening: str = "") -> list[Part]:
    """Return what closes a user's turn and opens the assistant's.

    Args:
        chat: the chat format.
        opening: trusted text with which the assistant begins.
    """
    return [*end_turn(chat), _begin_assistant_turn(chat, opening)]


def end_turn(chat: ChatSpec) -> list[Part]:
    """Return what closes the turn that the model has written."""
    return [Trusted(chat.turn_end)]


def _begin_turn(chat: ChatSpec, role: str, *, before_text: bool = True) -> Trusted:
    start = chat.turn_start.replace("{role}", role)
    return Trusted(start + chat.before_text * before_text)


def _begin_assistant_turn(chat: ChatSpec, opening: str = "") -> Trusted:
    start = chat.turn_start.replace("{role}", chat.roles.assistant)
    return Trusted(start + chat.assistant_start_suffix + opening)


def to_segments(parts: Iterable[Part], tokenizer: Tokenizer) -> tuple[Segment, ...]:
    """Tokenize a prompt.

    Texts that touch are tokenized as one run, wherever they come from; special tokens and images
    end a run.

    Args:
        parts: the prompt.
        tokenizer: the model's tokenizer.

    Returns:
        Segments; no two token segments touch, none is empty.
    """
    segments: list[Segment] = []
    ids: list[int] = []
    run = ""
    for part in parts:
        if isinstance(part, Plain):
            run += part.text
        elif isinstance(part, Trusted):
            for piece in tokenizer.split_special(part.text):
                if isinstance(piece, str):
                    run += piece
                else:
                    ids += [*tokenizer.encode(run), piece]
                    run = ""
        else:
            ids += tokenizer.encode(run)
            run = ""
            if ids:
                segments.append(TokenSegment(tuple(ids)))
                ids = []
            segments.append(ImageSegment(part))
    ids += tokenizer.encode(run)
    if ids:
        segments.append(TokenSegment(tuple(ids)))
    return tuple(segments)


def without_unread_rows(segments: Iterable[Segment], held: int) -> tuple[Segment, ...]:
    """Return a prompt without those rows of its image that were not evaluated.

    A cache knows an image row by row, so what is left of it agrees with the beginning of the whole.

    Args:
        segments: the prompt.
        held: how many positions of it, from the first one on, were evaluated.
    """
    left: list[Segment] = []
    begin = 0
    for segment in segments:
        rows = max(0, held - begin)
        begin += len(segment)
        if isinstance(segment, TokenSegment):
            left.append(segment)
        elif rows:
            left.append(ImageSegment(replace(segment.image, rows=segment.image.rows[:rows])))
    return tuple(left)


def count_positions(segments: Iterable[Segment]) -> int:
    """Return how many cache positions some segments take."""
    return sum(map(len, segments))
