"""Tuning: vision head and LLM together, on packed samples.

In: a vision head, an LLM with an adapter, and a source of batches. Out: a checkpoint of what was
trained, from which a killed run goes on, and a log of losses.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast, runtime_checkable

import numpy as np

from edge_et.errors import TuningError
from edge_et.tuning.training.curves import draw_curves
from edge_et.tuning.training.lora_file import LoraSettings
from edge_et.tuning.training.packed_samples import (
    IGNORED,
    MAX_BRANCHES,
    PackedSample,
    attention_mask,
    fill_rows,
    join_row,
)
from edge_et.tuning.training.training_checkpoint import load_checkpoint, save_checkpoint

if TYPE_CHECKING:
    import torch
    from peft import PeftModel
    from torch import nn
    from transformers import LlamaForCausalLM, LlamaModel

VisionPart = Literal["tower", "projector"]
Part = Literal["tower", "projector", "lora", "llm"]


class SampleSource(Protocol):
    """Where batches come from."""

    def batch(self, step: int) -> tuple[torch.Tensor, list[PackedSample]]:
        """Return features float32 [B, ...] and B samples; the same for the same step."""


@runtime_checkable
class LearningVision(Protocol):
    """A vision module that has something to learn; any other stays as it is."""

    def learning_parts(self) -> Mapping[VisionPart, Sequence[nn.Parameter]]:
        """Return the parameters of each part that can be chosen to learn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainSettings:
    """How a stage trains.

    Attributes:
        steps: optimizer steps in all.
        train: the parts that learn; "lora" and "llm" exclude each other.
        accumulate: batches a step.
        llm_rate: learning rate of the adapter or the LLM.
        projector_rate: learning rate of the projector.
        tower_rate: learning rate of the tower's last layers.
        warmup: steps of linear warm-up.
        cooldown: share of the steps, the last ones, over which the rate falls to zero.
        kept: share of what weights were before, in what they are in the end. Much of what the
            training unlearnt comes back, and most of what it taught stays (WiSE-FT, arXiv
            2109.01903).
        checkpoint_steps: steps between checkpoints.
        evaluation_steps: steps between evaluations.
    """

    steps: int
    train: tuple[Part, ...] = ("projector", "lora")
    accumulate: int = 1
    llm_rate: float = 6e-4
    projector_rate: float = 5e-5
    tower_rate: float = 2e-5
    warmup: int = 20
    cooldown: float = 0.5
    kept: float = 0.0
    checkpoint_steps: int = 25
    evaluation_steps: int = 100


def add_adapter(model: LlamaForCausalLM, lora: LoraSettings) -> PeftModel:
    """Put a LoRA, in float32, on a frozen LLM.

    Args:
        model: changed in place to the precision that its device trains in.
        lora: shape of the adapter.
    """
    import torch
    from peft import LoraConfig, get_peft_model

    from edge_et.tuning.training.precision import training_dtype

    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        target_modules=list(lora.linears),
        task_type="CAUSAL_LM",
    )
    if training_dtype(model.device) == torch.bfloat16:
        model = model.bfloat16()
    return get_peft_model(model, config)


