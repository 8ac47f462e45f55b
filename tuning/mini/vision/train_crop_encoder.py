"""Training that teaches the crop encoder to tell things apart, however they are drawn.

In: crops of things with their names, and of other kinds. Out: the additions to the tower's linears,
and a classifier of crops. The tower sees single things drawn in many ways, so that what it makes of
them depends less on who drew them. It tells a thousand other kinds apart as well, which teaches it
more of that.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from edge_et.tuning.mini.vision.crop_classifier import (
    NAMES,
    CropClassifier,
    discriminants,
    fit_namer,
)
from edge_et.tuning.mini.vision.crop_encoder import CropEncoder
from edge_et.tuning.mini.vision.crops import Cutouts, is_coloured, middles, varied
from edge_et.tuning.training.precision import working_precision
from edge_et.tuning.training.train import rate_factor
from edge_et.tuning.training.training_checkpoint import load_checkpoint, save_checkpoint

# Of each step.
_THINGS, _OTHERS = 48, 32
_RATE = 3e-4
_WARMUP = 30
_COOLDOWN = 0.6
_CHECKPOINT_STEPS = 50
_AT_ONCE = 64
# Discriminant analysis of so many cut-outs is where descent begins; it is too sure of itself to be
# gone on from as it is, and what it has right would be unlearnt.
_FITTED_TO = 10_000
_SOFTENED = 8.0
_LABEL_SMOOTHING = 0.05
# The logit, to begin with, of a kind that was not shown.
_UNSHOWN = -200.0


def train_closer_look(
    closer: CropEncoder,
    namer: CropClassifier,
    things: Cutouts,
    others: Cutouts,
    checkpoint: Path,
    *,
    epochs: int,
    seed: int,
    on_step: Callable[[dict[str, Any]], None] = lambda record: None,
) -> None:
    """Train the additions and fit the namer, in place, going on from the checkpoint.

    Args:
        closer: whose additions learn; the rest of it stays as it is.
        namer: learns what things look like then; its tokens stay as they are.
        things: of kinds that are numbers of `NAMES`.
        others: of other kinds.
        checkpoint: where progress is kept, and in the end, what was learnt.
        epochs: times each of the things is seen.
        seed: of orders and variations.
        on_step: called after each step with its record.
    """
    state = load_checkpoint(checkpoint) or {}
    if _take_over(closer, namer, state):
        return
    device = closer.backbone.positions.device
    tellers = nn.ModuleList(
        nn.Linear(closer.width, kinds) for kinds in (len(NAMES), int(others.kinds.max()) + 1)
    ).to(device)
    learning = [*closer.additions.parameters(), *tellers.parameters()]
    optimizer = torch.optim.AdamW(learning, weight_decay=0.01)
    if state:
        closer.additions.load_state_dict(state["additions"])
        tellers.load_state_dict(state["tellers"])
        optimizer.load_state_dict(state["optimizer"])
    else:
        generator = torch.Generator().manual_seed(seed)
        for teller, cutouts in zip(tellers, (things, others), strict=True):
            assert isinstance(teller, nn.Linear)
            rows = torch.randperm(len(cutouts), generator=generator)[:_FITTED_TO]
            _fit_teller(teller, look_at(closer, cutouts.pictures[rows]), cutouts.kinds[rows])
    steps = epochs * math.ceil(len(things) / _THINGS)
    for step in range(state.get("step", 0), steps):
        for group in optimizer.param_groups:
            group["lr"] = _RATE * rate_factor(step, steps, _WARMUP, _COOLDOWN)
        loss = _loss(closer, tellers, _drawn(things, others, step, seed))
        # Of these alone, as what they are added to may learn in other stages.
        for weight, gradient in zip(learning, torch.autograd.grad(loss, learning), strict=True):
            weight.grad = gradient
        optimizer.step()
        on_step({"step": step + 1, "of": steps, "loss": round(float(loss.detach()), 4)})
        if (step + 1) % _CHECKPOINT_STEPS == 0:
            progress = {
                "step": step + 1,
                "additions": closer.additions.state_dict(),
                "tellers": tellers.state_dict(),
                "optimizer": optimizer.state_dict(),
            }
            save_checkpoint(checkpoint, progress)
    fit_namer(namer, look_at(closer, things.pictures), things.kinds)
    fitted = {name: value for name, value in namer.state_dict().items() if name != "tokens"}
    save_checkpoint(checkpoint, {"additions": closer.additions.state_dict(), "namer": fitted})


def load_closer_look(closer: CropEncoder, namer: CropClassifier, checkpoint: Path) -> bool:
    """Take over what a training has learnt that came to its end; say whether one did."""
    return _take_over(closer, namer, load_checkpoint(checkpoint) or {})


def _take_over(closer: CropEncoder, namer: CropClassifier, state: dict[str, Any]) -> bool:
    if "namer" not in state:
        return False
    closer.additions.load_state_dict(state["additions"])
    namer.load_state_dict(state["namer"], strict=False)
    return True


def look_at(closer: CropEncoder, pictures: Tensor) -> Tensor:
    """Give how cut-outs look, float32 [N, width]; their `pictures` are taken."""
    device = closer.backbone.positions.device
    made = []
    with torch.no_grad(), working_precision(device):
        for some in pictures.split(_AT_ONCE):
            made.append(closer.look(middles(some).to(device)).float().cpu())
    return torch.cat(made)


def _fit_teller(teller: nn.Linear, looks: Tensor, kinds: Tensor) -> None:
    """Make a teller say what discriminant analysis does, by which descent begins."""
    weight, bias, middle = discriminants(looks, kinds, teller.out_features)
    with torch.no_grad():
        teller.weight.copy_(weight)
        teller.bias.copy_(bias.clamp(min=_UNSHOWN) - weight @ middle.double())


def _drawn(things: Cutouts, others: Cutouts, step: int, seed: int) -> list[Cutouts]:
    """Draw what a step sees, varied; each of the things is seen once in an epoch."""
    generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
    epoch, within = divmod(step, math.ceil(len(things) / _THINGS))
    order = torch.randperm(len(things), generator=torch.Generator().manual_seed(seed + epoch))
    rows = order[within * _THINGS :][:_THINGS]
    kinds = things.kinds[rows]
    seen = varied(things.pictures[rows], is_coloured(kinds), generator)
    other_rows = torch.randint(len(others), (_OTHERS,), generator=generator)
    uncoloured = torch.zeros(_OTHERS, dtype=torch.bool)
    other_seen = varied(others.pictures[other_rows], uncoloured, generator)
    return [Cutouts(seen, kinds), Cutouts(other_seen, others.kinds[other_rows])]


def _loss(closer: CropEncoder, tellers: nn.ModuleList, drawn: Sequence[Cutouts]) -> Tensor:
    """Compute the cross-entropy of things and others, each told apart among themselves."""
    device = closer.backbone.positions.device
    with working_precision(device):
        looks = closer.look(torch.cat([part.pictures for part in drawn]).to(device)).float()
    losses = [
        functional.cross_entropy(
            teller(seen) / _SOFTENED,
            part.kinds.to(device),
            label_smoothing=_LABEL_SMOOTHING,
            reduction="sum",
        )
        for teller, seen, part in zip(
            tellers, looks.split([len(part) for part in drawn]), drawn, strict=True
        )
    ]
    return torch.stack(losses).sum() / len(drawn[0])
