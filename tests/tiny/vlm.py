"""Vision-language checkpoints in the formats that exist, made from the goldens' random one."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from tiny.anyres import GOLDEN

LLAVA = GOLDEN / "llava_qwen3_tiny"
ONEVISION = GOLDEN / "llava_onevision_tiny"

Tensors = dict[str, torch.Tensor]

_ONEVISION_NAMES = (
    ("model.vision_tower.vision_tower.", "vision_tower."),
    ("model.mm_projector.0.", "multi_modal_projector.linear_1."),
    ("model.mm_projector.2.", "multi_modal_projector.linear_2."),
    ("model.image_newline", "image_newline"),
    ("lm_head.", "language_model.lm_head."),
    ("model.", "language_model.model."),
)
_NEWER_NAMES = (
    ("vision_tower.", "model.vision_tower."),
    ("multi_modal_projector.", "model.multi_modal_projector."),
    ("image_newline", "model.image_newline"),
    ("language_model.lm_head.", "lm_head."),
    ("language_model.model.", "model.language_model."),
)
TOWER = "model.vision_tower.vision_tower."


def llava_tensors() -> Tensors:
    return load_file(LLAVA / "model.safetensors")


def onevision_tensors(*, newer_names: bool = False) -> Tensors:
    """The same tensors as llava-hf names them, or as the modules of transformers are called."""
    tensors = _renamed(llava_tensors(), _ONEVISION_NAMES)
    return _renamed(tensors, _NEWER_NAMES) if newer_names else tensors


def _renamed(tensors: Tensors, names: tuple[tuple[str, str], ...]) -> Tensors:
    def rename(name: str) -> str:
        for old, new in names:
            if name.startswith(old):
                return new + name.removeprefix(old)
        raise AssertionError(name)

    return {rename(name): tensor for name, tensor in tensors.items()}


def write_checkpoint(
    folder: Path, source: Path, tensors: Tensors, *, shards: int = 1, torch_files: bool = False
) -> Path:
    """Copy what describes a checkpoint, and write its tensors."""
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    stem, suffix = ("pytorch_model", ".bin") if torch_files else ("model", ".safetensors")
    names = sorted(tensors)
    weight_map = {}
    for shard in range(shards):
        part = {name: tensors[name].contiguous() for name in names[shard::shards]}
        number = f"-{shard + 1:05}-of-{shards:05}" if shards > 1 else ""
        path = folder / f"{stem}{number}{suffix}"
        if torch_files:
            torch.save(part, path)
        else:
            save_file(part, path)
        weight_map |= dict.fromkeys(part, path.name)
    if shards > 1:
        index = folder / f"{stem}{suffix}.index.json"
        index.write_text(json.dumps({"weight_map": weight_map}))
    return folder


def write_onevision(folder: Path) -> Path:
    return write_checkpoint(folder, ONEVISION, onevision_tensors())


def edit_config(folder: Path, name: str = "config.json", **changes: Any) -> None:
    """Change keys of a JSON file; None removes them."""
    path = folder / name
    content = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


def edit_tensors(folder: Path, edit: Callable[[Tensors], Any]) -> None:
    path = folder / "model.safetensors"
    tensors = load_file(path)
    edit(tensors)
    save_file(tensors, path)
