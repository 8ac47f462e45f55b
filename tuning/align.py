"""Stage 0: points the projector's image tokens at the LLM's own word embeddings, without the LLM.

Goes in: feature shards. Comes out: a projector under which the token of an image cell looks like
the words of what is drawn there. This costs minutes, and gives the joint tuning that follows a
start from which the LLM learns to read image tokens quickly.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edge_et.tuning.checkpoint import load_checkpoint, save_checkpoint
from edge_et.tuning.features import TOKEN_GRID, FeatureShard, load_shard

if TYPE_CHECKING:
    import torch

    from edge_et.export.projector import PixelShuffleProjector

_BACKGROUND_SHARE = 0.4


@dataclass(frozen=True, slots=True, kw_only=True)
class AlignSettings:
    """How stage 0 trains.

    Attributes:
        steps: Optimizer steps.
        batch_tokens: Image tokens a step.
        learning_rate: Peak, reached after 5% of the steps, then a cosine to zero.
        temperature: Divides the cosines before the softmax over labels.
        norm: Length to which image tokens are drawn, in mean lengths of the labels' embeddings.
        norm_weight: Weight of the penalty that does so.
        dropout: Share of the patch features that are blanked.
        seed: Of batches and of the projector's first weights.
        checkpoint_steps: Steps between checkpoints.
    """

    steps: int = 600
    batch_tokens: int = 3072
    learning_rate: float = 1e-3
    temperature: float = 0.05
    norm: float = 1.6
    norm_weight: float = 0.1
    dropout: float = 0.3
    seed: int = 0
    checkpoint_steps: int = 200


@dataclass(frozen=True, slots=True, eq=False)
class _Cells:
    """Patches under single image tokens, float16 [cells, 4, C], with their labels [cells]."""

    patches: np.ndarray
    labels: np.ndarray


def align_projector(
    projector: PixelShuffleProjector,
    targets: torch.Tensor,
    shards: Sequence[Path],
    checkpoint: Path,
    settings: AlignSettings,
    on_progress: Callable[[int, float, float], None] = lambda step, loss, right: None,
) -> None:
    """Trains a projector in place, going on from the checkpoint if there is one.

    Args:
        projector: What to train.
        targets: float32 [labels + 1, D]: an embedding for each label, then the background's.
        shards: Feature shards to train on.
        checkpoint: Where progress is kept.
        settings: How to train.
        on_progress: Called with step, loss, and the share of object cells named right.
    """
    import torch
    from torch.nn import functional

    cells = _gather_cells(shards, len(targets) - 1, np.random.default_rng(settings.seed))
    optimizer = torch.optim.AdamW(projector.parameters(), lr=1.0, weight_decay=0.01)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, _schedule(settings))
    directions = functional.normalize(targets, dim=-1)
    length = settings.norm * targets.norm(dim=-1).mean()
    step = 0
    state = load_checkpoint(checkpoint)
    if state is not None:
        step = state["step"]
        projector.load_state_dict(state["projector"])
        optimizer.load_state_dict(state["optimizer"])
        scheduler.load_state_dict(state["scheduler"])
    while step < settings.steps:
        rng = np.random.default_rng([settings.seed, step])
        rows = rng.integers(len(cells.labels), size=settings.batch_tokens)
        labels = torch.from_numpy(cells.labels[rows])
        patches = _blank(cells.patches[rows], settings.dropout, rng)
        tokens = projector(torch.from_numpy(patches))[:, 0]
        cosines = functional.normalize(tokens, dim=-1) @ directions.T
        right = functional.cross_entropy(cosines / settings.temperature, labels)
        drift = ((tokens.norm(dim=-1) / length - 1) ** 2).mean()
        loss = right + settings.norm_weight * drift
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        step += 1
        if step % 20 == 0:
            seen = labels < len(targets) - 1
            share = (cosines.argmax(dim=-1) == labels)[seen].float().mean()
            on_progress(step, float(loss.detach()), float(share))
        if step % settings.checkpoint_steps == 0 or step == settings.steps:
            save_checkpoint(
                checkpoint,
                {
                    "step": step,
                    "projector": projector.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "scheduler": scheduler.state_dict(),
                },
            )


def cell_accuracy(
    projector: PixelShuffleProjector, targets: torch.Tensor, shards: Sequence[Path]
) -> float:
    """Returns the share of object cells whose nearest label is the right one."""
    import torch
    from torch.nn import functional

    cells = _gather_cells(shards, len(targets) - 1, np.random.default_rng(0))
    seen = cells.labels < len(targets) - 1
    with torch.no_grad():
        tokens = projector(torch.from_numpy(cells.patches[seen]).float())[:, 0]
    nearest = functional.normalize(tokens, dim=-1) @ functional.normalize(targets, dim=-1).T
    return float((nearest.argmax(dim=-1).numpy() == cells.labels[seen]).mean())


def _schedule(settings: AlignSettings) -> Callable[[int], float]:
    def rate(step: int) -> float:
        warm = min(1.0, (step + 1) / (0.05 * settings.steps))
        return settings.learning_rate * warm * 0.5 * (1 + math.cos(math.pi * step / settings.steps))

    return rate


def _blank(patches: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Returns float32 features with a share of them zero and the others scaled up (dropout)."""
    kept = rng.random(patches.shape, np.float32) >= share
    return patches.astype(np.float32) * kept / np.float32(1 - share)


def _gather_cells(shards: Sequence[Path], background: int, rng: np.random.Generator) -> _Cells:
    parts = [_shard_cells(load_shard(path), background, rng) for path in shards]
    return _Cells(
        np.concatenate([part.patches for part in parts]),
        np.concatenate([part.labels for part in parts]),
    )


def _shard_cells(shard: FeatureShard, background: int, rng: np.random.Generator) -> _Cells:
    scenes, patches, width = shard.features.shape
    side = int(patches**0.5) // TOKEN_GRID
    blocks = shard.features.reshape(scenes, TOKEN_GRID, side, TOKEN_GRID, side, width)
    blocks = blocks.transpose(0, 1, 3, 2, 4, 5).reshape(-1, side * side, width)
    labels = shard.token_labels.reshape(-1).astype(np.int64)
    objects = np.flatnonzero(labels >= 0)
    empty = np.flatnonzero(labels == -1)
    count = min(len(empty), int(len(objects) * _BACKGROUND_SHARE))
    sampled = rng.choice(empty, size=count, replace=False)
    chosen = np.concatenate([objects, sampled])
    return _Cells(blocks[chosen], np.where(labels[chosen] < 0, background, labels[chosen]))