def train(
    model: PeftModel,
    vision: nn.Module,
    source: SampleSource,
    checkpoint: Path,
    settings: TrainSettings,
    *,
    evaluate: Callable[[], dict[str, float]] | None = None,
    on_step: Callable[[dict[str, Any]], None] = lambda record: None,
) -> None:
    """Train in place, going on from the checkpoint if there is one.

    Args:
        model: from `add_adapter`.
        vision: makes image tokens [B, S, D] of features; a `LearningVision` where it learns, or
            `nn.Identity` where the features are image tokens already.
        source: of batches.
        checkpoint: where progress is kept; a log of the same name, `.jsonl`, and a picture of its
            curves, `.png`, are written beside it.
        settings: how to train.
        evaluate: measures accuracy now and then, by name; see `teacher_forced_accuracy`.
        on_step: called after each step with its record.

    Raises:
        TuningError: a part that shall learn does not exist.
    """
    import torch

    groups = _parameter_groups(model, vision, settings)
    learning = [p for group in groups for p in group["params"]]
    optimizer = torch.optim.AdamW(groups, weight_decay=0.01)
    base_rates = [group["lr"] for group in optimizer.param_groups]
    before = [p.detach().clone() for p in learning] if settings.kept else []
    step = _resume(checkpoint, model, vision, optimizer)
    log = checkpoint.with_suffix(".jsonl")
    log.parent.mkdir(parents=True, exist_ok=True)
    _forget_steps_after(log, step)
    while step < settings.steps:
        began = time.monotonic()
        for group, rate in zip(optimizer.param_groups, base_rates, strict=True):
            group["lr"] = rate * rate_factor(
                step, settings.steps, settings.warmup, settings.cooldown
            )
        optimizer.zero_grad()
        losses, tokens = [], 0
        for part in range(settings.accumulate):
            features, samples = source.batch(step * settings.accumulate + part)
            loss = batch_loss(model, vision, features, samples) / settings.accumulate
            loss.backward()
            losses.append(float(loss.detach()))
            tokens += sum(len(sample.token_ids) for sample in samples)
        norm = torch.nn.utils.clip_grad_norm_(learning, 1.0)
        optimizer.step()
        step += 1
        if settings.kept and step == settings.steps:
            _draw_back(learning, before, settings.kept)
        record: dict[str, Any] = {
            "step": step,
            "loss": round(sum(losses), 4),
            "gradient_norm": round(float(norm), 3),
            "tokens": tokens,
            "seconds": round(time.monotonic() - began, 2),
        }
        if evaluate is not None and step % settings.evaluation_steps == 0:
            record["right"] = evaluate()
        with log.open("a") as lines:
            lines.write(json.dumps(record) + "\n")
        on_step(record)
        if step % settings.checkpoint_steps == 0 or step == settings.steps:
            save_checkpoint(checkpoint, _state(step, model, vision, optimizer, settings))
            draw_curves(log, log.with_suffix(".png"))


def _draw_back(
    learning: Sequence[torch.Tensor], before: Sequence[torch.Tensor], kept: float
) -> None:
    import torch

    with torch.no_grad():
        for weight, old in zip(learning, before, strict=True):
            weight.lerp_(old, kept)


def batch_loss(
    model: PeftModel, vision: nn.Module, features: torch.Tensor, samples: Sequence[PackedSample]
) -> torch.Tensor:
    """Compute the mean cross-entropy of the taught tokens.

    Args:
        model: LLM with adapter.
        vision: makes image tokens of features.
        features: float32 [B, ...].
        samples: B packed samples.

    Returns:
        A float32 scalar.
    """
    from torch.nn import functional

    logits, targets = _taught_logits(model, vision, features, samples)
    return functional.cross_entropy(logits.float(), targets)


def teacher_forced_accuracy(
    model: PeftModel, vision: nn.Module, features: torch.Tensor, samples: Sequence[PackedSample]
) -> float:
    """Return the share of branches whose every taught token comes first, given those before it.

    That is the share that greedy decoding would write word for word.
    """
    import torch

    with torch.no_grad():
        logits, targets = _taught_logits(model, vision, features, samples)
    right = (logits.argmax(dim=-1) == targets).cpu().numpy()
    in_order = [samples[n] for members in fill_rows(samples) for n in members]
    branches = np.concatenate(
        [s.branches[s.targets != IGNORED] + n * MAX_BRANCHES for n, s in enumerate(in_order)]
    )
    return float(np.mean([right[branches == branch].all() for branch in np.unique(branches)]))


