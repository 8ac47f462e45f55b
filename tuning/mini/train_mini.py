"""The mini model's training: the stages of a configuration, one after the other.

In: a `TrainConfig`. Out: a checkpoint that `build_mini` makes a bundle of. Every stage leaves its
result in the work folder. A result that is there is passed over, or gone on with.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from edge_et.errors import TuningError
from edge_et.tuning.mini import recipe
from edge_et.tuning.mini.assets.other_kinds import other_kinds
from edge_et.tuning.mini.assets.scene_kit import scene_kit
from edge_et.tuning.mini.language_model import build_tokenizer, find_llm
from edge_et.tuning.mini.ocr.graph import PrintReader
from edge_et.tuning.mini.scene_source import Mixture, SceneSource
from edge_et.tuning.mini.scenes.scene import FIRST_HELD_OUT_SEED
from edge_et.tuning.mini.train_config import AlignStage, NamesStage, TextStage, TrainConfig
from edge_et.tuning.mini.vision.align import AlignSettings, WordTargets, align, begin
from edge_et.tuning.mini.vision.backbone import find_tower_graph, load_tower
from edge_et.tuning.mini.vision.class_words import class_words
from edge_et.tuning.mini.vision.classifier import load_classifier
from edge_et.tuning.mini.vision.classifier_gate import fit_trust
from edge_et.tuning.mini.vision.crop_encoder import CropEncoder
from edge_et.tuning.mini.vision.crops import build_cutouts, load_cutouts
from edge_et.tuning.mini.vision.feature_shards import SHARD_SCENES, build_shards
from edge_et.tuning.mini.vision.inventory import fit_finder
from edge_et.tuning.mini.vision.train_crop_encoder import load_closer_look, train_closer_look
from edge_et.tuning.mini.vision.vision_head import VisionHead, VisionTrunk, split_vision
from edge_et.tuning.training.gguf_model import load_llm
from edge_et.tuning.training.lora_file import read_adapter
from edge_et.tuning.training.train import (
    TrainSettings,
    add_adapter,
    load_state,
    teacher_forced_accuracy,
    train,
)
from edge_et.tuning.training.training_checkpoint import load_checkpoint

if TYPE_CHECKING:
    from peft import PeftModel
    from tokenizers import Tokenizer

Say = Callable[[str], None]

_EVALUATED_BATCHES = 3
_EVALUATED_SCENES = 32


@dataclass(slots=True, kw_only=True)
class _Workshop:
    """What the stages share."""

    config: TrainConfig
    trunk: VisionTrunk
    head: VisionHead
    closer: CropEncoder
    model: PeftModel
    table: torch.Tensor
    tokenizer: Tokenizer
    say: Say

    @property
    def work(self) -> Path:
        return Path(self.config.work)

    def shards(self, first: int, count: int) -> list[Path]:
        """Make sure of some shards."""
        kit = scene_kit(Path(self.config.assets))
        paths = []
        for path in build_shards(
            self.work / "features", range(first, first + count), kit, self.trunk
        ):
            self.say(f"features: {path.name}")
            paths.append(path)
        return paths


def train_mini(config: TrainConfig, say: Say) -> Path:
    """Run the stages that are not done yet.

    Args:
        config: which stages.
        say: told a line now and then.

    Returns:
        The checkpoint of the last stage.

    Raises:
        AssetError: pictures or fonts cannot be had.
        TuningError: a package with weights is not installed, or a part that shall learn is not
            there.
    """
    torch.manual_seed(config.seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    trunk, head, vision = split_vision(
        load_tower(find_tower_graph()), load_classifier(), PrintReader()
    )
    llm = load_llm(find_llm())
    table = llm.model.embed_tokens.weight.float()
    tokenizer = build_tokenizer(find_llm())
    begin(head, table, tokenizer)
    if config.head is not None:
        _load_head(head, Path(config.head))
    vision.to(device)
    nn.Module.to(llm, device)
    model = add_adapter(llm, recipe.LORA)
    if config.adapter is not None:
        from peft import set_peft_model_state_dict

        set_peft_model_state_dict(model, read_adapter(Path(config.adapter), find_llm()))
    shop = _Workshop(
        config=config,
        trunk=trunk,
        head=head,
        closer=vision.closer,
        model=model,
        table=table.to(device),
        tokenizer=tokenizer,
        say=say,
    )
    first = config.first_scene // SHARD_SCENES
    for stage in config.stage:
        checkpoint = shop.work / f"{stage.name}.pt"
        count = math.ceil(stage.scenes / SHARD_SCENES)
        if isinstance(stage, AlignStage):
            _align(shop, stage, shop.shards(first, count), checkpoint)
        elif isinstance(stage, NamesStage):
            _name(shop, stage, range(first, first + count), checkpoint)
        else:
            _teach(shop, stage, shop.shards(first, count), checkpoint)
        first += count
    return checkpoint


def _load_head(head: VisionHead, path: Path) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        head.load_state_dict(load_file(path))
    except (OSError, SafetensorError, RuntimeError) as err:
        raise TuningError(f"{path} holds no vision head of the mini recipe: {err}") from err


def _align(shop: _Workshop, stage: AlignStage, shards: Sequence[Path], checkpoint: Path) -> None:
    words: set[str] = set()
    for path in shards:
        with np.load(path) as arrays:
            words.update(arrays["words"].tolist())
    targets = WordTargets(shop.table, shop.tokenizer, sorted(words))
    align(
        shop.head,
        targets,
        shards,
        checkpoint,
        AlignSettings(
            epochs=stage.epochs,
            scenes_per_step=stage.scenes_per_step,
            projector_rate=stage.projector_rate,
            tower_rate=stage.tower_rate,
            seed=shop.config.seed,
        ),
        lambda record: shop.say(f"{stage.name}: {record}"),
    )
    named = tuple(class_words())
    fit_trust(shop.head, named, targets.tokens(named), shards, shop.config.seed)
    fit_finder(shop.head, shards, shop.config.seed)


def _name(shop: _Workshop, stage: NamesStage, indices: Sequence[int], checkpoint: Path) -> None:
    namer = shop.head.inventory.namer
    if load_closer_look(shop.closer, namer, checkpoint):
        return
    assets = Path(shop.config.assets)
    kit, others = scene_kit(assets), other_kinds(assets)
    paths = []
    for path in build_cutouts(shop.work / "cutouts", indices, kit, others, shop.trunk, shop.head):
        shop.say(f"{stage.name}: {path.name}")
        paths.append(path)
    train_closer_look(
        shop.closer,
        namer,
        *load_cutouts(paths),
        checkpoint,
        epochs=stage.epochs,
        seed=shop.config.seed,
        on_step=lambda record: shop.say(f"{stage.name}: {record}"),
    )


def _teach(shop: _Workshop, stage: TextStage, shards: Sequence[Path], checkpoint: Path) -> None:
    mixture = Mixture(
        extractions=stage.extractions,
        captions=stage.captions,
        direct=stage.direct,
        practice=stage.practice,
        lookups=stage.lookups,
        think_share=stage.think_share,
    )
    seed = shop.config.seed
    unseen = shop.shards(FIRST_HELD_OUT_SEED // SHARD_SCENES, 1)
    exams = {
        "extraction": Mixture(extractions=1, think_share=0.0),
        "direct": Mixture(direct=1),
    }
    sources = {
        name: SceneSource(unseen, exam, _EVALUATED_SCENES, shop.tokenizer, seed)
        for name, exam in exams.items()
    }

    def evaluate() -> dict[str, float]:
        shares: dict[str, float] = {}
        for name, source in sources.items():
            batches = [source.batch(step) for step in range(_EVALUATED_BATCHES)]
            right = [teacher_forced_accuracy(shop.model, shop.head, *batch) for batch in batches]
            shares[name] = round(float(np.mean(right)), 3)
        return shares

    def tell(record: dict[str, Any]) -> None:
        shop.say(f"{stage.name}: {record}")

    train(
        shop.model,
        shop.head,
        SceneSource(shards, mixture, stage.scenes_per_step, shop.tokenizer, seed),
        checkpoint,
        TrainSettings(
            steps=stage.steps,
            train=stage.train,
            accumulate=stage.accumulate,
            llm_rate=stage.llm_rate,
            projector_rate=stage.projector_rate,
            tower_rate=stage.tower_rate,
            warmup=stage.warmup,
            cooldown=stage.cooldown,
            kept=stage.kept,
        ),
        evaluate=evaluate,
        on_step=tell,
    )
    # A stage that was complete already has run no step, and so has loaded nothing.
    state = load_checkpoint(checkpoint)
    assert state is not None
    load_state(state, shop.model, shop.head)
