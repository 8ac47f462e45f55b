"""A byte-level BPE tokenizer of a few hundred tokens, with the special tokens of ChatML."""

from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
TEXT = (
    "Describe what the picture shows. Pay attention to the question.",
    "What is on the table? A red ball, a blue cube and a green car.",
    "Description: there is a small dog at the top left. Answer: yes",
    "How many? Which colour? Is there a cat? user assistant system",
)


def write_tokenizer(path: Path) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=360,
        special_tokens=list(SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXT * 4, trainer)
    tokenizer.add_tokens([AddedToken(text, special=False) for text in ("<think>", "</think>")])
    # What a tokenizer.json of a real model may hold, and what must not change anything.
    tokenizer.enable_truncation(8)
    tokenizer.enable_padding(length=64)
    tokenizer.save(str(path))
    return tokenizer
