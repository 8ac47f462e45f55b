"""A vision-language checkpoint: what a bundle needs of it.

In: a checkpoint folder of the paper (`LlavaQwen3ForCausalLM`, `LlavaQwenForCausalLM`) or of
transformers' LLaVA-OneVision (`LlavaOnevisionForConditionalGeneration`). Out: the facts that go
into a manifest, and `vision.onnx`. The language model inside goes through `export_llm` with the
same folder, as any other; nothing is copied on disk.

What `read_vlm` promises: it reads configs, the tokenizer, and names and shapes of the tensors, but
no values, so it takes seconds and little memory; it writes nothing; and whatever can be refused
without values is refused here, before the first file is written. Each tensor of the checkpoint then
belongs to exactly one of language model, tower, projector and newline, and has the right shape. NaN
and infinity are found when a part is exported.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edge_et.bundle import ChatSpec, Processing
from edge_et.export.steps import Progress, StepReport, needing_extra, no_progress

with needing_extra("export"):
    from edge_et.export.family import LlmConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class VisionLanguageModel:
    """A checkpoint whose parts are known to fit.

    Attributes:
        folder: config.json, tensors and tokenizer.json.
        architecture: the one in its config.json.
        language_model: config of the language model inside, as if it were alone; its
            `hidden_size` is the width D of an image token.
        processing: how a picture becomes pixel values, tiling included.
        arrangement: order of the image tokens, as `VisionSpec.arrangement`.
        image_tokens_per_tile: S.
        chat: how a conversation is written. Its stop tokens are those that generation_config.json
            or config.json names, and the one that ends a turn.
        image_prefix: what a user's turn that shows a picture begins with: `{image}` and what stands
            between it and the words, most often a line feed. A prompt of the manifest is this and
            then the words.
        text_prefix: what a user's turn without a picture begins with; most often empty.
        max_positions: longest sequence that the model was made for, tokens.
    """

    folder: Path
    architecture: str
    language_model: LlmConfig
    processing: Processing
    arrangement: Literal["flat", "grid", "unpadded"]
    image_tokens_per_tile: int
    chat: ChatSpec
    image_prefix: str
    text_prefix: str
    max_positions: int


def vision_tower_beside(checkpoint: Path) -> str | None:
    """Name of the vision tower that a checkpoint needs but does not hold.

    Args:
        checkpoint: the folder.

    Returns:
        Its name on the Hugging Face hub, as the config gives it; None where the tower is inside.

    Raises:
        CheckpointError: the folder cannot be used; its children tell why.
    """
    raise NotImplementedError


def read_vlm(checkpoint: Path, *, vision_tower: Path | None = None) -> VisionLanguageModel:
    """Read what a bundle needs of a checkpoint, and check that its parts fit.

    Args:
        checkpoint: the folder.
        vision_tower: folder of the tower as the hub has it, with all its layers; needed where
            `vision_tower_beside` gives a name, and refused where it does not.

    Returns:
        The checkpoint's facts.

    Raises:
        CheckpointError: the folder cannot be used; its children tell why.
        VocabularyError: the tokenizer or its chat template cannot be used.
    """
    raise NotImplementedError


def export_vlm_vision(
    model: VisionLanguageModel, out: Path, *, progress: Progress = no_progress
) -> StepReport:
    """Export tower and projector to one ONNX graph, compared with torch.

    The graph is pixel_values [N, 3, H, W] float32 -> image_tokens [N, S, D] float32, and, where the
    arrangement is `unpadded`, a second output image_newline [D] float32, which is constant. Weights
    beyond 2 GB lie in a file beside it, named as the graph with `.data` at its end.

    Args:
        model: from `read_vlm`.
        out: the ONNX file to write, replaced if it exists.
        progress: told the steps.

    Returns:
        What was written and how far it is from torch.

    Raises:
        CheckpointError: a value is NaN or infinite, or the files have changed.
        ParityError: the graph differs too much. Nothing is left behind.
    """
    raise NotImplementedError


def check_prompt_tokens(model: VisionLanguageModel, prompt: str) -> StepReport:
    """Compare the token ids of whole prompts with those that the reference makes.

    Several questions, awkward ones among them, go through the runtime's prompt building with
    tokenizer.json, and through transformers' tokenizer with the chat template of the checkpoint.

    Args:
        model: from `read_vlm`.
        prompt: the manifest's prompt, with `{image}` and `{question}`.

    Returns:
        A report whose error is the number of prompts that differ, which is 0.

    Raises:
        VocabularyError: transformers cannot read the tokenizer.
        ParityError: a prompt differs.
    """
    raise NotImplementedError
