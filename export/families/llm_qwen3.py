"""Qwen3 (dense): a norm on every query and key head; rows stay in their order."""

import gguf

from edge_et.export.families.llm_family import Family, LlmConfig, gated_layer_shapes


class Qwen3(Family):
    """Hooks of `Qwen3ForCausalLM`."""

    architecture = gguf.MODEL_ARCH.QWEN3

    def layer_shapes(self, config: LlmConfig, layer: int) -> dict[str, tuple[int, ...]]:
        """Return the tensors of one layer."""
        return gated_layer_shapes(config) | {
            "self_attn.q_norm.weight": (config.head_width,),
            "self_attn.k_norm.weight": (config.head_width,),
        }
