"""Read what a bundle needs of a vision-language checkpoint.

In: a checkpoint folder of the paper (`LlavaQwen3ForCausalLM`, `LlavaQwenForCausalLM`), of
transformers' LLaVA-OneVision, Idefics3, SmolVLM, InternVL, LFM2-VL or Qwen3.5, or of InternVL's
own code. Out: the facts that go into a manifest, and `vision.onnx`. The language model inside goes
through `export_llm` with the same folder, as any other; nothing is copied on disk.

`read_vlm` reads configs, the tokenizer, and names and shapes of the tensors, but no values. So it
takes seconds and little memory, and it writes nothing. It refuses whatever can be refused without
values. Then each tensor of the checkpoint belongs to exactly one of language model, tower,
projector and newline, and has the right shape. NaN and infinity are found when a part is exported.
"""

from dataclasses import dataclass
from pathlib import Path

from edge_et.export.errors import UnsupportedModelError
from edge_et.export.steps import Progress, StepReport, Stopwatch, needing_extra, no_progress

with needing_extra("export"):
    import torch

    from edge_et.export.chat.prompt_tokens import (
        QUESTIONS,
        require_equal_prompts,
        vlm_prompts_that_differ,
    )
    from edge_et.export.chat.reference import TransformersReference
    from edge_et.export.chat.vlm_chat_format import VlmChatFormat
    from edge_et.export.checkpoint.checkpoint_folder import TensorFiles, open_tensors
    from edge_et.export.families.llm_family import LlmConfig
    from edge_et.export.families.vlm_layout import (
        PartTable,
        VisionPart,
        require_parts,
        take_part,
    )
    from edge_et.export.families.vlm_registry import LlmSource, find_layout, read_llm
    from edge_et.export.llm.vocabulary import read_vocabulary
    from edge_et.export.vision.export_tower import export_tower
    from edge_et.export.vision.torch_tower import TowerWithProjector, siglip_in_folder
    from edge_et.export.vision.vlm_tower import check_tower, load_tower_part, new_projector


@dataclass(frozen=True, slots=True, kw_only=True)
class VisionLanguageModel:
    """A checkpoint whose parts are known to fit.

    Attributes:
        folder: config.json, tensors and tokenizer.json.
        architecture: the one in its config.json.
        llm: the language model inside.
        vision: the vision side, as the config describes it.
        chat_format: how a conversation is written.
        max_positions: longest sequence that the model was made for, tokens.
    """

    folder: Path
    architecture: str
    llm: LlmSource
    vision: VisionPart
    chat_format: VlmChatFormat
    max_positions: int

    @property
    def language_model(self) -> LlmConfig:
        """Config of the language model; its `hidden_size` is the width D of an image token."""
        return self.llm.config


def vision_tower_beside(checkpoint: Path) -> str | None:
    """Name of the vision tower that a checkpoint needs but does not hold.

    Args:
        checkpoint: the folder.

    Returns:
        Its name on the Hugging Face hub, as the config gives it; None where the tower is inside.

    Raises:
        CheckpointError: the folder cannot be used; its children tell why.
    """
    path, content, layout = find_layout(checkpoint)
    return layout.tower_beside(content, path, open_tensors(checkpoint))


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
    path, content, layout = find_layout(checkpoint)
    tensors = open_tensors(checkpoint)
    _require_tower(layout.tower_beside(content, path, tensors), vision_tower, checkpoint)
    llm = read_llm(checkpoint)
    assert llm.table is not None
    require_parts(tensors, llm.table, checkpoint)
    llm.part_of(tensors)
    tower = _tower_tensors(tensors, llm.table, vision_tower)
    vision = layout.vision(content, path, tower, vision_tower)
    check_tower(vision, tower, vision_tower or checkpoint)
    with torch.device("meta"):
        projector = new_projector(vision, llm.config.hidden_size)
    shapes = {name: tuple(tensor.shape) for name, tensor in projector.state_dict().items()}
    take_part(tensors, llm.table, "projector").require(shapes)
    has_newline = vision.arrangement == "unpadded"
    take_part(tensors, llm.table, "newline").require(
        {"image_newline": (llm.config.hidden_size,)} if has_newline else {}
    )
    read_vocabulary(checkpoint, llm.config.vocab_size)
    longest = content.get("tokenizer_model_max_length")
    return VisionLanguageModel(
        folder=checkpoint,
        architecture=content["architectures"][0],
        llm=llm,
        vision=vision,
        chat_format=layout.chat(checkpoint),
        max_positions=min(
            llm.config.max_position_embeddings,
            longest if isinstance(longest, int) and longest > 0 else 2**24,
        ),
    )


