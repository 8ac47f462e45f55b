"""Trained checkpoints to what the runtime loads: ONNX tower, GGUF, adapter, bundle."""
