"""A language model to train, out of the GGUF that the runtime answers with."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM


def load_llm(path: Path) -> LlamaForCausalLM:
    """Load a GGUF of the Llama architecture for training.

    Args:
        path: the GGUF; its weights are dequantized to float32.

    Returns:
        The model, all parameters frozen.
    """
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, attn_implementation="sdpa"
    )
    model.requires_grad_(requires_grad=False)
    return model.eval()
