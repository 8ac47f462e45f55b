"""A language model becomes a GGUF; a LoRA adapter becomes a GGUF adapter.

In: a checkpoint. Out: files whose logits were compared with those of transformers. Pictures are not
known here.
"""
