"""Write small random checkpoints, what transformers computes of them, and SmolVLM's tower as ONNX.

    python write.py siglip siglip      # with transformers 4.57.6
    python write.py smolvlm smolvlm    # with transformers 5.24.0 and onnx

README.md has the commands that make the rest, and the versions that made what is committed.
"""

import sys
import zlib
from pathlib import Path

import numpy as np
import torch
import transformers
from torch import Tensor, nn
from transformers import (
    LlamaConfig,
    PreTrainedModel,
    SiglipVisionConfig,
    SiglipVisionModel,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
)

TILE, PATCH = 32, 4
VISION = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": TILE,
    "patch_size": PATCH,
}
TEXT = LlamaConfig(
    vocab_size=8,
    hidden_size=24,
    intermediate_size=8,
    num_hidden_layers=1,
    num_attention_heads=2,
    num_key_value_heads=2,
    bos_token_id=1,
    eos_token_id=2,
    pad_token_id=2,
)
OPSET = 17


def main() -> None:
    """Write one checkpoint into the folder that is named."""
    kind, folder = sys.argv[1], Path(sys.argv[2])
    expected = {"siglip": "4.57.6", "smolvlm": "5.24.0"}[kind]
    assert transformers.__version__ == expected, f"install transformers {expected}"
    {"siglip": write_siglip, "smolvlm": write_smolvlm}[kind](folder)


def write_siglip(folder: Path) -> None:
    """Write a SigLIP tower, and its features."""
    model = SiglipVisionModel(SiglipVisionConfig(**VISION)).eval()
    fill(model)
    model.save_pretrained(folder)
    levels, pixel_values = tiles()
    with torch.inference_mode():
        output = model(pixel_values, output_hidden_states=True)
    hidden = {f"hidden_states_{layer}": output.hidden_states[layer] for layer in (1, 2)}
    save(folder, levels, {"last_hidden_state": output.last_hidden_state} | hidden)


def write_smolvlm(folder: Path) -> None:
    """Write a SmolVLM, its tower and connector as ONNX, and its image tokens."""
    config = SmolVLMConfig(
        text_config=TEXT.to_dict(),
        vision_config=VISION,
        scale_factor=2,
        image_token_id=3,
        pad_token_id=2,
    )
    model = SmolVLMForConditionalGeneration(config).eval()
    fill(model)
    model.save_pretrained(folder)
    levels, pixel_values = tiles()
    with torch.inference_mode():
        rows = model.model.get_image_features(pixel_values[None]).pooler_output[0]
    save(folder, levels, {"image_features": rows.unflatten(0, (len(levels), -1))})
    export(model, folder / "vision_encoder.onnx")


class VisionEncoder(nn.Module):
    """Inputs and output of the vision_encoder.onnx that transformers.js loads.

    It computes what `get_image_features` does before that takes the batch apart.
    """

    def __init__(self, model: SmolVLMForConditionalGeneration) -> None:
        super().__init__()
        self.tower = model.model.vision_model
        self.tower.embeddings = WholeTiles(self.tower.embeddings)
        self.connector = model.model.connector

    def forward(self, pixel_values: Tensor, pixel_attention_mask: Tensor) -> Tensor:
        """Give the image features of all tiles but those whose values are all zero."""
        tiles, mask = pixel_values.flatten(0, 1), pixel_attention_mask.flatten(0, 1)
        is_real = (tiles == 0.0).sum(dim=(-1, -2, -3)) != tiles.shape[1:].numel()
        # The tracing exporter knows neither unfold of a mask nor its positions' bucketize.
        seen = nn.functional.max_pool2d(mask[is_real].unsqueeze(1).float(), PATCH)[:, 0] > 0
        hidden = self.tower(pixel_values=tiles[is_real], patch_attention_mask=seen)
        return self.connector(hidden.last_hidden_state)


class WholeTiles(nn.Module):
    """Embeddings of tiles without padding: the positions in order."""

    def __init__(self, embeddings: nn.Module) -> None:
        super().__init__()
        self.patch_embedding = embeddings.patch_embedding
        self.position_embedding = embeddings.position_embedding

    def forward(self, pixel_values: Tensor, patch_attention_mask: Tensor) -> Tensor:
        """Give the patches' embeddings."""
        patches = self.patch_embedding(pixel_values).flatten(2).transpose(1, 2)
        return patches + self.position_embedding(torch.arange((TILE // PATCH) ** 2))


def export(model: SmolVLMForConditionalGeneration, path: Path) -> None:
    """Export with torch's tracing exporter, as the published graphs are."""
    axes = {0: "batch_size", 1: "num_images", 3: "height", 4: "width"}
    mask_axes = {0: "batch_size", 1: "num_images", 2: "height", 3: "width"}
    pixel_values = torch.randn(2, 3, 3, TILE, TILE)
    mask = torch.ones(2, 3, TILE, TILE, dtype=torch.bool)
    torch.onnx.export(
        VisionEncoder(model),
        (pixel_values, mask),
        path,
        input_names=["pixel_values", "pixel_attention_mask"],
        output_names=["image_features"],
        dynamic_axes={
            "pixel_values": axes,
            "pixel_attention_mask": mask_axes,
            "image_features": {0: "num_tiles"},
        },
        opset_version=OPSET,
        do_constant_folding=True,
        dynamo=False,
    )


def fill(model: PreTrainedModel) -> None:
    """Give each parameter values that are a function of its name."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            random = np.random.default_rng(zlib.crc32(name.encode()))
            values = random.standard_normal(parameter.shape, np.float32)
            if "norm" in name and name.endswith("weight"):
                values = 1 + 0.2 * values
            elif parameter.ndim > 1 and "embedding.weight" not in name:
                values /= np.sqrt(parameter[0].numel())
            parameter.copy_(torch.from_numpy(values))


def tiles() -> tuple[np.ndarray, Tensor]:
    """Make two tiles: their levels 0..255, and their pixel values."""
    levels = np.random.default_rng(7).integers(0, 256, (2, 3, TILE, TILE), np.uint8)
    return levels, torch.from_numpy((levels / np.float32(255) - np.float32(0.5)) / np.float32(0.5))


def save(folder: Path, levels: np.ndarray, outputs: dict[str, Tensor]) -> None:
    """Write golden.npz."""
    arrays = {name: tensor.numpy() for name, tensor in outputs.items()}
    np.savez_compressed(folder / "golden.npz", levels=levels, **arrays)


main()
