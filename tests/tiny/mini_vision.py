"""The mini's vision side with a DINOv2 of 3 narrow layers: same shapes of tokens, other widths."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from transformers import Dinov2Config, Dinov2Model

from edge_et.tuning.mini import recipe
from edge_et.tuning.mini.vision.vision_head import MiniVision, VisionHead, VisionTrunk, split_vision

WIDTH = 64
CHANNELS = 8
CLASS_WORDS = ("cat", "fish")
# Rows of features that hold pixel values.
PIXEL_ROWS = 3 * 224 * 224 // CHANNELS


class BrightnessClassifier(torch.nn.Module):
    """Stands in for the classifier of photographs: the brighter a place, the surer of a fish."""

    words = CLASS_WORDS

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        places = torch.nn.functional.adaptive_avg_pool2d(pixel_values.mean(1), 8).flatten(1)
        fish = places.sigmoid().unsqueeze(-1)
        return torch.cat((1 - fish, fish), dim=-1)


def read_nothing(pixel_values: np.ndarray) -> np.ndarray:
    """Stands in for the reader of print."""
    return np.zeros((len(pixel_values), recipe.READ_TOKENS, 4), np.float32)


def set_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gives the recipe the sizes of `split_tiny`."""
    monkeypatch.setattr(recipe, "EARLY_LAYER", 1)
    monkeypatch.setattr(recipe, "FROZEN_LAYERS", 2)
    monkeypatch.setattr(recipe, "LLM_WIDTH", WIDTH)
    monkeypatch.setattr(recipe, "PROJECTOR_HIDDEN", 32)


def split_tiny(
    read: Callable[[np.ndarray], np.ndarray] = read_nothing,
) -> tuple[VisionTrunk, VisionHead, MiniVision]:
    """Makes trunk, head and exported tower, always the same."""
    return split_vision(tiny_tower(), BrightnessClassifier(), read)


def tiny_tower() -> Dinov2Model:
    """Makes the DINOv2, always the same."""
    torch.manual_seed(5)
    config = Dinov2Config(
        hidden_size=CHANNELS,
        num_hidden_layers=3,
        num_attention_heads=2,
        mlp_ratio=2,
        image_size=224,
        patch_size=14,
    )
    return Dinov2Model(config).eval()
