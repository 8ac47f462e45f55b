"""Qwen3 (dense): a norm on every query and key head; rows stay in their order."""

import gguf
import numpy as np
from numpy.typing import NDArray

from edge_et.export.families.llm_family import LlmConfig, gated_layer_shapes


class Qwen3:
    """Hooks of `Qwen3ForCausalLM`."""

    architecture = gguf.MODEL_ARCH.QWEN3

    def layer_shapes(self, config: LlmConfig) -> dict[str, tuple[int, ...]]:
        """Return the tensors of one layer."""
        return gated_layer_shapes(config) | {
            "self_attn.q_norm.weight": (config.head_width,),
            "self_attn.k_norm.weight": (config.head_width,),
        }

    def gguf_rows(
        self, name: str, values: NDArray[np.float32], config: LlmConfig
    ) -> NDArray[np.float32]:
        """Return the rows as they are."""
        return values
