"""The registry: `architectures` of a vision-language checkpoint -> the hooks of its layout.

In: a checkpoint folder. Out: the language model in it, alone or inside a larger checkpoint.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_et.export.checkpoint.checkpoint_folder import TensorFiles, open_tensors
from edge_et.export.checkpoint.config_keys import read_config
from edge_et.export.errors import UnsupportedModelError
from edge_et.export.families.llm_family import LlmConfig, tensor_shapes
from edge_et.export.families.llm_registry import FAMILIES, family_of, parse_config
from edge_et.export.families.refused import why_refused
from edge_et.export.families.vlm_idefics3 import Idefics3
from edge_et.export.families.vlm_internvl import InternVL
from edge_et.export.families.vlm_internvl_chat import InternVLChat
from edge_et.export.families.vlm_layout import Layout, PartTable, take_part
from edge_et.export.families.vlm_lfm2 import Lfm2Vl
from edge_et.export.families.vlm_llava import LlavaNext
from edge_et.export.families.vlm_onevision import LlavaOnevision
from edge_et.export.families.vlm_qwen35 import Qwen35Vl

LAYOUTS: dict[str, Layout] = {
    "LlavaQwen3ForCausalLM": LlavaNext("qwen3", "Qwen3ForCausalLM"),
    "LlavaQwenForCausalLM": LlavaNext("qwen2", "Qwen2ForCausalLM"),
    "LlavaOnevisionForConditionalGeneration": LlavaOnevision(),
    "Idefics3ForConditionalGeneration": Idefics3(),
    "SmolVLMForConditionalGeneration": Idefics3(),
    "InternVLForConditionalGeneration": InternVL(),
    "InternVLChatModel": InternVLChat(),
    "Qwen3_5ForConditionalGeneration": Qwen35Vl(),
    "Lfm2VlForConditionalGeneration": Lfm2Vl(),
}

_TEXT_OF_QWEN35: PartTable = (
    ("mtp.", "draft", ""),  # predicts a second token, which transformers does not do either
    ("model.visual.", "tower", ""),
    ("model.language_model.", "llm", "model."),
    ("", "llm", ""),
)
_TEXT_PARTS = {"Qwen3_5ForCausalLM": _TEXT_OF_QWEN35}
"""Architectures whose checkpoints hold more than the text model, which alone is exported."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LlmSource:
    """A language model on disk.

    Attributes:
        folder: of the checkpoint, with tokenizer.json.
        config: its config, checked.
        settings: all of its settings, as its own config.json has them or would have them.
        table: whose tensor is whose, where it is a part of the checkpoint; None: it is alone.
    """

    folder: Path
    config: LlmConfig
    settings: dict[str, Any]
    table: PartTable | None

    @property
    def sees(self) -> bool:
        """Whether its checkpoint has a way for pictures that is known."""
        return any(part == "projector" for _, part, _ in self.table or ())

    def open_tensors(self) -> TensorFiles:
        """Open its tensors, checked by name and shape.

        Returns:
            Exactly what `tensor_shapes` names, and `lm_head.weight` where it is stored although it
            is tied to the embeddings.

        Raises:
            CheckpointError: the files or their tensors do not fit; its children tell why.
        """
        return self.part_of(open_tensors(self.folder))

    def part_of(self, tensors: TensorFiles) -> TensorFiles:
        """Take its tensors out of those of the checkpoint; see `open_tensors`."""
        if self.table is not None:
            tensors = take_part(tensors, self.table, "llm")
        shapes = tensor_shapes(family_of(self.config), self.config)
        if "lm_head.weight" in tensors.names:
            # Some writers keep both names of a tied table.
            shapes["lm_head.weight"] = shapes["model.embed_tokens.weight"]
        tensors.require(shapes)
        return tensors


def read_llm(folder: Path) -> LlmSource:
    """Read what the language model of a checkpoint is.

    Args:
        folder: of a language model, or of a vision-language model that has one inside, whether or
            not its pictures can be exported.

    Returns:
        The language model; its tensors are not opened.

    Raises:
        UnreadableCheckpointError: config.json is missing or damaged.
        UnsupportedModelError: an architecture that is not known, or a setting that would be lost.
    """
    path = folder / "config.json"
    content = read_config(path)
    if content.get("quantization_config") is not None:
        raise UnsupportedModelError(
            f"{path} has a quantization_config: export the checkpoint that was quantized"
        )
    table = None
    match content.get("architectures"):
        case [str(architecture)] if architecture in LAYOUTS:
            layout = LAYOUTS[architecture]
            table = layout.parts(content, path)
            content = layout.llm_settings(content, path)
        case [str(architecture)] if architecture in FAMILIES:
            table = _TEXT_PARTS.get(architecture)
        case [architecture] if reason := why_refused(architecture):
            raise UnsupportedModelError(f"{path} is of {architecture}, which {reason}")
        case architectures:
            raise UnsupportedModelError(
                f"architectures {architectures} cannot be exported; "
                f"known: {', '.join([*FAMILIES, *LAYOUTS])}"
            )
    config = parse_config(content, path)
    return LlmSource(folder=folder, config=config, settings=content, table=table)


def find_layout(folder: Path) -> tuple[Path, dict[str, Any], Layout]:
    """Find how a vision-language checkpoint is laid out.

    Args:
        folder: of the checkpoint.

    Returns:
        Its config.json, what that holds with the keys of transformers 5, and the hooks.

    Raises:
        UnreadableCheckpointError: config.json is missing or damaged.
        UnsupportedModelError: no vision-language model that is known.
    """
    path = folder / "config.json"
    content = read_config(path)
    match content.get("architectures"):
        case [str(architecture)] if architecture in LAYOUTS:
            return path, content, LAYOUTS[architecture]
        case [architecture] if reason := why_refused(architecture):
            raise UnsupportedModelError(f"{path} is of {architecture}, which {reason}")
        case architectures:
            raise UnsupportedModelError(
                f"{path} is of {architectures}, which is no vision-language model that can be "
                f"exported; known: {', '.join(LAYOUTS)}"
            )
