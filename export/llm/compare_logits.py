"""Compare a GGUF with its checkpoint: logits of llama.cpp against those of transformers.

In: a checkpoint folder, a GGUF made from it, optionally a PEFT adapter and its GGUF. Out: the
largest logit difference and the mean divergence on a few prompts.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from huggingface_hub.errors import StrictDataclassError
from numpy.typing import NDArray
from tokenizers import Tokenizer
from transformers import AutoConfig, AutoModelForCausalLM

from edge_et.export.errors import UnreadableCheckpointError, VocabularyError
from edge_et.export.families.vlm_registry import read_llm
from edge_et.export.llm.llama_logits import llama_logits
from edge_et.export.numeric_comparison import LogitsDifference, compare_logits
from edge_et.export.steps import needing_extra

PROMPTS = (
    "A red bicycle leans against the wall of a small bakery; two people wait outside.",
    "Question: how many birds sit on the wire?\nThere are 12 birds: 7 left, 5 right.\nAnswer:",
    "def area(width, height):\n    return width * height  # na\u00efve caf\u00e9, \u6771\u4eac",
)


def gguf_against_checkpoint(
    gguf_path: Path,
    checkpoint: Path,
    *,
    gguf_adapter: Path | None = None,
    peft_adapter: Path | None = None,
    prompts: Sequence[str] = PROMPTS,
) -> LogitsDifference:
    """Compare a GGUF with the checkpoint that it was made from.

    Args:
        gguf_path: the GGUF.
        checkpoint: the Hugging Face folder, with tokenizer.json.
        gguf_adapter: a LoRA adapter for the GGUF.
        peft_adapter: the same adapter as a PEFT folder.
        prompts: texts to evaluate.

    Returns:
        The difference, transformers in float32 being the reference.

    Raises:
        NativeModelError: llama.cpp refuses the GGUF or its adapter.
        VocabularyError: tokenizer.json is missing or damaged.
    """
    sequences = encode_prompts(checkpoint / "tokenizer.json", prompts)
    # One model after the other: both at once would need the memory of both.
    reference = list(checkpoint_logits(checkpoint, sequences, peft_adapter=peft_adapter))
    return compare_logits(llama_logits(gguf_path, sequences, adapter=gguf_adapter), reference)


def encode_prompts(tokenizer: Path, prompts: Sequence[str]) -> list[list[int]]:
    """Tokenize some prompts, without special tokens.

    Args:
        tokenizer: a tokenizer.json.
        prompts: the texts.

    Raises:
        VocabularyError: the file is missing or damaged, or gives no token for a prompt.
    """
    try:
        loaded = Tokenizer.from_file(str(tokenizer))
    except Exception as err:  # tokenizers raises bare Exception
        raise VocabularyError(f"{tokenizer} cannot be read: {err}") from err
    sequences = [loaded.encode(text, add_special_tokens=False).ids for text in prompts]
    if not all(sequences):
        raise VocabularyError(f"{tokenizer} gives no tokens for a prompt")
    return sequences


def checkpoint_logits(
    checkpoint: Path, sequences: Sequence[Sequence[int]], *, peft_adapter: Path | None = None
) -> Iterator[NDArray[np.float32]]:
    """Evaluate token sequences with transformers, in float32.

    Without an adapter one tensor is in memory at a time.

    Args:
        checkpoint: the Hugging Face folder, also of a vision-language model, whose language model
            is evaluated.
        sequences: token ids.
        peft_adapter: a PEFT folder to apply; then the folder is of a language model alone.

    Yields:
        `[T, V] float32` a sequence.

    Raises:
        CheckpointError: the folder cannot be used; its children tell why.
        MissingExtraError: an adapter is given, and peft is not installed.
    """
    if peft_adapter is None:
        source = read_llm(checkpoint)
        try:
            config = AutoConfig.for_model(**source.settings)
        except (KeyError, StrictDataclassError, TypeError, ValueError) as err:
            raise UnreadableCheckpointError(f"{checkpoint} describes no model: {err}") from err
        with torch.device("meta"):
            model: Any = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        yield from module_logits(model, source.open_tensors().look_up, sequences)
        return
    with needing_extra("tuning"):
        from peft import PeftModel

    model = AutoModelForCausalLM.from_pretrained(
        checkpoint, dtype=torch.float32, local_files_only=True
    )
    model = PeftModel.from_pretrained(model, peft_adapter).eval()
    for sequence in sequences:
        with torch.inference_mode():
            yield model(torch.tensor([sequence])).logits[0].numpy()


def module_logits(
    model: Any,
    look_up: Callable[[str], NDArray[np.float32]],
    sequences: Sequence[Sequence[int]],
) -> Iterator[NDArray[np.float32]]:
    """Evaluate token sequences with a model that has no weights of its own.

    Each module borrows its weights for as long as it runs.

    Args:
        model: a causal language model of transformers on the device `meta`.
        look_up: gives the values of a parameter by its name in the model.
        sequences: token ids.

    Yields:
        `[T, V] float32` a sequence.
    """
    tied = model.config.tie_word_embeddings
    model.eval()
    # The only buffers of such models; they are computed from the config and stored nowhere.
    model.model.rotary_emb = type(model.model.rotary_emb)(model.config)
    for path, module in model.named_modules():
        names = [name for name, _ in module.named_parameters(path, recurse=False)]
        if tied and path == "lm_head":
            names = ["model.embed_tokens.weight"]
        if not names:
            continue
        # Kernels of convolutions are not called: the module around them reads their values.
        around = path.rpartition(".")[0] if isinstance(module, torch.nn.Conv1d) else path
        reader = model.get_submodule(around)
        borrow = partial(_borrow, owner=module, names=names, look_up=look_up)
        reader.register_forward_pre_hook(borrow)
        reader.register_forward_hook(_give_back)
    for sequence in sequences:
        with torch.inference_mode():
            yield model(torch.tensor([sequence]), use_cache=False).logits[0].numpy()


def _borrow(
    module: torch.nn.Module,
    inputs: object,
    owner: torch.nn.Module,
    names: list[str],
    look_up: Callable[[str], NDArray[np.float32]],
) -> None:
    for name in names:
        values = torch.nn.Parameter(torch.from_numpy(look_up(name)), requires_grad=False)
        setattr(owner, name.rpartition(".")[2], values)


def _give_back(module: torch.nn.Module, inputs: object, outputs: object) -> None:
    module.to("meta")
