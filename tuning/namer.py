"""Names of things, by how each looks.

Goes in: what `closer_look.CloserLook` gives. Comes out: how likely each name is.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edge_et.tuning.scenes.objects import ALL_LABELS

NAMES = tuple(label.words for label in ALL_LABELS)

# How far the scatter of looks is drawn to a round one.
_SHRINKAGE = 0.2
# The logit of a name that no scene showed.
_NEVER = -1e4


class Namer(nn.Module):
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


def fit_namer(namer: Namer, seen: Tensor, names: Tensor) -> None:
    """Fits a namer in place, by linear discriminant analysis; its tokens stay as they are.

    With some tens of sights of a name, that names drawings of a style never seen a little better
    than descent does, and takes one pass.

    Args:
        namer: To fit.
        seen: [things, C], how they look.
        names: int64 [things], numbers of `NAMES`.
    """
    seen = seen.float()
    middle = seen.mean(dim=0)
    looks = (seen - middle).double()
    width = looks.shape[1]
    count = torch.bincount(names, minlength=len(NAMES))
    means = torch.zeros(len(NAMES), width, dtype=looks.dtype).index_add(0, names, looks)
    means = means / count.clamp(min=1).unsqueeze(1)
    off = looks - means[names]
    scatter = off.T @ off / len(off)
    round_one = torch.eye(width, dtype=scatter.dtype) * scatter.diagonal().mean()
    weight = torch.linalg.solve(torch.lerp(scatter, round_one, _SHRINKAGE), means.T).T
    bias = -(weight * means).sum(dim=1) / 2
    with torch.no_grad():
        namer.middle.copy_(middle)
        namer.tell.weight.copy_(weight)
        namer.tell.bias.copy_(torch.where(count > 0, bias, _NEVER))
