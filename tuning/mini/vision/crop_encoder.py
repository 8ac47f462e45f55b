"""The crop encoder: a second, closer look at each thing that was found.

In: pixel values, and where things are. Out: how each thing looks. In the tower's map of the whole
picture a thing covers a handful of patches. Cut out and enlarged, it is a picture of its own to the
same tower, which then tells far better what it is. For these pictures the tower learns low-rank
additions to its linears (LoRA, arXiv 2106.09685), so that its weights are there once.
"""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from edge_et.export.vision.torch_tower import Dinov2Patches

CLOSER_PIXELS = 168
"""Height and width of a thing that is looked at closer."""
AROUND = 1.15
"""What is cut out, in a thing's longer sides."""

_RANK = 16


class LowRank(nn.Module):
    """What is added to the result of a linear; nothing at first."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.down = nn.Linear(linear.in_features, _RANK, bias=False)
        self.up = nn.Linear(_RANK, linear.out_features, bias=False)
        self.reset(torch.Generator().manual_seed(0))

    def reset(self, generator: torch.Generator) -> None:
        """Draw new weights that add nothing yet."""
        with torch.no_grad():
            # Drawn on the CPU, so that every device begins with the same ones.
            drawn = torch.randn(self.down.weight.shape, generator=generator)
            self.down.weight.copy_(drawn * self.down.in_features**-0.5)
            self.up.weight.zero_()

    def forward(self, hidden: Tensor) -> Tensor:
        """Give what is added, [..., out], for what the linear is given, [..., in]."""
        added: Tensor = self.up(self.down(hidden))
        return added


class _Added(nn.Module):
    """A linear, and what is added to it."""

    def __init__(self, linear: nn.Linear, addition: LowRank) -> None:
        super().__init__()
        self.linear = linear
        self.addition = addition

    def forward(self, hidden: Tensor) -> Tensor:
        result: Tensor = self.linear(hidden) + self.addition(hidden)
        return result


class CropEncoder(nn.Module):
    """Looks at things.

    Attributes:
        width: of a look.
        additions: what the tower learns for this alone, for each linear of its layers.
    """

    def __init__(self, backbone: Dinov2Patches) -> None:
        """Take a tower for pictures of `CLOSER_PIXELS`; its weights are shared."""
        super().__init__()
        self.backbone = backbone
        self.width = 2 * backbone.width
        self.additions = nn.ModuleList()
        self.layers = nn.ModuleList(self._with_additions(layer) for layer in backbone.layers)

    def forward(self, pixel_values: Tensor, boxes: Tensor) -> Tensor:
        """Give how things look, [N, K, width].

        Args:
            pixel_values: [N, 3, H, W] of the whole pictures.
            boxes: [N, K, 3]: x, y and longer side of things, as shares of the picture's side.
        """
        return self.look(cut_out(pixel_values, boxes)).unflatten(0, boxes.shape[:2])

    def look(self, cuts: Tensor) -> Tensor:
        """Give the class token, and the mean of the middle, side by side.

        Args:
            cuts: [M, 3, `CLOSER_PIXELS`, `CLOSER_PIXELS`], pixel values of things.

        Returns:
            [M, width].
        """
        hidden = self.backbone.embed(cuts)
        for layer in self.layers:
            hidden = layer(hidden)
        hidden = self.backbone.norm(hidden)
        return torch.cat((hidden[:, 0], _middle(hidden)), dim=-1)

    def _with_additions(self, layer: nn.Module) -> nn.Module:
        """Copy a layer, but none of its weights, and put an addition on each of its linears."""
        own = copy.deepcopy(layer, {id(weight): weight for weight in layer.parameters()})
        for module in list(own.modules()):
            for name, child in list(module.named_children()):
                if isinstance(child, nn.Linear):
                    addition = LowRank(child)
                    self.additions.append(addition)
                    setattr(module, name, _Added(child, addition))
        return own


def cut_out(
    pixel_values: Tensor, boxes: Tensor, pixels: int = CLOSER_PIXELS, around: float = AROUND
) -> Tensor:
    """Cut things out and enlarge them.

    Args:
        pixel_values: see `CropEncoder.forward`.
        boxes: see there.
        pixels: height and width of what is cut out.
        around: what is cut out, in a thing's longer sides.

    Returns:
        [N * K, 3, pixels, pixels].
    """
    count = boxes.shape[1]
    steps = (torch.arange(pixels, device=boxes.device) + 0.5) * 2 / pixels - 1
    reach = boxes[..., 2:] * around
    columns = boxes[..., 0:1] * 2 - 1 + reach * steps
    rows = boxes[..., 1:2] * 2 - 1 + reach * steps
    square = (-1, count * pixels, pixels)
    x = columns.unsqueeze(2).expand(-1, -1, pixels, -1).reshape(square)
    y = rows.unsqueeze(3).expand(-1, -1, -1, pixels).reshape(square)
    # All things of a picture are sampled at once, one below the other.
    cut = functional.grid_sample(
        pixel_values, torch.stack((x, y), dim=-1), padding_mode="border", align_corners=False
    )
    things = cut.unflatten(2, (count, pixels)).transpose(1, 2)
    return things.flatten(0, 1)


def _middle(hidden: Tensor) -> Tensor:
    """Give the mean [N, C] of what hidden states [N, 1 + P, C] say of the middle."""
    patches = hidden[:, 1:]
    side = math.isqrt(patches.shape[1])
    edge = side // 4
    grid = patches.unflatten(1, (side, side))
    return grid[:, edge : side - edge, edge : side - edge].mean(dim=(1, 2))
