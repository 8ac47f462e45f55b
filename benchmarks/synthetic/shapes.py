"""The dimensions of the models that can be imitated."""

from dataclasses import dataclass, replace
from typing import Literal

from edge_et.benchmarks.picture import DRAWN_SIZE


@dataclass(frozen=True, slots=True, kw_only=True)
class DeltaNetShape:
    """The gated delta nets of a Qwen3.5, and what else it has that others have not.

    Attributes:
        every: one layer in so many is attention, the others are delta nets.
        key_heads: of keys.
        value_heads: of values.
        head_width: of a key or a value.
        kernel: positions that the convolution sees.
        rotary_width: channels of a head of attention that are turned.
        rope_sections: frequencies that turn by time, by row and by column.
    """

    every: int = 4
    key_heads: int = 16
    value_heads: int = 16
    head_width: int = 128
    kernel: int = 4
    rotary_width: int = 64
    rope_sections: tuple[int, int, int] = (11, 11, 10)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShortConvolutionShape:
    """The layers of an LFM2.

    Attributes:
        attention: which layers are attention; the others are short convolutions.
        kernel: positions that a convolution sees.
    """

    attention: tuple[int, ...] = (2, 5, 8, 10, 12, 14)
    kernel: int = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class LlmShape:
    """A Llama, a Qwen3, a Qwen3.5 or an LFM2.

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
        tied: whether the input embeddings are the output matrix too.
        delta_net: of a Qwen3.5; None: it is none.
        short_convolutions: of an LFM2; None: it is none.
    """

    name: str
    architecture: Literal["llama", "qwen3", "qwen35", "lfm2"]
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
    tied: bool = True
    delta_net: DeltaNetShape | None = None
    short_convolutions: ShortConvolutionShape | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TowerShape:
    """A vision transformer and the projector behind it.

    By the projector, in the words of llama.cpp:

    - `mlp`: LLaVA's, two linears. The tower is a SigLIP without its last norm and its pooling head.
    - `idefics3`: a pixel shuffle and one linear without biases. The tower is a SigLIP without its
      pooling head.
    - `qwen3vl_merger`: a norm, blocks of patches side by side, and two linears. The tower is
      Qwen3.5's: tiles are of many sizes, position embeddings are resized, and heads are turned by
      row and column.
    - `lfm2`: blocks of patches side by side, and two linears. The tower is a SigLIP 2: tiles are of
      many sizes, and position embeddings are resized.
    - `internvl`: a pixel shuffle, a norm and two linears. The tower is an InternViT: it has a class
      token, which is dropped behind it, and a scale for each channel of what a block adds.

    Attributes:
        name: of the model.
        layers: transformer blocks that run.
        width: of a patch feature.
        heads: of the attention.
        feed_forward: width inside a feed-forward block.
        patch: side of a patch, pixels.
        image: side of a tile, pixels; where tiles are of many sizes, of one of them.
        projector: see above.
        shuffle: side of the block of patches that becomes one image token; 1 for `mlp`.
        positions_side: side of the map of position embeddings, where these are resized.
        projector_width: between the two linears of `lfm2`.
    """

    name: str
    layers: int
    width: int
    heads: int
    feed_forward: int
    patch: int
    image: int
    projector: Literal["mlp", "idefics3", "internvl", "qwen3vl_merger", "lfm2"] = "mlp"
    shuffle: int = 1
    positions_side: int = 48
    projector_width: int = 2048

    @property
    def patches(self) -> int:
        """Patches of a tile; a border that fills no patch is left out."""
        return (self.image // self.patch) ** 2

    @property
    def positions(self) -> int:
        """Rows that go through the blocks: patches, and the class token where there is one."""
        return self.patches + (self.projector == "internvl")

    @property
    def image_tokens(self) -> int:
        """Image tokens S of a tile."""
        return self.patches // self.shuffle**2


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleShape:
    """What a bundle consists of.

    Attributes:
        name: of the bundle.
        tower: the vision tower.
        perceiver: the model that sees.
        reasoner: the model that thinks; None: the perceiver does both.
        context_length: positions of the KV caches.
        picture: width and height of the picture that is drawn for it, pixels.
    """

    name: str
    tower: TowerShape
    perceiver: LlmShape
    reasoner: LlmShape | None = None
    context_length: int = 2048
    picture: tuple[int, int] = DRAWN_SIZE


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

# HuggingFaceTB/SmolVLM2-500M-Video-Instruct, config.json: SigLIP base at 512 pixels; 256M has the
# same one.
SMOLVLM_BASE = TowerShape(
    name="siglip-base-512",
    layers=12,
    width=768,
    heads=12,
    feed_forward=3072,
    patch=16,
    image=512,
    projector="idefics3",
    shuffle=4,
)

# HuggingFaceTB/SmolVLM2-2.2B-Instruct, config.json: all layers of SigLIP so400m.
SMOLVLM_SO400M = replace(
    SIGLIP_SO400M, name="siglip-so400m-27", layers=27, projector="idefics3", shuffle=3
)

# OpenGVLab/InternVL3_5-1B-HF, config.json: InternViT-300M.
INTERNVIT_300M = TowerShape(
    name="internvit-300m",
    layers=24,
    width=1024,
    heads=16,
    feed_forward=4096,
    patch=14,
    image=448,
    projector="internvl",
    shuffle=2,
)

# The towers of Qwen/Qwen3.5-0.8B and -2B, vision_config of config.json.
QWEN3_5_SMALL = TowerShape(
    name="qwen3.5-vit-100m",
    layers=12,
    width=768,
    heads=12,
    feed_forward=3072,
    patch=16,
    image=512,
    projector="qwen3vl_merger",
    shuffle=2,
)
QWEN3_5_LARGE = replace(
    QWEN3_5_SMALL,
    name="qwen3.5-vit-330m",
    layers=24,
    width=1024,
    heads=16,
    feed_forward=4096,
)

# LiquidAI/LFM2-VL-450M, config.json: SigLIP2 base (NaFlex). LFM2.5-VL-450M has the same.
SIGLIP2_BASE = TowerShape(
    name="siglip2-base-naflex",
    layers=12,
    width=768,
    heads=12,
    feed_forward=3072,
    patch=16,
    image=512,
    projector="lfm2",
    shuffle=2,
    positions_side=16,
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

# HuggingFaceTB/SmolVLM2-256M-Video-Instruct, -500M-Video-Instruct and SmolVLM2-2.2B-Instruct,
# text_config of config.json, and tie_word_embeddings beside it: SmolLM2 with 128 more rows, and an
# output matrix of its own.
SMOLVLM2_256M = replace(SMOLLM2_135M, name="smolvlm2-256m", rows=49_280, tied=False)
SMOLVLM2_500M = replace(
    SMOLVLM2_256M,
    name="smolvlm2-500m",
    layers=32,
    width=960,
    heads=15,
    kv_heads=5,
    feed_forward=2560,
)
SMOLVLM2_2_2B = replace(
    SMOLVLM2_256M,
    name="smolvlm2-2.2b",
    layers=24,
    width=2048,
    heads=32,
    kv_heads=32,
    feed_forward=8192,
    rope_base=273_768.0,
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

# OpenGVLab/InternVL3_5-1B-HF, config.json: Qwen3-0.6B with an output matrix of its own.
INTERNVL3_5_1B = replace(QWEN3_0_6B, name="internvl3.5-1b", tied=False)

# Qwen/Qwen3.5-0.8B and -2B, text_config of config.json.
QWEN3_5_0_8B = LlmShape(
    name="qwen3.5-0.8b",
    architecture="qwen35",
    layers=24,
    width=1024,
    heads=8,
    kv_heads=2,
    head_width=256,
    feed_forward=3584,
    vocabulary=248_044,
    rows=248_320,
    rope_base=1e7,
    delta_net=DeltaNetShape(),
)
QWEN3_5_2B = replace(QWEN3_5_0_8B, name="qwen3.5-2b", width=2048, feed_forward=6144)

# LiquidAI/LFM2-VL-450M, text_config of config.json: LFM2-350M. The tokenizer's size is rounded.
LFM2_350M = LlmShape(
    name="lfm2-350m",
    architecture="lfm2",
    layers=16,
    width=1024,
    heads=16,
    kv_heads=8,
    head_width=64,
    feed_forward=4608,
    vocabulary=64_000,
    rows=65_536,
    norm_epsilon=1e-5,
    short_convolutions=ShortConvolutionShape(),
)

_LFM2_VL = BundleShape(
    name="lfm2-vl-450m",
    tower=SIGLIP2_BASE,
    perceiver=LFM2_350M,
    context_length=4096,  # a picture may have 2829 image tokens
)

_INTERNVL = BundleShape(
    name="internvl3.5-1b",
    tower=INTERNVIT_300M,
    perceiver=INTERNVL3_5_1B,
    context_length=4096,  # a picture may have 13 tiles
    picture=(896, 448),  # two tiles and a third of all of it; of 640 x 480 llama.cpp makes fewer
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
        BundleShape(name="smolvlm2-256m", tower=SMOLVLM_BASE, perceiver=SMOLVLM2_256M),
        BundleShape(name="smolvlm2-500m", tower=SMOLVLM_BASE, perceiver=SMOLVLM2_500M),
        BundleShape(name="smolvlm2-2.2b", tower=SMOLVLM_SO400M, perceiver=SMOLVLM2_2_2B),
        BundleShape(
            name="smolvlm2-500m+qwen3-0.6b",
            tower=SMOLVLM_BASE,
            perceiver=SMOLVLM2_500M,
            reasoner=QWEN3_0_6B,
        ),
        BundleShape(name="qwen3.5-0.8b", tower=QWEN3_5_SMALL, perceiver=QWEN3_5_0_8B),
        BundleShape(name="qwen3.5-2b", tower=QWEN3_5_LARGE, perceiver=QWEN3_5_2B),
        _LFM2_VL,
        replace(_LFM2_VL, name="lfm2.5-vl-450m"),
        _INTERNVL,
        replace(_INTERNVL, name="internvl3.5-1b+qwen3-1.7b", reasoner=QWEN3_1_7B),
    )
}
"""By name: perceiver, its tower if that is not its own, and a reasoner if there is one."""
