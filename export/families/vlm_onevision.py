"""transformers' layout of LLaVA-OneVision: nested configs, and an image processor's config.

Source: `modeling_llava_onevision.py` and `image_processing_llava_onevision.py` of transformers.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec

from edge_et.bundle import Processing
from edge_et.export.chat.vlm_chat_format import VlmChatFormat, checkpoint_template_format
from edge_et.export.checkpoint.checkpoint_folder import TensorFiles
from edge_et.export.checkpoint.config_keys import read_image_processor
from edge_et.export.errors import UnreadableCheckpointError
from edge_et.export.families.vlm_layout import (
    CLIP_MEAN,
    CLIP_STD,
    PartTable,
    VisionPart,
    complete_settings,
    make_processing,
    read_settings,
    refuse_unsupported,
)

_TEXT_MODELS = {"qwen2": "Qwen2ForCausalLM", "qwen3": "Qwen3ForCausalLM"}
_ANYRES_MAX = re.compile(r"anyres_max_([1-9]\d{0,3})")
_PROCESSORS = (
    "LlavaOnevisionImageProcessor",
    "LlavaOnevisionImageProcessorFast",
    "LlavaOnevisionImageProcessorPil",
)
_RESAMPLE = {1: "lanczos", 2: "bilinear", 3: "bicubic"}  # numbers of PIL.Image.Resampling

_SIDES = tuple(384 * tiles for tiles in range(1, 7))
_PINPOINTS = tuple((height, width) for height in _SIDES for width in _SIDES)

Pinpoints = tuple[tuple[int, int], ...]
_Size = Annotated[int, msgspec.Meta(ge=1, le=2**16)]
_Channels = Annotated[list[float], msgspec.Meta(min_length=3, max_length=3)]


class Tower(msgspec.Struct, frozen=True, kw_only=True):
    """The keys of vision_config; defaults are those of transformers for SigLIP."""

    model_type: str = "siglip_vision_model"
    hidden_size: _Size = 768
    intermediate_size: _Size = 3072
    num_hidden_layers: _Size = 12
    num_attention_heads: _Size = 12
    num_channels: _Size = 3
    image_size: _Size = 224
    patch_size: _Size = 16
    hidden_act: str = "gelu_pytorch_tanh"
    layer_norm_eps: float = 1e-6
    vision_use_head: bool = True


_SO400M = Tower(
    hidden_size=1152,
    intermediate_size=4304,
    num_hidden_layers=26,
    num_attention_heads=16,
    image_size=384,
    patch_size=14,
    vision_use_head=False,
)


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The keys of config.json that decide what the graph and the tokens are.

    Defaults are those of transformers.
    """

    vision_config: Tower = _SO400M
    image_grid_pinpoints: Pinpoints = _PINPOINTS
    multimodal_projector_bias: bool = True
    projector_hidden_act: str = "gelu"
    vision_aspect_ratio: str = "anyres_max_9"
    vision_feature_layer: int | list[int] = -1
    vision_feature_select_strategy: str = "full"


class ImageProcessor(msgspec.Struct, frozen=True, kw_only=True):
    """The keys of the image processor that decide what the pixel values are.

    Defaults are those of transformers.
    """

    image_grid_pinpoints: Pinpoints = _PINPOINTS
    image_mean: _Channels | None = None
    image_std: _Channels | None = None
    rescale_factor: float = 1 / 255
    resample: int = 3
    size: dict[str, int] = msgspec.field(default_factory=lambda: {"height": 384, "width": 384})
    do_resize: bool = True
    do_rescale: bool = True
    do_normalize: bool = True


