"""Synthetic models small enough for tests."""

from edge_et.benchmarks.synthetic.shapes import LlmShape, TowerShape

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
