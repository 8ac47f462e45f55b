"""Small random checkpoints with trained tokenizers, made where a test asks for them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    Dinov2Config,
    Dinov2Model,
    Lfm2Config,
    LlamaConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3_5TextConfig,
    Qwen3Config,
    SiglipVisionConfig,
    SiglipVisionModel,
)

from edge_et.export.llm.compare_logits import PROMPTS
from edge_et.export.vision.projector import PixelShuffleProjector
from edge_et.export.vision.projector_files import save_projector

VOCABULARY_ROWS = 420
QWEN2_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

PATTERNS = {
    "qwen2": QWEN2_PATTERN,
    "qwen3": QWEN2_PATTERN,
    "qwen3_5": QWEN2_PATTERN.replace(r"\p{L}+", r"[\p{L}\p{M}]+").replace(
        r"[^\s\p{L}", r"[^\s\p{L}\p{M}"
    ),
    "lfm2": QWEN2_PATTERN.replace(r"\p{N}|", r"\p{N}{1,3}|"),
}

Family = Literal["llama", "qwen2", "qwen3", "qwen3_5", "lfm2"]
CONFIGS = {
    "llama": LlamaConfig,
    "qwen2": Qwen2Config,
    "qwen3": Qwen3Config,
    "qwen3_5": Qwen3_5TextConfig,
    "lfm2": Lfm2Config,
}
OWN_SETTINGS: dict[str, dict[str, Any]] = {
    "llama": {},
    "qwen2": {"head_dim": 16},
    "qwen3": {},
    "qwen3_5": {
        "num_hidden_layers": 4,
        "linear_key_head_dim": 16,
        "linear_value_head_dim": 16,
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 6,
    },
    "lfm2": {
        "head_dim": 16,
        "num_hidden_layers": 4,
        "layer_types": ["conv", "full_attention", "conv", "full_attention"],
        "block_multiple_of": 16,
    },
}
"""What a family needs in place of what the others have."""


def train_tokenizer(family: Family) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=family == "llama")
    first = (
        pre_tokenizers.Digits(individual_digits=True)
        if family == "llama"
        else pre_tokenizers.Split(Regex(PATTERNS[family]), "isolated")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([first, byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(
        [*PROMPTS, "the quick brown fox sees the small bird"] * 4, trainer
    )
    tokenizer.add_tokens(
        [AddedToken("<think>", special=False), AddedToken("<|fim_pad|>", special=False)]
    )
    return tokenizer


def save_language_model(
    folder: Path,
    family: Family,
    *,
    tied: bool = True,
    dtype: torch.dtype = torch.float32,
    shard_bytes: int | None = None,
    **changes: Any,
) -> Path:
    common: dict[str, Any] = {
        "vocab_size": VOCABULARY_ROWS,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 32,
        "max_position_embeddings": 256,
        "rope_theta": 50_000.0,
        "tie_word_embeddings": tied,
        "initializer_range": 0.15,
        "bos_token_id": 0,
        "eos_token_id": 2,
        **OWN_SETTINGS[family],
        **changes,
    }
    config = CONFIGS[family](**common)
    torch.manual_seed(7)
    model = AutoModelForCausalLM.from_config(config).to(dtype)
    for name, parameter in model.named_parameters():
        if "norm" in name:
            torch.nn.init.uniform_(parameter, 0.5, 1.5)
        elif name.endswith("bias"):
            torch.nn.init.normal_(parameter)
    model.save_pretrained(folder, max_shard_size=shard_bytes or "1GB")
    PreTrainedTokenizerFast(
        tokenizer_object=train_tokenizer(family), eos_token="<|im_end|>", bos_token="<|endoftext|>"
    ).save_pretrained(folder)
    return folder


@pytest.fixture
def make_llm(tmp_path: Path) -> Callable[..., Path]:
    def make(family: Family, **options: Any) -> Path:
        return save_language_model(tmp_path / family, family, **options)

    return make


@pytest.fixture(scope="session")
def llama_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small Llama; tests must not change it."""
    return save_language_model(tmp_path_factory.mktemp("llama"), "llama")


@pytest.fixture(scope="session")
def llama_gguf(llama_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small Llama as a float32 GGUF."""
    from edge_et.export.llm.export_llm import export_llm

    out = tmp_path_factory.mktemp("gguf") / "llama.gguf"
    export_llm(llama_folder, out, dtype="F32", check_logits=False)
    return out


@pytest.fixture(scope="session", params=["lfm2", "qwen3_5"])
def exported_hybrid(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path, Path]:
    """Family, checkpoint and float32 GGUF of a model with a recurrent state; not to be changed."""
    from edge_et.export.llm.export_llm import export_llm

    folder = save_language_model(tmp_path_factory.mktemp(request.param) / "llm", request.param)
    out = folder.parent / "out.gguf"
    export_llm(folder, out, dtype="F32", check_logits=False)
    return request.param, folder, out


def _save_backbone(folder: Path, model: PreTrainedModel) -> Path:
    for name, parameter in model.named_parameters():
        if "lambda" in name or "norm" in name:
            torch.nn.init.uniform_(parameter, 0.5, 1.5)
        elif "position" in name or "cls" in name:
            torch.nn.init.normal_(parameter, std=0.5)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def dinov2_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """DINOv2 with 6 x 6 trained positions, to be used at another size."""
    torch.manual_seed(3)
    config = Dinov2Config(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=84,
        patch_size=14,
        initializer_range=0.2,
    )
    return _save_backbone(tmp_path_factory.mktemp("dinov2"), Dinov2Model(config))


@pytest.fixture(scope="session")
def siglip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SigLIP whose tiles are not a whole number of patches wide, as the real one's."""
    torch.manual_seed(4)
    config = SiglipVisionConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=60,
        patch_size=14,
    )
    return _save_backbone(tmp_path_factory.mktemp("siglip"), SiglipVisionModel(config))


@pytest.fixture(scope="session")
def projector_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A projector for both backbones, 64 wide as the small language models."""
    torch.manual_seed(5)
    folder = tmp_path_factory.mktemp("projector")
    save_projector(PixelShuffleProjector(32, 2, 48, 64), folder)
    return folder


@pytest.fixture(scope="session")
def vision_graph(
    dinov2_folder: Path, projector_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The small DINOv2 tower as ONNX, for tiles of 56 pixels: 4 x 4 patches, 4 image tokens."""
    from edge_et.export.vision.export_tower import export_vision

    out = tmp_path_factory.mktemp("graph") / "vision.onnx"
    export_vision(dinov2_folder, projector_folder, out, image_size=56)
    return out
