"""Tower and projector of a vision-language checkpoint, as its layout describes them.

In: a `VisionPart`, and the tensors of a part. Out: torch modules, float32.
"""

from pathlib import Path

from edge_et.export.checkpoint.checkpoint_folder import TensorFiles
from edge_et.export.families.vlm_layout import VisionPart
from edge_et.export.vision.intern_vit import check_intern_vit, load_intern_vit
from edge_et.export.vision.projector import MlpProjector, PixelShuffleProjector
from edge_et.export.vision.qwen_vit import check_qwen_vit, load_qwen_vit
from edge_et.export.vision.siglip2 import check_siglip2, load_siglip2
from edge_et.export.vision.torch_tower import Backbone, Projector, check_siglip, load_siglip


def check_tower(vision: VisionPart, tensors: TensorFiles, source: Path) -> None:
    """Check that a tower has the tensors that its settings ask for; no value is read.

    Args:
        vision: from the layout.
        tensors: of the tower alone.
        source: where they come from, for messages.

    Raises:
        CheckpointError: they do not fit; its children tell why.
    """
    match vision.tower_kind:
        case "intern_vit":
            check_intern_vit(vision.tower, tensors, source)
        case "qwen":
            check_qwen_vit(vision.tower, tensors, source)
        case "siglip2":
            check_siglip2(vision.tower, tensors, source)
        case "siglip":
            check_siglip(vision.tower, tensors, vision.feature_layer, source)


def load_tower_part(vision: VisionPart, tensors: TensorFiles) -> Backbone:
    """Load a tower that `check_tower` has checked, in evaluation mode.

    Args:
        vision: from the layout.
        tensors: of the tower alone.

    Raises:
        CheckpointError: a value is NaN or infinite, or the files have changed.
    """
    match vision.tower_kind:
        case "intern_vit":
            return load_intern_vit(vision.tower, tensors)
        case "qwen":
            return load_qwen_vit(vision.tower, tensors, vision.processing.height)
        case "siglip2":
            tile = vision.processing.height
            return load_siglip2(vision.tower, tensors, tile, vision.projector_factor)
        case "siglip":
            return load_siglip(vision.tower, tensors, feature_layer=vision.feature_layer)


def new_projector(vision: VisionPart, llm_width: int) -> Projector:
    """Make the projector with random weights.

    Args:
        vision: from the layout.
        llm_width: D, embedding width of the language model.
    """
    width, factor = vision.tower["hidden_size"], vision.projector_factor
    hidden = vision.projector_hidden or llm_width
    if vision.tower_kind in ("qwen", "siglip2"):  # their towers give blocks, not patches
        return PixelShuffleProjector(
            factor**2 * width,
            1,
            hidden=hidden,
            llm_width=llm_width,
            norm=vision.projector_norm,
            bias=vision.projector_bias,
        )
    if vision.projector_norm:
        return PixelShuffleProjector(width, factor, hidden=hidden, llm_width=llm_width)
    return MlpProjector(
        width,
        llm_width,
        layers=vision.projector_layers,
        bias=vision.projector_bias,
        factor=factor,
    )
