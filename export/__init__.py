"""Export trained checkpoints to what the runtime loads: ONNX tower, GGUF, adapter, bundle.

Rooms, each importing only those before it: `checkpoint`, `chat`, `families`, `vision`, `llm`,
`building`.
"""
