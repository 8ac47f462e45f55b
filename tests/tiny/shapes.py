"""Synthetic models small enough for tests."""

from dataclasses import replace

from edge_et.benchmarks.synthetic.shapes import (
    BundleShape,
    DeltaNetShape,
    LlmShape,
    ShortConvolutionShape,
    TowerShape,
)

LLM = LlmShape(
    name="miniature",
    architecture="llama",
    layers=2,
    width=64,
    heads=2,
    kv_heads=1,
    head_width=32,
    feed_forward=96,
    vocabulary=1200,
    rows=1280,
)
TOWER = TowerShape(name="tower", layers=2, width=32, heads=2, feed_forward=64, patch=8, image=36)

_UNTIED = replace(LLM, tied=False)
IDEFICS3 = BundleShape(
    name="idefics3",
    tower=replace(TOWER, name="smolvlm", image=32, projector="idefics3", shuffle=2),
    perceiver=_UNTIED,
    context_length=1024,
)
INTERNVL = BundleShape(
    name="internvl",
    tower=replace(TOWER, name="internvit", image=32, projector="internvl", shuffle=2),
    perceiver=_UNTIED,
    context_length=1024,
    picture=(64, 32),
)
QWEN3_5 = BundleShape(
    name="qwen3.5",
    tower=replace(
        TOWER,
        name="qwen3.5-vit",
        width=64,
        patch=4,
        image=64,
        projector="qwen3vl_merger",
        shuffle=2,
        positions_side=6,
    ),
    perceiver=replace(
        LLM,
        architecture="qwen35",
        layers=4,
        delta_net=DeltaNetShape(
            key_heads=2, value_heads=4, head_width=32, rotary_width=16, rope_sections=(3, 3, 2)
        ),
    ),
    context_length=2048,
)
LFM2_VL = BundleShape(
    name="lfm2-vl",
    tower=replace(
        TOWER,
        name="siglip2",
        patch=4,
        image=64,
        projector="lfm2",
        shuffle=2,
        positions_side=6,
        projector_width=96,
    ),
    perceiver=replace(
        LLM,
        architecture="lfm2",
        layers=4,
        short_convolutions=ShortConvolutionShape(attention=(1, 3)),
    ),
    context_length=2048,
)
