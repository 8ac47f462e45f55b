"""Visual extraction tuning: the projector and a LoRA of the LLM, together, on packed samples.

Goes in: feature shards, the aligned projector, the LLM. Comes out: a checkpoint with projector and
adapter, from which a killed run goes on, and a log of losses.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from edge_et.tuning import recipe
from edge_et.tuning.checkpoint import load_checkpoint, save_checkpoint
from edge_et.tuning.features import SHARD_SCENES, FeatureShard, load_shard
from edge_et.tuning.samples import (
    IGNORED,
    PackedSample,
    attention_mask,
    direct,
    extraction_only,
    pack,
    sample_examples,
    two_stage,
)

if TYPE_CHECKING:
    import torch
    from peft import PeftModel
    from tokenizers import Tokenizer
    from transformers import LlamaForCausalLM, LlamaModel

    from edge_et.export.projector import PixelShuffleProjector


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainSettings:
    """How the joint stage trains.

    Attributes:
        steps: Optimizer steps in all; the rate falls to zero over the last `cooldown` of them.
        scenes_per_step: Images a step.
        two_stage_share: Images whose first question is taught with its reasoning; the first
            question of the others is taught as an extraction alone, which is what sees.
        direct_questions: Further questions an image, taught as direct answers.
        lora_rate: Learning rate of the adapter.
        projector_rate: Learning rate of the projector.
        warmup: Steps of linear warm-up.
        cooldown: Share of the steps over which the rate falls.
        seed: Of scene order and questions.
        checkpoint_steps: Steps between checkpoints.
    """

    steps: int
    scenes_per_step: int = 16
    two_stage_share: float = 0.3
    direct_questions: int = 2
    lora_rate: float = 6e-4
    projector_rate: float = 5e-5
    warmup: int = 20
    cooldown: float = 0.5
    seed: int = 0
    checkpoint_steps: int = 25


def add_adapter(model: LlamaForCausalLM) -> PeftModel:
    """Puts the recipe's LoRA, in float32, on a frozen LLM, in bfloat16."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=recipe.LORA_RANK,
        lora_alpha=recipe.LORA_ALPHA,
        target_modules=list(recipe.LORA_LINEARS),
        task_type="CAUSAL_LM",
    )
    halved: LlamaForCausalLM = model.bfloat16()
    return get_peft_model(halved, config)


def train(
    model: PeftModel,
    projector: PixelShuffleProjector,
    tokenizer: Tokenizer,
    shards: Sequence[Path],
    checkpoint: Path,
    settings: TrainSettings,
    on_step: Callable[[dict[str, Any]], None] = lambda record: None,
) -> None:
    """Trains adapter and projector in place, going on from the checkpoint if there is one.

    Args:
        model: From `add_adapter`.
        projector: From stage 0.
        tokenizer: The LLM's.
        shards: Feature shards; scenes are drawn shard by shard, in a new order every round.
        checkpoint: Where progress is kept; `losses.jsonl` is written beside it.
        settings: How to train.
        on_step: Called after each step with its record.
    """
    import torch

    adapter = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        [
            {"params": adapter, "lr": settings.lora_rate},
            {"params": list(projector.parameters()), "lr": settings.projector_rate},
        ],
        weight_decay=0.01,
    )
    base_rates = [group["lr"] for group in optimizer.param_groups]
    step = _resume(checkpoint, model, projector, optimizer)
    scenes = _SceneReader(shards, settings)
    log = checkpoint.with_name("losses.jsonl")
    while step < settings.steps:
        began = time.monotonic()
        for group, rate in zip(optimizer.param_groups, base_rates, strict=True):
            group["lr"] = rate * _rate_factor(step, settings)
        features, samples = scenes.batch(step, tokenizer)
        loss = batch_loss(model, projector, features, samples)
        optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_([*adapter, *projector.parameters()], 1.0)
        optimizer.step()
        step += 1
        record = {
            "step": step,
            "loss": round(float(loss.detach()), 4),
            "gradient_norm": round(float(norm), 3),
            "tokens": int(sum(len(sample.token_ids) for sample in samples)),
            "seconds": round(time.monotonic() - began, 2),
        }
        with log.open("a") as lines:
            lines.write(json.dumps(record) + "\n")
        on_step(record)
        if step % settings.checkpoint_steps == 0 or step == settings.steps:
            save_checkpoint(checkpoint, _state(step, model, projector, optimizer, settings))


