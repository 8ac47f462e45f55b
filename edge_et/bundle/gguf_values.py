"""What a GGUF's metadata holds, as it is read: numbers, texts as bytes, lists.

In: nothing. Out: the values of a head, and the error that one of them is wrong.
"""

from dataclasses import dataclass
from typing import Any, Final

UINT32: Final = 4
INT32: Final = 5
FLOAT32: Final = 6
BOOL: Final = 7
STRING: Final = 8
ARRAY: Final = 9
"""Kinds of values, by their numbers in the file."""


@dataclass(frozen=True, slots=True)
class Value:
    """A value of the metadata: a number, text as bytes, or an array, of numbers if it is short."""

    kind: int
    content: Any
    item_kind: int | None = None
    count: int = 0


class DamagedError(Exception):
    """What is wrong, for the message."""


def shown(name: bytes) -> str:
    """Return a name as a message shows it: its beginning, in ASCII."""
    return ascii(name[:64].decode(errors="replace"))
