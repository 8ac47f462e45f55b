"""Checkpoints as they are published: where they come from, their configs, their tensors.

In: `hf:owner/name` or a folder. Out: a folder with its provenance; float32 tensors, each read once.
Keys of configs have one spelling, whichever transformers wrote them. What a tensor means is not
known here.
"""