def _taught_logits(
    model: PeftModel, vision: nn.Module, features: torch.Tensor, samples: Sequence[PackedSample]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return logits [taught, V] and targets [taught], row by row of `fill_rows`."""
    import torch
    from torch.nn import functional

    from edge_et.tuning.training.precision import working_precision

    device = next(model.parameters()).device
    layout = fill_rows(samples)
    rows = [join_row([samples[n] for n in members]) for members in layout]
    length = max(len(row.token_ids) for row in rows)
    ids = torch.from_numpy(_padded([r.token_ids for r in rows], length, 0)).to(device)
    targets = torch.from_numpy(_padded([r.targets for r in rows], length, IGNORED)).to(device)
    positions = torch.from_numpy(_padded([r.positions for r in rows], length, 0)).to(device)
    branches = _padded([r.branches for r in rows], length, -1)
    mask = torch.from_numpy(attention_mask(branches)).to(device)
    with working_precision(device):
        image_tokens = vision(features.to(device))
        llm = cast("LlamaModel", model.get_base_model().model)
        table = llm.embed_tokens
        row, column = _image_places(samples, layout, image_tokens.shape[1])
        order = torch.tensor([n for members in layout for n in members], device=device)
        filled = image_tokens[order].flatten(0, 1).to(table.weight.dtype)
        embeddings = table(ids).index_put((row.to(device), column.to(device)), filled)
        hidden = llm(
            inputs_embeds=embeddings, attention_mask=mask, position_ids=positions, use_cache=False
        )[0]
        taught = targets != IGNORED
        logits = functional.linear(hidden[taught], table.weight)
    return logits, targets[taught]


def _image_places(
    samples: Sequence[PackedSample], layout: Sequence[Sequence[int]], tokens: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return row and column of every image token, in the order of the layout."""
    import torch

    rows: list[int] = []
    columns: list[int] = []
    for row, members in enumerate(layout):
        start = 0
        for number in members:
            first = start + samples[number].image_start
            rows += [row] * tokens
            columns += range(first, first + tokens)
            start += len(samples[number].token_ids)
    return torch.tensor(rows), torch.tensor(columns)


def _parameter_groups(
    model: PeftModel, vision: nn.Module, settings: TrainSettings
) -> list[dict[str, Any]]:
    """Let the chosen parts learn, and no other."""
    seeing = vision.learning_parts() if isinstance(vision, LearningVision) else {}
    parts: dict[str, tuple[Sequence[torch.nn.Parameter], float]] = {
        "lora": ([p for n, p in model.named_parameters() if "lora_" in n], settings.llm_rate),
        "llm": ([p for n, p in model.named_parameters() if "lora_" not in n], settings.llm_rate),
        "projector": (seeing.get("projector", ()), settings.projector_rate),
        "tower": (seeing.get("tower", ()), settings.tower_rate),
    }
    if {"lora", "llm"} <= set(settings.train):
        raise TuningError("train the LLM or a LoRA of it, not both")
    groups = []
    for name, (parameters, rate) in parts.items():
        learns = name in settings.train
        if learns and not parameters:
            raise TuningError(f"there is no {name} to train")
        for parameter in parameters:
            parameter.requires_grad_(learns)
        if learns:
            groups.append({"params": parameters, "lr": rate})
    return groups


def rate_factor(step: int, steps: int, warmup: int, cooldown: float) -> float:
    """Return the share of its full rate at which a step trains; see `TrainSettings`."""
    rising = (step + 1) / warmup
    falling = (steps - step) / max(1.0, cooldown * steps)
    return min(1.0, rising, falling)


def _padded(rows: Sequence[np.ndarray], length: int, value: int) -> np.ndarray:
    padded = np.full((len(rows), length), value, np.int64)
    for row, content in zip(padded, rows, strict=True):
        row[: len(content)] = content
    return padded


def _state(
    step: int,
    model: PeftModel,
    vision: nn.Module,
    optimizer: torch.optim.Optimizer,
    settings: TrainSettings,
) -> dict[str, Any]:
    from peft import get_peft_model_state_dict

    state = {
        "step": step,
        "adapter": get_peft_model_state_dict(model),
        "vision": vision.state_dict(),
        "optimizer": optimizer.state_dict(),
        "settings": asdict(settings),
    }
    if "llm" in settings.train:
        state["llm"] = {n: t for n, t in model.state_dict().items() if "lora_" not in n}
    return state


def load_state(state: dict[str, Any], model: PeftModel, vision: nn.Module) -> None:
    """Put what a checkpoint of `train` holds into a model and a vision head."""
    from peft import set_peft_model_state_dict

    set_peft_model_state_dict(model, state["adapter"])
    vision.load_state_dict(state["vision"])
    if "llm" in state:
        model.load_state_dict(state["llm"], strict=False)


def _resume(
    checkpoint: Path, model: PeftModel, vision: nn.Module, optimizer: torch.optim.Optimizer
) -> int:
    state = load_checkpoint(checkpoint)
    if state is None:
        return 0
    load_state(state, model, vision)
    optimizer.load_state_dict(state["optimizer"])
    return int(state["step"])


def _forget_steps_after(log: Path, step: int) -> None:
    """Drop the records of steps that a kill undid, so that none is told twice."""
    if not log.exists():
        return
    kept = []
    for line in log.read_text().splitlines():
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line + "\n")
        except ValueError:
            break
    log.write_text("".join(kept))
