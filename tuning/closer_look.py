"""A second, closer look at each thing that was found.

Goes in: pixel values, and where things are. Comes out: how each thing looks. In the tower's map of
the whole picture a thing is a handful of patches; cut out and enlarged it is a picture of its own
to the same tower, which then tells far better what it is.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from edge_et.export.vision_modules import Dinov2Patches

CLOSER_PIXELS = 112
"""Height and width of a thing that is looked at closer."""

# What is cut out, in a thing's longer sides.
_AROUND = 1.15


class CloserLook(nn.Module):
    """Looks at things.

    Attributes:
        width: Of a look.
    """

    def __init__(self, backbone: Dinov2Patches) -> None:
        """Take a tower for pictures of `CLOSER_PIXELS`."""
        super().__init__()
        self.backbone = backbone
        self.width = 2 * backbone.width

    def forward(self, pixel_values: Tensor, boxes: Tensor) -> Tensor:
        """Give how things look, [N, K, width]: the class token, and the mean of the middle.

        Args:
            pixel_values: [N, 3, H, W] of the whole pictures.
            boxes: [N, K, 3]: x, y and longer side of things, as shares of the picture's side.
        """
        hidden = self.backbone.embed(cut_out(pixel_values, boxes))
        for layer in self.backbone.layers:
            hidden = layer(hidden)
        hidden = self.backbone.norm(hidden)
        looks = torch.cat((hidden[:, 0], _middle(hidden)), dim=-1)
        return looks.unflatten(0, boxes.shape[:2])


def cut_out(pixel_values: Tensor, boxes: Tensor) -> Tensor:
    """Cuts things out, [N * K, 3, `CLOSER_PIXELS`, `CLOSER_PIXELS`]; see `CloserLook.forward`."""
    count = boxes.shape[1]
    steps = (torch.arange(CLOSER_PIXELS, device=boxes.device) + 0.5) * 2 / CLOSER_PIXELS - 1
    reach = boxes[..., 2:] * _AROUND
    columns = boxes[..., 0:1] * 2 - 1 + reach * steps
    rows = boxes[..., 1:2] * 2 - 1 + reach * steps
    square = (-1, count * CLOSER_PIXELS, CLOSER_PIXELS)
    x = columns.unsqueeze(2).expand(-1, -1, CLOSER_PIXELS, -1).reshape(square)
    y = rows.unsqueeze(3).expand(-1, -1, -1, CLOSER_PIXELS).reshape(square)
    # All things of a picture are sampled at once, one below the other.
    cut = functional.grid_sample(
        pixel_values, torch.stack((x, y), dim=-1), padding_mode="border", align_corners=False
    )
    things = cut.unflatten(2, (count, CLOSER_PIXELS)).transpose(1, 2)
    return things.flatten(0, 1)


def _middle(hidden: Tensor) -> Tensor:
    """Give the mean [N, C] of what hidden states [N, 1 + P, C] say of the middle."""
    patches = hidden[:, 1:]
    side = math.isqrt(patches.shape[1])
    edge = side // 4
    grid = patches.unflatten(1, (side, side))
    return grid[:, edge : side - edge, edge : side - edge].mean(dim=(1, 2))
