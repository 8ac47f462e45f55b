"""The classifier of crops: it names a thing by how it looks.

In: what `crop_encoder.CropEncoder` gives. Out: how likely each name is.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edge_et.tuning.mini.scenes.objects import ALL_LABELS

NAMES = tuple(label.words for label in ALL_LABELS)

# How far the scatter of looks is drawn to a round one.
_SHRINKAGE = 0.2
# The logit of a name that no scene showed.
_NEVER = -1e4


class CropClassifier(nn.Module):
    """Names things.

    Attributes:
        middle: float32 [C], the mean of how things look.
        tokens: float32 [names, D], the image token of each of `NAMES`.
    """

    middle: Tensor

    def __init__(self, channels: int, llm_width: int) -> None:
        super().__init__()
        self.register_buffer("middle", torch.zeros(channels))
        self.tell = nn.Linear(channels, len(NAMES))
        self.tokens = nn.Parameter(torch.zeros(len(NAMES), llm_width))

    def forward(self, looks: Tensor) -> Tensor:
        """Give logits [N, K, names] for looks [N, K, C], less the mean."""
        logits: Tensor = self.tell(looks)
        return logits


def fit_namer(namer: CropClassifier, seen: Tensor, names: Tensor) -> None:
    """Fit a namer in place, by linear discriminant analysis; its tokens stay as they are.

    With some tens of looks of a name, that names drawings of a style never seen a little better
    than descent does, and takes one pass.

    Args:
        namer: to fit.
        seen: [things, C], how they look.
        names: int64 [things], numbers of `NAMES`.
    """
    weight, bias, middle = discriminants(seen, names, len(NAMES))
    with torch.no_grad():
        namer.middle.copy_(middle)
        namer.tell.weight.copy_(weight)
        namer.tell.bias.copy_(bias)


def discriminants(seen: Tensor, kinds: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Fit what tells kinds apart.

    Args:
        seen: [things, C], how they look.
        kinds: int64 [things].
        count: how many kinds there are.

    Returns:
        Weights float64 [count, C] and biases [count] of logits, for looks less the mean, and this
        mean, float32 [C].
    """
    seen = seen.float()
    middle = seen.mean(dim=0)
    looks = (seen - middle).double()
    width = looks.shape[1]
    shown = torch.bincount(kinds, minlength=count)
    means = torch.zeros(count, width, dtype=looks.dtype).index_add(0, kinds, looks)
    means = means / shown.clamp(min=1).unsqueeze(1)
    off = looks - means[kinds]
    scatter = off.T @ off / len(off)
    round_one = torch.eye(width, dtype=scatter.dtype) * scatter.diagonal().mean()
    weight = torch.linalg.solve(torch.lerp(scatter, round_one, _SHRINKAGE), means.T).T
    bias = -(weight * means).sum(dim=1) / 2
    return weight, torch.where(shown > 0, bias, _NEVER), middle
