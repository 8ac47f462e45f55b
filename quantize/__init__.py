"""Smaller numbers for what export wrote: GGUF by llama.cpp's quantizer, ONNX towers in int8."""
