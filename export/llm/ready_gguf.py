"""Look into a GGUF that somebody else has made.

In: a GGUF. Out: its config, rows of its embedding table, and whether it is the model that a config
and a tokenizer belong to. No weight is read but those rows.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from edge_et.export.errors import AssemblyError, UnreadableCheckpointError, VocabularyError
from edge_et.export.families.llm_family import LlmConfig
from edge_et.export.families.llm_registry import config_of_gguf

_EMBEDDINGS = "token_embd.weight"
_TOKENS = "tokenizer.ggml.tokens"
_SAME_KEYS = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
)
_CLOSE = 1e-5  # GGUFs hold float32


class ReadyGguf:
    """A language model in a GGUF.

    Attributes:
        path: the file.
        config: what its metadata says, as a config.json would.
    """

    def __init__(self, path: Path) -> None:
        """Read the metadata.

        Raises:
            UnreadableCheckpointError: not a GGUF, or keys are missing.
            UnsupportedModelError: an architecture of no family.
        """
        self.path = path
        self.config: LlmConfig = config_of_gguf(path)
        self._reader = gguf.GGUFReader(path)

    def require_config(self, settings: Mapping[str, Any], source: Path) -> None:
        """Check that it is the model that a config describes.

        Args:
            settings: of the language model, with the keys of transformers 5; those that are left
                out are not compared.
            source: where they stand, for messages.

        Raises:
            AssemblyError: a number differs.
        """
        own = {key: getattr(self.config, key) for key in _SAME_KEYS}
        own["rope_theta"] = self.config.rope_parameters.rope_theta
        own["rms_norm_eps"] = self.config.rms_norm_eps
        stated = dict(settings) | dict(settings.get("rope_parameters") or {})
        for key, value in own.items():
            told = stated.get(key)
            if isinstance(told, int | float) and not np.isclose(value, told, rtol=_CLOSE, atol=0):
                raise AssemblyError(
                    f"{self.path} has {key} {value:g}, and {source} says {told:g}: they are not "
                    "of one model"
                )

    def require_tokens(self, tokenizer_path: Path) -> None:
        """Check that each token of a tokenizer has the same number here.

        Args:
            tokenizer_path: tokenizer.json.

        Raises:
            VocabularyError: the tokenizer cannot be read.
            AssemblyError: a token has another number, or no row.
            UnreadableCheckpointError: the GGUF holds no tokens.
        """
        try:
            tokenizer = Tokenizer.from_file(str(tokenizer_path))
        except Exception as err:  # tokenizers raises bare exceptions
            raise VocabularyError(f"{tokenizer_path} cannot be read: {err}") from err
        if _TOKENS not in self._reader.fields:
            raise UnreadableCheckpointError(f"{self.path} has no key {_TOKENS}")
        here = self._reader.fields[_TOKENS].contents()
        for text, number in tokenizer.get_vocab(with_added_tokens=True).items():
            if number >= min(len(here), self.config.vocab_size) or here[number] != text:
                found = repr(here[number]) if number < len(here) else "nothing"
                raise AssemblyError(
                    f"token {number} is {text!r} in {tokenizer_path}, and {found} in "
                    f"{self.path}: they are not of one model"
                )

    def embeddings(self, tokens: tuple[int, ...]) -> NDArray[np.float32]:
        """Give rows of the embedding table, as llama.cpp reads them.

        Args:
            tokens: their numbers, each with a row.

        Returns:
            [M,D] float32, M the number of tokens.
        """
        table = next(tensor for tensor in self._reader.tensors if tensor.name == _EMBEDDINGS)
        rows = np.ascontiguousarray(table.data[list(tokens)])
        return np.asarray(gguf.dequantize(rows, table.tensor_type), np.float32)
