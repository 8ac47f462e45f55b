"""Qwen2 and Qwen2.5 (dense): queries, keys and values have biases; rows stay in their order."""

import gguf

from edge_et.export.errors import UnsupportedModelError
from edge_et.export.families.llm_family import Family, LlmConfig, gated_layer_shapes


class Qwen2(Family):
    """Hooks of `Qwen2ForCausalLM`."""

    architecture = gguf.MODEL_ARCH.QWEN2

    def layer_shapes(self, config: LlmConfig, layer: int) -> dict[str, tuple[int, ...]]:
        """Return the tensors of one layer; all heads make up the hidden size."""
        if config.head_width * config.num_attention_heads != config.hidden_size:
            raise UnsupportedModelError(
                f"{config.num_attention_heads} heads of {config.head_width} are not "
                f"{config.hidden_size} wide, which a Qwen2 GGUF asks for"
            )
        shapes = gated_layer_shapes(config)
        biases = {
            f"self_attn.{name}.bias": shapes[f"self_attn.{name}.weight"][:1]
            for name in ("q_proj", "k_proj", "v_proj")
        }
        return shapes | biases
