"""Look into a GGUF that somebody else has made.

In: a GGUF. Out: its config, rows of its embedding table, and whether it is the model that a config
and a tokenizer belong to. No weight is read but those rows.
"""

from pathlib import Path
from typing import Any

import gguf
import msgspec
import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from edge_et.export.errors import (
    AssemblyError,
    LeftoverTensorError,
    MissingTensorError,
    TensorValueError,
    UnreadableCheckpointError,
    UnsupportedModelError,
    VocabularyError,
)
from edge_et.export.families.llm_family import LlmConfig, gguf_name, tensor_shapes
from edge_et.export.families.llm_registry import config_of_gguf, family_of, open_gguf, parse_config

_EMBEDDINGS, _OUTPUT = "token_embd.weight", "output.weight"
_TOKENS = "tokenizer.ggml.tokens"
_SCALING = "rope.scaling.type"
# What llama.cpp's own converter writes of our families; another key would change what is computed.
_KEYS = {
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.layer_norm_rms_epsilon",
    "attention.value_length",
    "block_count",
    "context_length",
    "embedding_length",
    "feed_forward_length",
    "rope.dimension_count",
    "rope.freq_base",
    "vocab_size",
}
_SAME = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "key_value_heads",
    "head_width",
    "vocab_size",
    "rms_norm_eps",
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
            UnsupportedModelError: an architecture of no family, or a setting that no config of it
                has.
            MissingTensorError: a tensor is not there.
            LeftoverTensorError: there are others than the architecture has.
        """
        self.path = path
        self._reader = open_gguf(path)
        self.config: LlmConfig = config_of_gguf(path, self._reader)
        self._require_known()

    @property
    def settings(self) -> dict[str, Any]:
        """The config as a config.json has it, but for what such a file may leave out."""
        settings: dict[str, Any] = msgspec.to_builtins(self.config)
        for name in ("rope_parameters", "tie_word_embeddings"):
            del settings[name]
        return settings

    def require_config(self, settings: dict[str, Any], source: Path) -> None:
        """Check that it is the model that a config describes.

        Args:
            settings: all settings of the language model, as its own config.json would have them.
            source: where they stand, for messages.

        Raises:
            UnreadableCheckpointError: a setting is of a wrong type.
            UnsupportedModelError: a setting that no GGUF of the family has.
            AssemblyError: a number differs.
        """
        stated = parse_config(settings, source)
        if stated.architectures != self.config.architectures:
            raise AssemblyError(
                f"{self.path} is of {self.config.architectures}, and {source} of "
                f"{stated.architectures}: they are not of one model"
            )
        told = {name: getattr(stated, name) for name in _SAME}
        here = {name: getattr(self.config, name) for name in _SAME}
        told["rope_theta"] = stated.rope_parameters.rope_theta
        here["rope_theta"] = self.config.rope_parameters.rope_theta
        for name, value in told.items():
            if not np.isclose(here[name], value, rtol=_CLOSE, atol=0):
                raise AssemblyError(
                    f"{self.path} has {name} {here[name]:g}, and {source} says {value:g}: they are "
                    "not of one model"
                )
        if self.config.tie_word_embeddings and not stated.tie_word_embeddings:
            raise AssemblyError(
                f"{self.path} has no {_OUTPUT}, and by {source} its head is not tied to the "
                "embeddings: they are not of one model"
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

        Raises:
            TensorValueError: a value is NaN or infinite.
        """
        table = next(tensor for tensor in self._reader.tensors if tensor.name == _EMBEDDINGS)
        rows = np.ascontiguousarray(table.data[list(tokens)])
        values = np.asarray(gguf.dequantize(rows, table.tensor_type), np.float32)
        if not np.isfinite(values).all():
            raise TensorValueError(f"{_EMBEDDINGS} in {self.path}", "holds NaN or infinity")
        return values

    def _require_known(self) -> None:
        """Refuse what llama.cpp would compute and no config of the family asks for."""
        family = family_of(self.config)
        prefix = f"{gguf.MODEL_ARCH_NAMES[family.architecture]}."
        for name, field in self._reader.fields.items():
            key = name.removeprefix(prefix)
            if not name.startswith(prefix) or key in _KEYS:
                continue
            if key == _SCALING and field.contents() == "none":
                continue
            raise UnsupportedModelError(f"{self.path} has the key {name}: not supported")
        shapes = tensor_shapes(family, self.config)
        expected = {gguf_name(family, self.config, name) for name in shapes}
        present = {tensor.name for tensor in self._reader.tensors}
        if missing := sorted(expected - present):
            raise MissingTensorError(str(self.path), missing)
        if leftover := sorted(present - expected):
            raise LeftoverTensorError(str(self.path), leftover)