def batch_loss(
    model: PeftModel,
    projector: PixelShuffleProjector,
    features: torch.Tensor,
    samples: Sequence[PackedSample],
) -> torch.Tensor:
    """Computes the mean cross-entropy of the taught tokens.

    Args:
        model: LLM with adapter.
        projector: Makes image tokens of patch features.
        features: float32 [B, P, C].
        samples: B packed samples.

    Returns:
        A float32 scalar.
    """
    import torch
    from torch.nn import functional

    length = max(len(sample.token_ids) for sample in samples)
    ids = torch.from_numpy(_padded([s.token_ids for s in samples], length, 0))
    targets = torch.from_numpy(_padded([s.targets for s in samples], length, IGNORED))
    positions = torch.from_numpy(_padded([s.positions for s in samples], length, 0))
    branches = _padded([s.branches for s in samples], length, -1)
    mask = torch.from_numpy(attention_mask(branches))
    with torch.autocast("cpu", torch.bfloat16):
        image_tokens = projector(features)
        llm = cast("LlamaModel", model.get_base_model().model)
        table = llm.embed_tokens
        embeddings = table(ids)
        start = samples[0].image_start
        embeddings = torch.cat(
            [
                embeddings[:, :start],
                image_tokens.to(embeddings.dtype),
                embeddings[:, start + recipe.IMAGE_TOKENS :],
            ],
            dim=1,
        )
        hidden = llm(
            inputs_embeds=embeddings, attention_mask=mask, position_ids=positions, use_cache=False
        )[0]
        taught = targets != IGNORED
        logits = functional.linear(hidden[taught], table.weight)
    return functional.cross_entropy(logits.float(), targets[taught])


class _SceneReader:
    """Draws scenes and questions; the same step always draws the same ones."""

    def __init__(self, shards: Sequence[Path], settings: TrainSettings) -> None:
        self._shards = shards
        self._settings = settings
        self._open: tuple[Path, FeatureShard] | None = None

    def batch(self, step: int, tokenizer: Tokenizer) -> tuple[torch.Tensor, list[PackedSample]]:
        import torch

        settings = self._settings
        steps_per_shard = SHARD_SCENES // settings.scenes_per_step
        visit, within = divmod(step, steps_per_shard)
        round_, turn = divmod(visit, len(self._shards))
        order = np.random.default_rng([settings.seed, round_]).permutation(len(self._shards))
        shard = self._load(self._shards[order[turn]])
        scenes = np.random.default_rng([settings.seed, 1, visit]).permutation(SHARD_SCENES)
        rows = scenes[within * settings.scenes_per_step :][: settings.scenes_per_step]
        samples = []
        for row in rows:
            rng = np.random.default_rng([settings.seed, 2, step, int(row)])
            objects = shard.scene_objects(int(row))
            first, *others = sample_examples(objects, 1 + settings.direct_questions, rng)
            with_reasoning = rng.random() < settings.two_stage_share
            turns = two_stage(first) if with_reasoning else extraction_only(first)
            samples.append(pack([turns, *map(direct, others)], tokenizer))
        return torch.from_numpy(shard.features[rows]).float(), samples

    def _load(self, path: Path) -> FeatureShard:
        if self._open is None or self._open[0] != path:
            self._open = (path, load_shard(path))
        return self._open[1]


def _rate_factor(step: int, settings: TrainSettings) -> float:
    rising = (step + 1) / settings.warmup
    falling = (settings.steps - step) / max(1.0, settings.cooldown * settings.steps)
    return min(1.0, rising, falling)


def _padded(rows: Sequence[np.ndarray], length: int, value: int) -> np.ndarray:
    padded = np.full((len(rows), length), value, np.int64)
    for row, content in zip(padded, rows, strict=True):
        row[: len(content)] = content
    return padded


def _state(
    step: int,
    model: PeftModel,
    projector: PixelShuffleProjector,
    optimizer: torch.optim.Optimizer,
    settings: TrainSettings,
) -> dict[str, Any]:
    from peft import get_peft_model_state_dict

    return {
        "step": step,
        "adapter": get_peft_model_state_dict(model),
        "projector": projector.state_dict(),
        "optimizer": optimizer.state_dict(),
        "settings": asdict(settings),
    }


def _resume(
    checkpoint: Path,
    model: PeftModel,
    projector: PixelShuffleProjector,
    optimizer: torch.optim.Optimizer,
) -> int:
    from peft import set_peft_model_state_dict

    state = load_checkpoint(checkpoint)
    if state is None:
        return 0
    set_peft_model_state_dict(model, state["adapter"])
    projector.load_state_dict(state["projector"])
    optimizer.load_state_dict(state["optimizer"])
    return state["step"]
