"""Make a tokenizer of any size by rules; no text is downloaded or learnt from.

Byte-level BPE. Its tokens are all bytes; a space with one, two or three small letters behind it;
two small letters; and as many spaces with four letters as there is room for.
"""

import json
from collections.abc import Iterator, Sequence
from itertools import chain, islice, product
from pathlib import Path
from string import ascii_lowercase
from typing import Any

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
"""Added behind the others, in this order."""

BLANK_LINE = ("Ċ", "Ċ")
"""The merge of two line feeds, as byte-level BPE writes them."""

_SPACE = "Ġ"  # how byte-level BPE writes it
_STRIDE = 104_729  # a prime, so that every word of four letters comes once, and they are mixed

# Of Qwen2 and Qwen3, tokenizer.json.
_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def new_tokenizer(
    size: int, marks: Sequence[str] = (), first: Sequence[tuple[str, str]] = ()
) -> dict[str, Any]:
    """Make the content of a tokenizer.json.

    Args:
        size: tokens besides the special ones, at least the 256 bytes.
        marks: special tokens behind `SPECIAL`.
        first: what is merged before all else.
    """
    alphabet = _byte_characters()
    merges = list(islice(chain(first, _merges()), size - len(alphabet)))
    tokens = [*alphabet, *(left + right for left, right in merges)]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {
                "id": size + index,
                "content": text,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": True,
            }
            for index, text in enumerate((*SPECIAL, *marks))
        ],
        "normalizer": None,
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                {
                    "type": "Split",
                    "pattern": {"Regex": _SPLIT},
                    "behavior": "Isolated",
                    "invert": False,
                },
                {
                    "type": "ByteLevel",
                    "add_prefix_space": False,
                    "trim_offsets": False,
                    "use_regex": False,
                },
            ],
        },
        "post_processor": None,
        "decoder": {
            "type": "ByteLevel",
            "add_prefix_space": False,
            "trim_offsets": False,
            "use_regex": False,
        },
        "model": {
            "type": "BPE",
            "vocab": {text: index for index, text in enumerate(tokens)},
            "merges": merges,
        },
    }


def write_tokenizer(path: Path, content: dict[str, Any]) -> None:
    """Write a tokenizer.json."""
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


def _merges() -> Iterator[tuple[str, str]]:
    """Yield what is merged with what; each half is a byte or was merged before."""
    letters = ascii_lowercase
    for count in range(3):
        for before in product(letters, repeat=count):
            yield from ((_SPACE + "".join(before), letter) for letter in letters)
    yield from product(letters, repeat=2)
    words = len(letters) ** 4
    for index in range(words):
        number = index * _STRIDE % words
        word = ""
        for _ in range(4):
            number, letter = divmod(number, len(letters))
            word += letters[letter]
        yield _SPACE + word[:3], word[3]


def _byte_characters() -> list[str]:
    """Return the characters that stand for the 256 bytes, as `bytes_to_unicode` of GPT-2 has it."""
    from tokenizers.pre_tokenizers import ByteLevel

    return sorted(ByteLevel.alphabet())
