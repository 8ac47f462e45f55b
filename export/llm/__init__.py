"""A language model becomes a GGUF, an adapter a LoRA GGUF.

In: a checkpoint. Out: files whose logits were compared with those of transformers. Pictures are not
known here.
"""
