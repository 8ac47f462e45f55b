"""Stage 0: image tokens are pointed at the LLM's own word embeddings, without the LLM.

In: feature shards. Out: a vision head whose token for a cell of the image looks like the words for
what is drawn there. The token also tells the place of the thing, how many of its kind there are,
and whether the thing has its centre in the cell. The stage takes minutes. The LLM then learns to
read image tokens quickly.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from edge_et.tuning.mini.concepts import PLACES
from edge_et.tuning.mini.facts import ObjectFacts
from edge_et.tuning.mini.language_model import label_embeddings
from edge_et.tuning.mini.ocr.weights import CHARACTERS
from edge_et.tuning.mini.vision.crop_classifier import NAMES
from edge_et.tuning.mini.vision.feature_shards import (
    SHARD_SCENES,
    TOKEN_GRID,
    FeatureShard,
    load_shard,
)
from edge_et.tuning.mini.vision.places import places_of
from edge_et.tuning.training.precision import working_precision
from edge_et.tuning.training.training_checkpoint import load_checkpoint, save_checkpoint

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from edge_et.tuning.mini.vision.vision_head import VisionHead

BACKGROUND = "background"
_PLACES = tuple(place for row in PLACES for place in row)
_SIZES = ("large", "small")
_OTHERWISE = "or"

_TEMPERATURE = 0.05
_BACKGROUND_SHARE = 0.4
# Image tokens are drawn to this many mean lengths of the words' embeddings.
_TOKEN_LENGTH = 1.6
_PLACE_LENGTH = 0.5
_SIZE_LENGTH = 1.2
_LENGTH_WEIGHT = 0.1
_CENTRE_WEIGHT = 0.5
_PLACE_WEIGHT = 0.5
_COUNT_WEIGHT = 0.5
# Turns how far a token points to a place or a number, in lengths of an embedding, into a logit.
_POINTING_SCALE = 6.0
_MOST_COUNTED = 10
# Of 64 tokens, a handful hold a centre.
_CENTRE_BALANCE = 8.0


@dataclass(frozen=True, slots=True, kw_only=True)
class AlignSettings:
    """How stage 0 trains.

    Attributes:
        epochs: times that every scene is seen.
        scenes_per_step: scenes a step, which divides `SHARD_SCENES`.
        projector_rate: peak learning rate of the projector, reached after 5% of the steps, then a
            cosine to zero.
        tower_rate: the same of the tower's last layers.
        seed: of batches.
        checkpoint_steps: steps between checkpoints.
    """

    epochs: int = 3
    scenes_per_step: int = 32
    projector_rate: float = 1e-3
    tower_rate: float = 1e-4
    seed: int = 0
    checkpoint_steps: int = 100


class WordTargets:
    """The directions that image tokens are drawn to: a mean embedding for each text.

    Args:
        table: float32 [V, D], the LLM's input embeddings.
        tokenizer: the LLM's.
        words: all texts that scenes may hold.
    """

    def __init__(self, table: Tensor, tokenizer: Tokenizer, words: Sequence[str]) -> None:
        self._table, self._tokenizer = table.float(), tokenizer
        self.words = (*sorted(set(words)), BACKGROUND)
        self.ids = {word: i for i, word in enumerate(self.words)}
        embeddings = label_embeddings(list(self.words), table.float(), tokenizer)
        self.directions = functional.normalize(embeddings, dim=-1)
        self.length = float(embeddings.norm(dim=-1).mean())
        places = label_embeddings(list(_PLACES), table.float(), tokenizer)
        self.places = functional.normalize(places - places.mean(dim=0), dim=-1)
        # The shipped head was aligned with the sixth row and column of tokens in the middle place.
        # Its codes are kept with its weights; only a new alignment sets these.
        rows, columns = np.mgrid[0:TOKEN_GRID, 0:TOKEN_GRID].reshape(2, -1)
        self.place_codes = self.places[places_of(rows, columns, TOKEN_GRID).tolist()]
        digits = [str(number) for number in range(1, _MOST_COUNTED + 1)]
        numbers = label_embeddings(digits, table.float(), tokenizer)
        self.numbers = functional.normalize(numbers - numbers.mean(dim=0), dim=-1)

    def tokens(self, words: Sequence[str]) -> Tensor:
        """Return the image tokens, float32 [words, D], that show words and no place."""
        embeddings = label_embeddings(list(words), self._table, self._tokenizer)
        return functional.normalize(embeddings, dim=-1) * _TOKEN_LENGTH * self.length


def begin(head: VisionHead, table: Tensor, tokenizer: Tokenizer) -> None:
    """Set what a new head lists and reads to the LLM's own words for it.

    Args:
        head: changed in place.
        table: float32 [V, D], the LLM's input embeddings.
        tokenizer: the LLM's.
    """
    targets = WordTargets(table, tokenizer, [*CHARACTERS, *NAMES, *_SIZES, _OTHERWISE])
    large, small = (targets.directions[targets.ids[word]] for word in _SIZES)
    head.inventory.begin_as(
        numbers=targets.tokens([str(number) for number in range(1, _MOST_COUNTED + 1)]),
        places=targets.places * targets.length * _TOKEN_LENGTH,
        names=targets.tokens(NAMES),
        size=functional.normalize(large - small, dim=-1) * targets.length * _SIZE_LENGTH,
        otherwise=targets.tokens([_OTHERWISE])[0],
        nothing=targets.tokens([BACKGROUND])[0],
    )
    head.letters.begin_as(targets.tokens([BACKGROUND, *CHARACTERS]))


def align(
    head: VisionHead,
    targets: WordTargets,
    shards: Sequence[Path],
    checkpoint: Path,
    settings: AlignSettings,
    on_step: Callable[[dict[str, Any]], None] = lambda record: None,
) -> None:
    """Train a vision head in place, going on from the checkpoint if there is one.

    Args:
        head: what to train.
        targets: what tokens are to look like.
        shards: feature shards to train on.
        checkpoint: where progress is kept.
        settings: how to train.
        on_step: called with step, loss, and the share of covered cells named right.
    """
    with torch.no_grad():
        codes = targets.place_codes * targets.length * _PLACE_LENGTH
        head.projector.place_codes.copy_(codes)
    centre = nn.Linear(targets.directions.shape[1], 1).to(targets.directions.device)
    optimizer = torch.optim.AdamW(
        [
            {"params": [*head.projector.parameters(), *centre.parameters()]},
            {"params": list(head.layers.parameters())},
        ],
        lr=0.0,
        weight_decay=0.01,
    )
    parts: dict[str, Any] = {"head": head, "centre": centre, "optimizer": optimizer}
    steps = settings.epochs * len(shards) * SHARD_SCENES // settings.scenes_per_step
    step = 0
    state = load_checkpoint(checkpoint)
    if state is not None:
        step = state["step"]
        for name, part in parts.items():
            part.load_state_dict(state[name])
    head.train()
    for number, shard, rows in _batches(shards, settings, step):
        began = time.monotonic()
        factor = min(1.0, (number + 1) / (0.05 * steps)) * (1 + math.cos(math.pi * number / steps))
        optimizer.param_groups[0]["lr"] = settings.projector_rate * factor / 2
        optimizer.param_groups[1]["lr"] = settings.tower_rate * factor / 2
        loss, right = _loss(head, centre, targets, shard, rows)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_([*head.parameters(), *centre.parameters()], 1.0)
        optimizer.step()
        step = number + 1
        record = {
            "step": step,
            "loss": round(float(loss.detach()), 4),
            "right": {"cells": round(right, 4)},
            "seconds": round(time.monotonic() - began, 2),
        }
        on_step(record)
        if step % settings.checkpoint_steps == 0 or step == steps:
            saved = {name: part.state_dict() for name, part in parts.items()}
            save_checkpoint(checkpoint, {"step": step, **saved})


def cell_accuracy(head: VisionHead, targets: WordTargets, shards: Sequence[Path]) -> float:
    """Return the share of covered cells whose nearest text is the right one."""
    shares = []
    centre = nn.Linear(targets.directions.shape[1], 1).to(targets.directions.device)
    with torch.no_grad():
        for path in shards:
            shard = load_shard(path)
            for start in range(0, len(shard.facts), 32):
                rows = np.arange(start, min(start + 32, len(shard.facts)))
                shares.append(_loss(head, centre, targets, shard, rows)[1])
    return float(np.mean(shares))


def _loss(
    head: VisionHead,
    centre: nn.Linear,
    targets: WordTargets,
    shard: FeatureShard,
    rows: np.ndarray,
) -> tuple[Tensor, float]:
    """Compute the loss of some scenes, and the share of covered cells named right."""
    device = targets.directions.device
    with working_precision(device):
        tokens = head.own_tokens(torch.from_numpy(shard.features[rows]).float().to(device))
    placed = tokens.float().flatten(0, 1)
    tokens = (tokens.float() - head.projector.place_codes).flatten(0, 1)
    words = shard.token_words[rows].reshape(len(tokens), -1)
    shares = shard.token_shares[rows].reshape(len(tokens), -1).astype(np.float32)
    covered, empty = shares[:, 0] > 0, shares[:, 0] == 0
    chances = np.zeros((len(tokens), len(targets.words)), np.float32)
    ids = np.array([targets.ids[str(word)] for word in shard.words], np.int64)
    for k in range(words.shape[1]):
        named = covered & (words[:, k] >= 0)
        chances[np.flatnonzero(named), ids[words[named, k]]] += shares[named, k]
    chances /= np.maximum(chances.sum(axis=1, keepdims=True), 1e-6)
    chances[empty, targets.ids[BACKGROUND]] = 1
    weights = covered + empty * _BACKGROUND_SHARE * covered.sum() / max(1, empty.sum())
    cosines = functional.normalize(tokens, dim=-1) @ targets.directions.T
    wanted = torch.from_numpy(chances).to(device)
    wrong = functional.cross_entropy(cosines / _TEMPERATURE, wanted, reduction="none")
    weight = torch.from_numpy(weights.astype(np.float32)).to(device)
    drift = (tokens.norm(dim=-1) / (_TOKEN_LENGTH * targets.length) - 1) ** 2
    centres = torch.from_numpy(shard.centres[rows].reshape(-1).astype(np.float32)).to(device)
    found = functional.binary_cross_entropy_with_logits(
        centre(tokens)[:, 0], centres, pos_weight=torch.tensor(_CENTRE_BALANCE, device=device)
    )
    loss = (wrong * weight).sum() / weight.sum()
    places, counts = np.concatenate([_objects_under(shard, int(row)) for row in rows], axis=1)
    loss = loss + _PLACE_WEIGHT * _pointing_loss(placed, targets.places, places, targets.length)
    loss = loss + _COUNT_WEIGHT * _pointing_loss(placed, targets.numbers, counts, targets.length)
    best = cosines.detach().argmax(dim=-1).cpu().numpy()
    right = best[covered] == chances[covered].argmax(axis=1)
    return loss + _LENGTH_WEIGHT * drift.mean() + _CENTRE_WEIGHT * found, float(right.mean())


def _batches(shards: Sequence[Path], settings: AlignSettings, done: int):
    """Yield step, shard and scenes of every step that is not done, shard by shard."""
    per_shard = SHARD_SCENES // settings.scenes_per_step
    for visit in range(done // per_shard, settings.epochs * len(shards)):
        epoch, turn = divmod(visit, len(shards))
        order = np.random.default_rng([settings.seed, epoch]).permutation(len(shards))
        shard = load_shard(shards[order[turn]])
        scenes = np.random.default_rng([settings.seed, 1, visit]).permutation(SHARD_SCENES)
        for within in range(per_shard):
            step = visit * per_shard + within
            if step >= done:
                yield (
                    step,
                    shard,
                    scenes[within * settings.scenes_per_step :][: settings.scenes_per_step],
                )


def _pointing_loss(tokens: Tensor, directions: Tensor, wanted: np.ndarray, length: float) -> Tensor:
    """Compute how far tokens are from pointing to one of some directions; -1 wants none.

    All of an object's tokens name the place of its centre, also those beyond that place, and the
    number of its kind, so that one look at any of them tells.
    """
    seen = np.flatnonzero(wanted >= 0)
    if not len(seen):
        return tokens.sum() * 0
    device = tokens.device
    logits = tokens[torch.from_numpy(seen).to(device)] @ directions.T / length
    return functional.cross_entropy(
        logits * _POINTING_SCALE, torch.from_numpy(wanted[seen]).to(device)
    )


def _objects_under(shard: FeatureShard, row: int) -> np.ndarray:
    """Find the object under each token, int64 [2, S]; -1 where there is none.

    Returns:
        The number of its place, and how many objects have its label, counted from 0.
    """
    found = np.full((2, TOKEN_GRID**2), -1)
    facts = shard.scene_facts(row)
    if not isinstance(facts, ObjectFacts):
        return found
    y, x = (np.mgrid[0:TOKEN_GRID, 0:TOKEN_GRID].reshape(2, -1) + 0.5) / TOKEN_GRID
    for token in np.flatnonzero(shard.token_shares[row, :, 0] > 0):
        word = str(shard.words[shard.token_words[row, token, 0]])
        named = [item for item in facts.objects if item.label.words == word]
        nearest = min(named, key=lambda o: (o.x - x[token]) ** 2 + (o.y - y[token]) ** 2)
        found[:, token] = _PLACES.index(nearest.place), len(named) - 1
    return found
