"""The mini model's vision side in training: a frozen trunk, and a head that learns.

Goes in: pictures, of which the trunk makes features once. Comes out: image tokens. Trunk and head
share their modules with the `Dinov2Patches` that is exported, so that export sees what was learnt.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from edge_et.export.projector import PixelShuffleProjector
from edge_et.export.vision_modules import Dinov2Patches, TowerWithProjector, early_features
from edge_et.tuning import recipe
from edge_et.tuning.tower import TOWER_PIXELS, pixel_values

if TYPE_CHECKING:
    from transformers import Dinov2Model


class VisionTrunk:
    """The tower's layers that are not trained.

    Args:
        backbone: The whole tower.
    """

    def __init__(self, backbone: Dinov2Patches) -> None:
        self._backbone = backbone

    def __call__(self, pictures: list[np.ndarray]) -> np.ndarray:
        """Computes the features that the head takes.

        Args:
            pictures: uint8 [H, W, 3] each, `TOWER_PIXELS` square.

        Returns:
            float16 [N, 1 + 2 P, C]: the hidden states where training begins, class token first,
            then the early features.
        """
        device = self._backbone.positions.device
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16):
            hidden = self._backbone.embed(pixel_values(pictures).to(device))
            for number, layer in enumerate(self._backbone.layers[: recipe.FROZEN_LAYERS], 1):
                hidden = layer(hidden)
                if number == recipe.EARLY_LAYER:
                    early = early_features(hidden)
        return torch.cat((hidden.float(), early.float()), dim=1).to(torch.float16).cpu().numpy()


class VisionHead(nn.Module):
    """The tower's last layers and the projector.

    Attributes:
        layers: The tower's layers from `recipe.FROZEN_LAYERS` on, and its final norm.
        projector: Patch features to image tokens.
    """

    def __init__(self, backbone: Dinov2Patches, projector: PixelShuffleProjector) -> None:
        super().__init__()
        self.layers = nn.Sequential(*backbone.layers[recipe.FROZEN_LAYERS :], backbone.norm)
        self.projector = projector

    def forward(self, features: Tensor) -> Tensor:
        """Give image tokens [N, S, D] for features [N, 1 + 2 P, C] of the trunk."""
        patches = features.shape[1] // 2
        late = self.layers(features[:, : patches + 1])[:, 1:]
        patch_features = torch.cat((late, features[:, patches + 1 :]), dim=-1)
        tokens: Tensor = self.projector(patch_features)
        return tokens


def split_vision(tower: Dinov2Model) -> tuple[VisionTrunk, VisionHead, TowerWithProjector]:
    """Splits a tower, with a new projector behind it, into what is frozen and what is trained.

    Args:
        tower: DINOv2-small; its modules are shared.

    Returns:
        Trunk, head, and both joined for export.
    """
    backbone = Dinov2Patches(tower, TOWER_PIXELS, early_layer=recipe.EARLY_LAYER)
    projector = PixelShuffleProjector(
        vision_width=backbone.width,
        factor=recipe.PIXEL_SHUFFLE,
        hidden=recipe.PROJECTOR_HIDDEN,
        llm_width=recipe.LLM_WIDTH,
        places=recipe.IMAGE_TOKENS,
    )
    head = VisionHead(backbone, projector)
    return VisionTrunk(backbone), head, TowerWithProjector(backbone, projector)