def export_vlm_vision(
    model: VisionLanguageModel, out: Path, *, progress: Progress = no_progress
) -> StepReport:
    """Export tower and projector to one ONNX graph, compared with torch.

    The graph is pixel_values [N, 3, H, W] float32 -> image_tokens [N, S, D] float32. Where the
    arrangement is `unpadded`, image_newline [D] float32 is a second output, and where there is
    markup, image_markup [M, D] float32; both are constant. Weights beyond 2 GiB lie in a file
    beside it, named as the graph with `.data` at its end.

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
    tower = load_tower(model)
    try:
        return export_tower(tower, out, progress=progress)
    finally:
        # onnxscript 0.7 keeps parameters of the last graph for ever; the next step needs the room.
        for parameter in tower.parameters():
            parameter.data = torch.empty(0)


def load_tower(model: VisionLanguageModel) -> TowerWithProjector:
    """Load tower, projector, newline and markup as torch modules, float32.

    Args:
        model: from `read_vlm`.

    Raises:
        CheckpointError: a value is NaN or infinite, or the files have changed.
    """
    table, vision = model.llm.table, model.vision
    assert table is not None
    tensors = open_tensors(model.folder)
    backbone = load_tower_part(vision, _tower_tensors(tensors, table, vision.tower_folder))
    projector = new_projector(vision, model.language_model.hidden_size)
    take_part(tensors, table, "projector").fill(projector)
    newline = None
    if vision.arrangement == "unpadded":
        newline = torch.from_numpy(take_part(tensors, table, "newline").read("image_newline"))
    markup = None
    if vision.markup is not None:
        rows = take_part(tensors, table, "llm").look_up("model.embed_tokens.weight")
        markup = torch.from_numpy(rows[list(vision.markup.ids)])
    return TowerWithProjector(backbone, projector, newline, markup).eval()


def check_prompt_tokens(
    model: VisionLanguageModel, prompt: str, system: str | None = None
) -> StepReport:
    """Compare the token ids of whole prompts with those that the reference makes.

    Several questions, awkward ones among them, go through the runtime's prompt building with
    tokenizer.json, and through transformers' tokenizer with the chat template of the checkpoint.

    Args:
        model: from `read_vlm`.
        prompt: the manifest's prompt, with `{image}` and `{question}`.
        system: the manifest's system turn of stage 1; None: that of the chat format.

    Returns:
        A report whose error is the number of prompts that differ, which is 0.

    Raises:
        AssemblyError: the prompt does not begin with the model's `image_prefix`.
        VocabularyError: transformers cannot read the tokenizer.
        ParityError: a prompt differs.
    """
    watch = Stopwatch()
    reference = TransformersReference(model.folder)
    differing = vlm_prompts_that_differ(reference, model.chat_format, prompt, system=system)
    measure = f"of {len(QUESTIONS)} prompts differ"
    return require_equal_prompts(reference, differing, measure, watch)


def _require_tower(beside: str | None, given: Path | None, checkpoint: Path) -> None:
    if beside is not None and given is None:
        raise UnsupportedModelError(
            f"{checkpoint} holds no vision tower: give the folder of {beside} as well"
        )
    if beside is None and given is not None:
        raise UnsupportedModelError(f"{checkpoint} holds its vision tower: {given} is not needed")


def _tower_tensors(tensors: TensorFiles, table: PartTable, beside: Path | None) -> TensorFiles:
    if beside is None:
        return take_part(tensors, table, "tower")
    _, tower = siglip_in_folder(beside)
    return tower
