"""The dimensions of the models that can be imitated."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class LlmShape:
    """A Llama or a Qwen3 whose input embeddings are its output matrix too.

    Attributes:
        name: of the model.
        architecture: a Qwen3 normalises queries and keys, head by head.
        layers: transformer blocks.
        width: D, of an embedding; a multiple of 32.
        heads: of the queries.
        kv_heads: of keys and values.
        head_width: of one head, even.
        feed_forward: width inside a feed-forward block; a multiple of 32, as all widths.
        vocabulary: tokens of the tokenizer that are no special ones.
        rows: V, of the embedding table.
        rope_base: of the rotary positions.
        norm_epsilon: of the RMS norms.
    """

    name: str
    architecture: Literal["llama", "qwen3"]
    layers: int
    width: int
    heads: int
    kv_heads: int
    head_width: int
    feed_forward: int
    vocabulary: int
    rows: int
    rope_base: float = 1e6
    norm_epsilon: float = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class TowerShape:
    """A SigLIP tower without its pooling head, and a projector of two linears behind it.

    Attributes:
        name: of the model.
        layers: transformer blocks that run.
        width: of a patch feature.
        heads: of the attention.
        feed_forward: width inside a feed-forward block.
        patch: side of a patch, pixels.
        image: side of a tile, pixels.
    """

    name: str
    layers: int
    width: int
    heads: int
    feed_forward: int
    patch: int
    image: int

    @property
    def patches(self) -> int:
        """Patches of a tile, and so image tokens S; a border that fills no patch is left out."""
        return (self.image // self.patch) ** 2


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleShape:
    """What a bundle consists of.

    Attributes:
        name: of the bundle.
        tower: the vision tower.
        perceiver: the model that sees.
        reasoner: the model that thinks; None: the perceiver does both.
        context_length: positions of the KV caches.
    """

    name: str
    tower: TowerShape
    perceiver: LlmShape
    reasoner: LlmShape | None = None
    context_length: int = 2048


# google/siglip-so400m-patch14-384, config.json. LLaVA takes the features before the last of its 27
# layers (mm_vision_select_layer -2), which therefore does not run.
SIGLIP_SO400M = TowerShape(
    name="siglip-so400m",
    layers=26,
    width=1152,
    heads=16,
    feed_forward=4304,
    patch=14,
    image=384,
)

# google/siglip-base-patch16-224, config.json; all of its layers.
SIGLIP_BASE = TowerShape(
    name="siglip-base",
    layers=12,
    width=768,
    heads=12,
    feed_forward=3072,
    patch=16,
    image=224,
)

# HuggingFaceTB/SmolLM2-135M-Instruct, config.json; three of its tokens are special here.
SMOLLM2_135M = LlmShape(
    name="smollm2-135m",
    architecture="llama",
    layers=30,
    width=576,
    heads=9,
    kv_heads=3,
    head_width=64,
    feed_forward=1536,
    vocabulary=49_149,
    rows=49_152,
    rope_base=1e5,
    norm_epsilon=1e-5,
)

# Qwen/Qwen3-0.6B and Qwen/Qwen3-1.7B, config.json and tokenizer.json.
QWEN3_0_6B = LlmShape(
    name="qwen3-0.6b",
    architecture="qwen3",
    layers=28,
    width=1024,
    heads=16,
    kv_heads=8,
    head_width=128,
    feed_forward=3072,
    vocabulary=151_643,
    rows=151_936,
)
QWEN3_1_7B = LlmShape(
    name="qwen3-1.7b",
    architecture="qwen3",
    layers=28,
    width=2048,
    heads=16,
    kv_heads=8,
    head_width=128,
    feed_forward=6144,
    vocabulary=151_643,
    rows=151_936,
)

SHAPES = {
    shape.name: shape
    for shape in (
        BundleShape(name="smollm2-135m+siglip-base", tower=SIGLIP_BASE, perceiver=SMOLLM2_135M),
        BundleShape(name="qwen3-0.6b+siglip-so400m", tower=SIGLIP_SO400M, perceiver=QWEN3_0_6B),
        BundleShape(name="qwen3-1.7b+siglip-so400m", tower=SIGLIP_SO400M, perceiver=QWEN3_1_7B),
        BundleShape(
            name="qwen3-0.6b+siglip-so400m+qwen3-1.7b",
            tower=SIGLIP_SO400M,
            perceiver=QWEN3_0_6B,
            reasoner=QWEN3_1_7B,
        ),
    )
}
"""By name: perceiver, tower and, where there is one, reasoner."""
