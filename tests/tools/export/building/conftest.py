"""Checkpoints that builds of all kinds start from."""

import shutil
from pathlib import Path

import pytest
import torch
from tiny.vlm import LLAVA
from transformers import Qwen3Config, Qwen3ForCausalLM


@pytest.fixture(scope="session")
def reasoner(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small Qwen3 with the golden checkpoint's tokenizer and chat template."""
    folder = tmp_path_factory.mktemp("models") / "Reasoner-Tiny"
    torch.manual_seed(3)
    config = Qwen3Config(
        vocab_size=2048,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=40_960,
        tie_word_embeddings=True,
        bos_token_id=1974,
        eos_token_id=1976,
    )
    Qwen3ForCausalLM(config).save_pretrained(folder)
    for path in LLAVA.iterdir():
        if path.name not in ("config.json", "model.safetensors"):
            shutil.copy(path, folder)
    (folder / "README.md").write_text("---\nlicense: mit\n---\n")
    return folder
