"""Find, fetch and read the files of a build that makes no weights of its own.

In: the names of files and repositories. Out: the same on this machine, read and checked against
each other, with what is known of where they are from.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_et.bundle import Source
from edge_et.export.building.bundle_plan import reasoner_in
from edge_et.export.building.stage_specs import StageModel
from edge_et.export.chat.vlm_chat_format import VlmChatFormat
from edge_et.export.checkpoint.checkpoint_folder import TensorFiles, open_tensors
from edge_et.export.checkpoint.config_keys import read_config
from edge_et.export.checkpoint.hub import (
    find_checkpoint,
    find_file,
)
from edge_et.export.checkpoint.hub_tensors import open_remote_tensors
from edge_et.export.checkpoint.provenance import Checkpoint, sha256_of
from edge_et.export.errors import MissingTensorError, UnreadableCheckpointError
from edge_et.export.families.vlm_layout import (
    PartTable,
    VisionPart,
    refuse_unsupported,
    take_part,
)
from edge_et.export.families.vlm_registry import find_layout
from edge_et.export.llm.ready_gguf import ReadyGguf
from edge_et.export.vision.projector_arrays import Linear, ProjectorArrays


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadyParts:
    """Where the parts of a bundle are that somebody else has made.

    Attributes:
        tower: an ONNX file: `hf:owner/name/path/to/file.onnx`, or a path.
        llm: the perceiver's GGUF, likewise.
        processor: configs and tokenizer of the perceiver's checkpoint: `hf:owner/name` or a folder.
        reasoner_llm: a reasoner's GGUF; None: the perceiver reasons.
        reasoner_processor: its config, tokenizer and chat template, likewise; given where
            `reasoner_llm` is.
    """

    tower: str
    llm: str
    processor: str
    reasoner_llm: str | None = None
    reasoner_processor: str | None = None

    def find(self) -> dict[str, Checkpoint]:
        """Find all of them, by role; nothing is fetched but descriptions.

        Raises:
            HubError, UnreadableCheckpointError: see `find_file` and `find_checkpoint`.
        """
        found = {
            "tower": find_file(self.tower, ".onnx"),
            "perceiver": find_file(self.llm, ".gguf"),
            "processor": find_checkpoint(self.processor, weights=False),
        }
        if self.reasoner_llm is not None and self.reasoner_processor is not None:
            found["reasoner"] = find_file(self.reasoner_llm, ".gguf")
            found["reasoner processor"] = find_checkpoint(self.reasoner_processor, weights=False)
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Processor:
    """What the files of a perceiver's checkpoint say.

    Attributes:
        folder: with tokenizer.json.
        vision: the vision side.
        chat_format: how a conversation is written.
        llm_settings: gives all settings of the language model, given what is taken for those that
            config.json leaves out.
        longest: positions that the tokenizer allows; None: it does not tell.
        projector: arrays of the original projector; None: they are not at hand.
        newline: [D] float32, the vector behind each row; None: there is none, or it is not at hand.
    """

    folder: Path
    vision: VisionPart
    chat_format: VlmChatFormat
    llm_settings: Callable[[dict[str, Any]], dict[str, Any]]
    longest: int | None
    projector: ProjectorArrays | None
    newline: NDArray[np.float32] | None


def tensors_at_hand(checkpoint: Checkpoint) -> TensorFiles | None:
    """Open a checkpoint's tensors where single ones can be read.

    Args:
        checkpoint: from `find_checkpoint`.

    Returns:
        The tensors, in a folder or on the hub; None where there are none, or none in safetensors.

    Raises:
        HubError: the hub cannot be reached, or a file is no safetensors.
        UnreadableCheckpointError: a file is damaged.
    """
    if checkpoint.folder is None:
        return open_remote_tensors(checkpoint)
    if any(file.name.endswith(".safetensors") for file in checkpoint.files):
        return open_tensors(checkpoint.folder)
    return None


def read_processor(folder: Path, tensors: TensorFiles | None) -> Processor:
    """Read a perceiver's checkpoint without its weights, but for those of the projector.

    Args:
        folder: its configs and tokenizer.json.
        tensors: of the checkpoint; None: they are not at hand.

    Raises:
        CheckpointError: the folder cannot be used; its children tell why.
        VocabularyError: the tokenizer or its chat template cannot be used.
    """
    path, content, layout = find_layout(folder)
    vision = layout.vision(content, path, None, None)
    many_sizes = vision.processing.whole_size is not None
    refuse_unsupported(path, {"tiles of many sizes, which no ready-made tower has": many_sizes})
    longest = content.get("tokenizer_model_max_length")
    table = layout.parts(content, path)
    return Processor(
        folder=folder,
        vision=vision,
        chat_format=layout.chat(folder),
        llm_settings=lambda known: layout.llm_settings(content, path, known),
        longest=longest if type(longest) is int and longest > 0 else None,
        projector=None
        if tensors is None or vision.projector_norm  # only towers with it inside are published
        else _projector(tensors, table, vision, folder),
        newline=None if tensors is None else _newline(tensors, table, vision),
    )


def read_reasoner(folder: Path, model: ReadyGguf) -> StageModel:
    """Read what is needed of a reasoner, and check that its files are of one model.

    Args:
        folder: its config, tokenizer.json and chat template.
        model: its GGUF.

    Raises:
        AssemblyError: they are of two models.
        CheckpointError: the folder cannot be used; its children tell why.
        VocabularyError: the tokenizer or its chat template cannot be used.
    """
    path = folder / "config.json"
    model.require_config({**model.settings, **read_config(path)}, path)
    model.require_tokens(folder / "tokenizer.json")
    return reasoner_in(folder, model.config)


def file_source(checkpoint: Checkpoint, path: Path, used_for: str) -> Source:
    """Tell where a file comes from, for the manifest.

    Args:
        checkpoint: from `find_file`.
        path: the file on this machine.
        used_for: what the bundle has it for.
    """
    file = checkpoint.files[0]
    sha256 = file.sha256 or sha256_of(path)
    return Source(
        name=file.name if checkpoint.folder else f"{checkpoint.name}/{file.name}",
        version=checkpoint.version,
        license=checkpoint.license,
        url=checkpoint.url,
        used_for=f"{used_for}; SHA-256 {sha256}",
    )


def _projector(
    tensors: TensorFiles, table: PartTable, vision: VisionPart, folder: Path
) -> ProjectorArrays:
    part = take_part(tensors, table, "projector")
    names = [f"{2 * index}.{{}}" for index in range(vision.projector_layers)]
    kinds = ("weight", "bias") if vision.projector_bias else ("weight",)
    if missing := [
        name.format(kind) for name in names for kind in kinds if name.format(kind) not in part.names
    ]:
        raise MissingTensorError(f"{folder} (its projector)", missing)
    weights = [part.read(name.format("weight")) for name in names]
    for name, weight in zip(names, weights, strict=True):
        if weight.ndim != 2:
            raise UnreadableCheckpointError(
                f"{folder}: {name.format('weight')} of the projector is {list(weight.shape)}, "
                "expected a matrix"
            )
    return ProjectorArrays(
        linears=tuple(
            Linear(
                weight=weight,
                bias=part.read(name.format("bias")) if vision.projector_bias else None,
            )
            for name, weight in zip(names, weights, strict=True)
        ),
        factor=vision.projector_factor,
    )


def _newline(
    tensors: TensorFiles, table: PartTable, vision: VisionPart
) -> NDArray[np.float32] | None:
    if vision.arrangement != "unpadded":
        return None
    return take_part(tensors, table, "newline").read("image_newline")