class LlavaOnevision:
    """Hooks of `LlavaOnevisionForConditionalGeneration`."""

    def llm_settings(
        self, content: dict[str, Any], path: Path, known: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Return all settings of the language model."""
        text = content.get("text_config")
        if not isinstance(text, dict):
            raise UnreadableCheckpointError(f"{path} has no text_config")
        return complete_settings({"model_type": "qwen2"} | text, _TEXT_MODELS, path, known)

    def parts(self, content: dict[str, Any], path: Path) -> PartTable:
        """Return which part each tensor belongs to, by its stored name or its module's name."""
        return (
            ("language_model.", "llm", ""),
            ("vision_tower.vision_model.", "tower", ""),  # transformers 5 drops `vision_model.`
            ("vision_tower.", "tower", ""),
            ("multi_modal_projector.linear_1.", "projector", "0."),
            ("multi_modal_projector.linear_2.", "projector", "2."),
            ("image_newline", "newline", "image_newline"),
            ("model.language_model.", "llm", "model."),
            ("model.vision_tower.vision_model.", "tower", ""),
            ("model.vision_tower.", "tower", ""),
            ("model.multi_modal_projector.linear_1.", "projector", "0."),
            ("model.multi_modal_projector.linear_2.", "projector", "2."),
            ("model.image_newline", "newline", "image_newline"),
            ("lm_head.", "llm", "lm_head."),
        )

    def tower_beside(self, content: dict[str, Any], path: Path, tensors: TensorFiles) -> str | None:
        """Return None: the tower is always inside."""
        return None

    def vision(
        self,
        content: dict[str, Any],
        path: Path,
        tensors: TensorFiles | None,
        tower_folder: Path | None,
    ) -> VisionPart:
        """Return what the two configs say about the vision side."""
        settings = read_settings(content, Settings, path)
        layer = settings.vision_feature_layer
        ratio = _ANYRES_MAX.fullmatch(settings.vision_aspect_ratio)
        tower = settings.vision_config
        unsupported = {
            f"vision tower {tower.model_type!r}; known: siglip_vision_model": (
                tower.model_type != "siglip_vision_model"
            ),
            f"vision_feature_layer {layer}; known: one layer": not isinstance(layer, int),
            f"vision_feature_select_strategy {settings.vision_feature_select_strategy!r}; "
            "known: full": settings.vision_feature_select_strategy != "full",
            f"projector_hidden_act {settings.projector_hidden_act!r}; known: gelu": (
                settings.projector_hidden_act != "gelu"
            ),
            f"vision_aspect_ratio {settings.vision_aspect_ratio!r}; known: anyres_max_N": (
                ratio is None
            ),
        }
        refuse_unsupported(path, unsupported)
        assert isinstance(layer, int)
        assert ratio is not None
        if layer >= 0:  # hidden states begin with those before the first layer
            layer -= tower.num_hidden_layers + 1
        return VisionPart(
            tower=msgspec.structs.asdict(tower),
            tower_folder=None,
            feature_layer=layer,
            projector_layers=2,
            projector_bias=settings.multimodal_projector_bias,
            processing=_processing(settings, int(ratio[1]), path),
            arrangement="unpadded",
        )

    def chat(self, folder: Path) -> VlmChatFormat:
        """Return the format that the checkpoint's own template has."""
        return checkpoint_template_format(folder)


def _processing(settings: Settings, shrink_over_tiles: int, config_path: Path) -> Processing:
    content, path = read_image_processor(config_path.parent)
    kind = content.get("image_processor_type", _PROCESSORS[0])
    processor = read_settings(content, ImageProcessor, path)
    tile = settings.vision_config.image_size
    unsupported = {
        f"image_processor_type {kind!r}; known: {', '.join(_PROCESSORS)}": kind not in _PROCESSORS,
        "leaving out resizing, rescaling or normalizing": not (
            processor.do_resize and processor.do_rescale and processor.do_normalize
        ),
        f"resample {processor.resample}": processor.resample not in _RESAMPLE,
        f"tiles of {processor.size}, where the tower takes {tile} pixels": (
            processor.size != {"height": tile, "width": tile}
        ),
        "other image_grid_pinpoints than config.json": (
            processor.image_grid_pinpoints != settings.image_grid_pinpoints
        ),
        f"image_grid_pinpoints that are no multiples of {tile} pixels": any(
            side % tile for pair in processor.image_grid_pinpoints for side in pair
        ),
    }
    refuse_unsupported(path, unsupported)
    return make_processing(
        path,
        height=tile,
        width=tile,
        mean=processor.image_mean or CLIP_MEAN,
        std=processor.image_std or CLIP_STD,
        rescale=processor.rescale_factor,
        resample=_RESAMPLE[processor.resample],
        fit="squash",
        tiling={
            # Pinpoints are heights and widths here, grids columns and rows.
            "grids": [
                (width // tile, height // tile) for height, width in processor.image_grid_pinpoints
            ],
            "shrink_over_tiles": shrink_over_tiles,
        },
    )
