"""Parts of bundles as other people publish them, made of small random checkpoints."""

from pathlib import Path

import torch
from torch import Tensor, nn

from edge_et.export.building.vlm_checkpoint import load_tower, read_vlm
from edge_et.export.llm.export_llm import export_llm
from edge_et.export.vision.torch_tower import TowerWithProjector


class _VisionEncoder(nn.Module):
    """Inputs and output of the vision_encoder.onnx that transformers.js loads for SmolVLM."""

    def __init__(self, tower: TowerWithProjector) -> None:
        super().__init__()
        self.backbone, self.projector = tower.backbone, tower.projector
        self.post_layernorm, tower.backbone.norm = tower.backbone.norm, nn.Identity()

    def forward(self, pixel_values: Tensor, pixel_attention_mask: Tensor) -> Tensor:
        mask = pixel_attention_mask.flatten(0, 1).unsqueeze(1).float()
        hidden = self.backbone(pixel_values.flatten(0, 1) * mask)
        features: Tensor = self.projector(self.post_layernorm(hidden))
        return features


class _LastHiddenState(nn.Module):
    """Input and output of a SigLIP tower that optimum exports, whose modules keep their names."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.vision_model = model

    def forward(self, pixel_values: Tensor) -> Tensor:
        hidden: Tensor = self.vision_model(pixel_values).last_hidden_state
        return hidden


def write_vision_encoder(checkpoint: Path, path: Path) -> None:
    """Write tower and connector as transformers.js has them."""
    tower = load_tower(read_vlm(checkpoint))
    size = tower.backbone.image_size
    path.parent.mkdir(parents=True, exist_ok=True)
    inputs = torch.randn(2, 3, 3, size, size), torch.ones(2, 3, size, size, dtype=torch.bool)
    names = ["pixel_values", "pixel_attention_mask"]
    axes = {0: "batch_size", 1: "num_images"}
    torch.onnx.export(
        _VisionEncoder(tower),
        inputs,
        path,
        input_names=names,
        output_names=["image_features"],
        dynamic_axes=dict.fromkeys(names, axes) | {"image_features": {0: "num_tiles"}},
        opset_version=18,
        dynamo=False,
    )


def write_tower_alone(model: nn.Module, size: int, path: Path) -> None:
    """Write a SigLIP tower as optimum does."""
    axes = {0: "batch", 2: "height", 3: "width"}
    torch.onnx.export(
        _LastHiddenState(model),
        (torch.randn(2, 3, size, size),),
        path,
        input_names=["pixel_values"],
        output_names=["last_hidden_state"],
        dynamic_axes={"pixel_values": axes, "last_hidden_state": {0: "batch"}},
        opset_version=18,
        dynamo=False,
    )


def write_gguf(checkpoint: Path, path: Path) -> None:
    """Write the language model of a checkpoint, F32."""
    path.parent.mkdir(parents=True, exist_ok=True)
    export_llm(checkpoint, path, dtype="F32", check_logits=False)
