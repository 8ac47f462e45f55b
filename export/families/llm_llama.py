"""Llama: rotary pairs interleaved in the GGUF, so rows of queries and keys change places."""

import gguf
import numpy as np
from numpy.typing import NDArray

from edge_et.export.families.llm_family import Family, LlmConfig


class Llama(Family):
    """Hooks of `LlamaForCausalLM`, SmolLM2 among them."""

    architecture = gguf.MODEL_ARCH.LLAMA

    def gguf_values(
        self, name: str, values: NDArray[np.float32], config: LlmConfig
    ) -> NDArray[np.float32]:
        """Interleave the two halves of each query and key head; other tensors stay."""
        if name.endswith("self_attn.q_proj.weight"):
            return interleave_halves(values, config.num_attention_heads)
        if name.endswith("self_attn.k_proj.weight"):
            return interleave_halves(values, config.key_value_heads)
        return values


def interleave_halves(values: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """Reorder the rows of each head from [first half, second half] to pairs of one of each.

    transformers rotates row i with row i + width/2 of a head, llama.cpp's Llama rotates
    neighbouring rows.

    Args:
        values: `[heads * head width, ...]`.
        heads: how many heads the rows hold.

    Returns:
        The same rows, C-contiguous, in their new order.
    """
    halves = values.reshape(heads, 2, -1, *values.shape[1:])
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(values.shape))
