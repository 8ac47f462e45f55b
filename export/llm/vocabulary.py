"""Read the vocabulary of a GGUF from tokenizer.json.

In: a folder with tokenizer.json (byte-level BPE) and, where there, tokenizer_config.json and
config.json. Out: tokens, their types, merges, special ids, and llama.cpp's name for the
pre-tokenizer. edge-et itself tokenizes by tokenizer.json; the GGUF's copy is for other programs.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf

from edge_et.export.checkpoint.checkpoint_folder import read_json
from edge_et.export.errors import UnknownPreTokenizerError, VocabularyError

_QWEN2_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

_LLAMA3_PATTERN = _QWEN2_PATTERN.replace(r"|\p{N}|", r"|\p{N}{1,3}|")
_QWEN35_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}"
    r"| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def _split_by(pattern: str) -> list[dict[str, Any]]:
    return [
        {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated"},
        {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False},
    ]


# What decides the splitting, by llama.cpp's names (llama-vocab.cpp, `tokenizer_pre`).
_PRE_TOKENIZERS: dict[str, list[dict[str, Any]]] = {
    "smollm": [
        {"type": "Digits", "individual_digits": True},
        {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True},
    ],
    "qwen2": _split_by(_QWEN2_PATTERN),
    "lfm2": _split_by(_LLAMA3_PATTERN),
    "qwen35": _split_by(_QWEN35_PATTERN),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Vocabulary:
    """The vocabulary as a GGUF holds it.

    Attributes:
        pre_tokenizer: llama.cpp's name for the rules that split text before the merges.
        tokens: the text of each id, one for every row of the embedding table.
        types: kind of each id.
        special: merges, special ids and chat template.
    """

    pre_tokenizer: str
    tokens: list[str]
    types: list[gguf.TokenType]
    special: gguf.SpecialVocab

    def add_to(self, writer: gguf.GGUFWriter) -> None:
        """Add everything to a GGUF's metadata."""
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(self.pre_tokenizer)
        writer.add_token_list(self.tokens)
        writer.add_token_types(self.types)
        self.special.add_to_gguf(writer, quiet=True)


def read_vocabulary(folder: Path, rows: int, pre_tokenizer: str | None = None) -> Vocabulary:
    """Read the vocabulary of a checkpoint.

    Args:
        folder: the checkpoint.
        rows: rows of the embedding table; rows beyond the tokenizer become unused tokens [PADn].
        pre_tokenizer: llama.cpp's name; None recognises it from tokenizer.json.

    Returns:
        The vocabulary, `rows` tokens long.

    Raises:
        UnreadableCheckpointError: tokenizer.json is missing or not JSON.
        UnknownPreTokenizerError: the name is not known, or the rules are not recognised.
        VocabularyError: not a byte-level BPE, ids twice or beyond the table, damaged content.
    """
    path = folder / "tokenizer.json"
    content = read_json(path)
    if (content.get("model") or {}).get("type") != "BPE":
        raise VocabularyError(f"{path} is not a BPE tokenizer: no other kind is supported")
    pre = _pre_tokenizer(path, content, pre_tokenizer)
    try:
        texts, types = _tokens(content)
        special = gguf.SpecialVocab(folder, load_merges=True, n_vocab=rows)
    except (AttributeError, KeyError, TypeError, ValueError) as err:
        raise VocabularyError(f"{path} is damaged: {type(err).__name__}: {err}") from err
    if texts and max(texts) >= rows:
        raise VocabularyError(f"{path} has id {max(texts)}, the embedding table {rows} rows")
    return Vocabulary(
        pre_tokenizer=pre,
        tokens=[texts.get(row, f"[PAD{row}]") for row in range(rows)],
        types=[types.get(row, gguf.TokenType.UNUSED) for row in range(rows)],
        special=special,
    )


def _tokens(content: dict[str, Any]) -> tuple[dict[int, str], dict[int, gguf.TokenType]]:
    texts: dict[int, str] = {}
    for text, token in content["model"]["vocab"].items():
        if not isinstance(token, int):
            raise TypeError(f"the id of {text!r} is {token!r}")
        if token in texts:
            raise ValueError(f"id {token} is both {texts[token]!r} and {text!r}")
        if " " in text or "\0" in text:  # byte-level tokens write them as other characters
            raise ValueError(f"the token {text!r} holds a space or a null character")
        texts[token] = text
    types = dict.fromkeys(texts, gguf.TokenType.NORMAL)
    for added in content.get("added_tokens", []):
        token, text = added["id"], added["content"]
        if texts.setdefault(token, text) != text:
            raise ValueError(f"id {token} is both {texts[token]!r} and {text!r}")
        # Qwen marks some of its control tokens as not special; llama.cpp overrides that at loading.
        special = added.get("special", False) or (text.startswith("<|") and text.endswith("|>"))
        types[token] = gguf.TokenType.CONTROL if special else gguf.TokenType.USER_DEFINED
    return texts, types


def _pre_tokenizer(path: Path, content: dict[str, Any], named: str | None) -> str:
    known = ", ".join(_PRE_TOKENIZERS)
    if named is not None:
        if named not in _PRE_TOKENIZERS:
            raise UnknownPreTokenizerError(f"unknown pre-tokenizer {named!r}; known: {known}")
        return named
    outer = content.get("pre_tokenizer") or {}
    steps = outer.get("pretokenizers", [outer])
    for name, expected in _PRE_TOKENIZERS.items():
        if len(steps) == len(expected) and all(
            rule.items() <= step.items() for rule, step in zip(expected, steps, strict=True)
        ):
            return name
    raise UnknownPreTokenizerError(
        f"{path} splits text by rules that are not recognised; name the pre-tokenizer: {known}"
    )
