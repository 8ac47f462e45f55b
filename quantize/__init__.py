"""Quantize what export wrote: GGUF files by llama.cpp's quantizer, ONNX towers to int8."""
