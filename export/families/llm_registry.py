"""The registry: `architectures` of config.json -> the hooks of that family.

The config of a GGUF can be read back too, since adapters are made for models that are at hand as
a GGUF alone.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import msgspec

from edge_et.bundle import check_gguf
from edge_et.errors import ModelFileError, UnreadableFileError
from edge_et.export.errors import UnreadableCheckpointError, UnsupportedModelError
from edge_et.export.families.llm_family import ROPE_THETA, Family, LlmConfig, Rope
from edge_et.export.families.llm_lfm2 import Lfm2
from edge_et.export.families.llm_llama import Llama
from edge_et.export.families.llm_qwen2 import Qwen2
from edge_et.export.families.llm_qwen3 import Qwen3
from edge_et.export.families.llm_qwen35 import Qwen35
from edge_et.export.families.refused import why_refused

FAMILIES: dict[str, Family] = {
    "LlamaForCausalLM": Llama(),
    "Qwen2ForCausalLM": Qwen2(),
    "Qwen3ForCausalLM": Qwen3(),
    "Qwen3_5ForCausalLM": Qwen35(),
    "Lfm2ForCausalLM": Lfm2(),
}


def parse_config(settings: dict[str, Any], path: Path) -> LlmConfig:
    """Parse a model's settings and refuse what a GGUF of its family cannot express.

    Args:
        settings: as config.json of the language model alone has them, from `read_config`.
        path: where they come from, for messages.

    Returns:
        The config.

    Raises:
        UnreadableCheckpointError: a key is missing or of a wrong type.
        UnsupportedModelError: a setting that would be lost.
    """
    family = FAMILIES.get(_one_of(settings.get("architectures")), Family())
    settings = family.shared_settings(settings, path)
    rope = {"rope_theta": ROPE_THETA, **(settings.get("rope_parameters") or {})}
    if per_layer := [kind for kind, value in rope.items() if isinstance(value, dict)]:
        raise UnsupportedModelError(
            f"{path} asks for other rope_parameters in layers of {', '.join(per_layer)}: "
            "not supported"
        )
    try:
        config = msgspec.convert({**settings, "rope_parameters": rope}, LlmConfig)
    except (msgspec.ValidationError, UnicodeEncodeError) as err:  # lone surrogates make the latter
        raise UnreadableCheckpointError(f"{path}: {err}") from err
    rope_type = config.rope_parameters.rope_type
    kinds = sorted(set(config.layer_types or []) - family.layer_kinds)
    partial = {config.partial_rotary_factor, config.rope_parameters.partial_rotary_factor}
    # Qwen's configs name a window that they do not use; Llama's cache of transformers uses it.
    window = config.sliding_window is not None and config.use_sliding_window is None
    lost = {
        f"rope type {rope_type!r}": rope_type != "default",
        f"activation {config.hidden_act!r}": config.hidden_act != "silu",
        "attention_bias": config.attention_bias,
        "mlp_bias": config.mlp_bias,
        "is_causal false": not config.is_causal,
        "partial_rotary_factor": not partial <= {None, 1.0},
        "sliding_window": window,
        "use_sliding_window": bool(config.use_sliding_window),
        f"layers of {', '.join(kinds)}": bool(kinds),
    }
    if unsupported := [setting for setting, present in lost.items() if present]:
        raise UnsupportedModelError(f"{path} asks for {', '.join(unsupported)}: not supported")
    return config


def _one_of(architectures: Any) -> str:
    match architectures:
        case [str(architecture)]:
            return architecture
    return ""


def family_of(config: LlmConfig) -> Family:
    """Find the hooks for a config.

    Args:
        config: the model's config.

    Returns:
        The family of its one architecture.

    Raises:
        UnsupportedModelError: no such family; the message lists those that exist.
    """
    if (architecture := _one_of(config.architectures)) in FAMILIES:
        return FAMILIES[architecture]
    raise UnsupportedModelError(
        f"architectures {config.architectures} cannot be exported; known: {', '.join(FAMILIES)}"
    )


def open_gguf(path: Path) -> gguf.GGUFReader:
    """Open a GGUF after looking through its head.

    Args:
        path: the file.

    Raises:
        UnreadableCheckpointError: not a GGUF.
    """
    try:
        check_gguf(path)
        return gguf.GGUFReader(path)
    except (ModelFileError, UnreadableFileError) as err:
        raise UnreadableCheckpointError(f"{path} cannot be read as a GGUF: {err.reason}") from err
    except Exception as err:  # a damaged file makes the reader raise nearly anything
        raise UnreadableCheckpointError(f"{path} cannot be read as a GGUF: {err}") from err


@dataclass(frozen=True, slots=True)
class GgufModel:
    """What a GGUF of one of the families is.

    Attributes:
        architecture: as it names it.
        embedding_width: D.
        vocabulary_size: rows of the embedding table.
    """

    architecture: str
    embedding_width: int
    vocabulary_size: int


def identify_gguf(path: Path, reader: gguf.GGUFReader | None = None) -> GgufModel:
    """Tell which model a GGUF holds.

    Args:
        path: a GGUF of one of the families.
        reader: of that file; None: it is opened.

    Raises:
        UnreadableCheckpointError: not a GGUF, or keys are missing.
        UnsupportedModelError: an architecture of no family.
    """
    reader = reader or open_gguf(path)
    architecture = _value(reader, path, "general.architecture")
    if architecture == "clip":
        raise UnsupportedModelError(
            f"{path} is a vision tower for llama.cpp (mmproj): take the GGUF of the language model"
        )
    table = next((t.shape for t in reader.tensors if t.name == "token_embd.weight"), None)
    if table is None:
        raise UnreadableCheckpointError(f"{path} has no embedding table")
    if len(table) != 2:
        raise UnreadableCheckpointError(
            f"{path}: the embedding table has {len(table)} axes, expected 2"
        )
    if reason := why_refused(architecture):
        raise UnsupportedModelError(f"{path} is of architecture {architecture!r}, which {reason}")
    known = [gguf.MODEL_ARCH_NAMES[family.architecture] for family in FAMILIES.values()]
    if architecture not in known:
        raise UnsupportedModelError(f"{path} is of architecture {architecture!r}; known: {known}")
    return GgufModel(
        architecture=architecture,
        embedding_width=_value(reader, path, f"{architecture}.embedding_length"),
        vocabulary_size=int(table[1]),
    )


def config_of_gguf(path: Path, reader: gguf.GGUFReader | None = None) -> LlmConfig:
    """Read the config of a GGUF's model back.

    Args:
        path: a GGUF of one of the families that take adapters.
        reader: of that file; None: it is opened.

    Returns:
        Its config, as far as tensor names, shapes and row orders depend on it.

    Raises:
        UnreadableCheckpointError: not a GGUF, or keys are missing.
        UnsupportedModelError: an architecture of no such family.
    """
    reader = reader or open_gguf(path)
    model = identify_gguf(path, reader)
    names = {
        gguf.MODEL_ARCH_NAMES[family.architecture]: key
        for key, family in FAMILIES.items()
        if family.takes_adapters
    }
    prefix = model.architecture
    if prefix not in names:
        raise UnsupportedModelError(f"{path} is of architecture {prefix!r}; known: {list(names)}")

    def value(key: str, default: Any = None) -> Any:
        return _value(reader, path, f"{prefix}.{key}", default)

    heads = value("attention.head_count")
    return LlmConfig(
        architectures=[names[prefix]],
        hidden_size=model.embedding_width,
        intermediate_size=value("feed_forward_length"),
        num_hidden_layers=value("block_count"),
        num_attention_heads=heads,
        num_key_value_heads=value("attention.head_count_kv", heads),
        head_dim=value("attention.key_length", model.embedding_width // heads),
        max_position_embeddings=value("context_length"),
        rms_norm_eps=value("attention.layer_norm_rms_epsilon"),
        rope_parameters=Rope(rope_theta=value("rope.freq_base", ROPE_THETA)),
        vocab_size=model.vocabulary_size,
        tie_word_embeddings=all(tensor.name != "output.weight" for tensor in reader.tensors),
    )


def _value(reader: gguf.GGUFReader, path: Path, key: str, default: Any = None) -> Any:
    if key in reader.fields:
        return reader.fields[key].contents()
    if default is None:
        raise UnreadableCheckpointError(f"{path} has no key {key}")
    return default
