"""Training of the gate that decides where to trust the classifier of photographs.

In: feature shards. Out: a gate that opens where the classifier's likeliest word is what is drawn
there. Scenes show few photographs, and small ones, so the classifier is seldom right in them. The
pictures of people who ask are photographs mostly. Therefore being right weighs more in the loss
than being wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from edge_et.tuning.mini.vision.feature_shards import SHARD_SCENES, FeatureShard, load_shard

if TYPE_CHECKING:
    from edge_et.tuning.mini.vision.vision_head import VisionHead

_STEPS = 600
_SCENES_PER_STEP = 32
_RATE = 1e-2
_RIGHT_WEIGHT = 5.0


def fit_trust(
    head: VisionHead,
    class_words: Sequence[str],
    class_tokens: Tensor,
    shards: Sequence[Path],
    seed: int,
) -> None:
    """Train the gate of a head in place, from the start; the rest of the head stays as it is.

    It takes seconds, so a killed run begins anew, and ends the same.

    Args:
        head: whose `trust` is trained.
        class_words: the classifier's words.
        class_tokens: float32 [words, D], the image token that shall stand for each.
        shards: of scenes with some photographs.
        seed: of weights and batches.
    """
    trust = head.trust
    device = trust.vectors.device
    words = np.array(class_words)
    generator = torch.Generator().manual_seed(seed)
    trust.reset(generator)
    trust.vectors.copy_(class_tokens)
    optimizer = torch.optim.AdamW(trust.parameters(), lr=_RATE, weight_decay=0.01)
    per_visit = SHARD_SCENES // _SCENES_PER_STEP
    for visit in range(_STEPS // per_visit):
        shard = load_shard(shards[visit % len(shards)])
        scenes = torch.randperm(SHARD_SCENES, generator=generator).numpy()
        for rows in scenes.reshape(per_visit, _SCENES_PER_STEP):
            optimizer.param_groups[0]["lr"] = _RATE * (1 - visit * per_visit / _STEPS)
            features = torch.from_numpy(shard.features[rows]).float().to(device)
            looks, shares = head.judged(features)
            right, clear = _rightness(shard, rows, words[shares.argmax(dim=-1).cpu().numpy()])
            loss = functional.binary_cross_entropy_with_logits(
                trust.logits(looks, shares)[clear.to(device)],
                right[clear].to(device),
                pos_weight=torch.tensor(_RIGHT_WEIGHT, device=device),
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


def _rightness(shard: FeatureShard, rows: np.ndarray, named: np.ndarray) -> tuple[Tensor, Tensor]:
    """Tell where words are right, float32 [N, S], and where that can be told, bool [N, S]."""
    covered = shard.token_shares[rows, :, 0]
    shown = np.where(covered > 0, shard.words[shard.token_words[rows, :, 0]], "")
    return torch.from_numpy((named == shown).astype(np.float32)), torch.from_numpy(covered >= 0)
