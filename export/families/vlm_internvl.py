"""transformers' layout of InternVL 2.5, 3 and 3.5: nested configs, and an image processor's config.

Source: `modeling_internvl.py`, `processing_internvl.py` and `image_processing_got_ocr2.py` of
transformers.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec

from edge_et.bundle import Processing
from edge_et.export.chat.internvl_chat_format import internvl_format
from edge_et.export.chat.vlm_chat_format import VlmChatFormat
from edge_et.export.checkpoint.checkpoint_folder import TensorFiles, read_json
from edge_et.export.checkpoint.config_keys import read_image_processor
from edge_et.export.families.internvl_parts import (
    Size,
    Tiles,
    text_settings,
    tile_processing,
    vision_part,
)
from edge_et.export.families.llm_family import MAX_LAYERS
from edge_et.export.families.vlm_layout import (
    CLIP_MEAN,
    CLIP_STD,
    PartTable,
    VisionPart,
    read_settings,
    refuse_unsupported,
)

_BICUBIC = 3  # of PIL.Image.Resampling
_KINDS = tuple(f"GotOcr2ImageProcessor{backend}" for backend in ("", "Fast", "Pil"))
_VISION: PartTable = (
    ("vision_tower.", "tower", ""),
    ("multi_modal_projector.layer_norm.", "projector", "norm."),
    ("multi_modal_projector.linear_1.", "projector", "expand."),
    ("multi_modal_projector.linear_2.", "projector", "project."),
)

_Channels = tuple[float, float, float]


class _Tower(msgspec.Struct, frozen=True, kw_only=True):
    """The keys of vision_config; defaults are those of transformers."""

    hidden_size: Size = 1024
    intermediate_size: Size = 4096
    num_hidden_layers: Annotated[int, msgspec.Meta(ge=1, le=MAX_LAYERS)] = 24
    num_attention_heads: Size = 16
    num_channels: Size = 3
    image_size: Size | list[Size] = 448
    patch_size: Size | list[Size] = 14
    attention_bias: bool = False
    use_qk_norm: bool = False
    norm_type: str = "layer_norm"
    hidden_act: str = "gelu"
    layer_norm_eps: float = 1e-6
    use_mask_token: bool = False
    use_absolute_position_embeddings: bool = True
    use_mean_pooling: bool = True


class _Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The keys of config.json that decide what the graph is; defaults are those of transformers."""

    vision_config: _Tower
    downsample_ratio: float = 0.5
    projector_hidden_act: str = "gelu"
    vision_feature_layer: int | list[int] = -1
    vision_feature_select_strategy: str = "default"


class _TileSize(msgspec.Struct, frozen=True, kw_only=True):
    height: Size
    width: Size


class _ImageProcessor(msgspec.Struct, frozen=True, kw_only=True):
    """The keys of the image processor that decide what the pixel values are.

    Defaults are those of transformers. Published files say `crop_to_patches: false`, and pictures
    are cut all the same: the default of InternVL's processor goes before its image processor's.
    """

    image_processor_type: str = _KINDS[0]
    do_resize: bool = True
    do_rescale: bool = True
    do_normalize: bool = True
    size: _TileSize = _TileSize(height=384, width=384)
    resample: int = _BICUBIC
    rescale_factor: float = 1 / 255
    image_mean: _Channels = CLIP_MEAN
    image_std: _Channels = CLIP_STD
    min_patches: Tiles = 1
    max_patches: Tiles = 12


class InternVL:
    """Hooks of `InternVLForConditionalGeneration`."""

    def llm_settings(
        self, content: dict[str, Any], path: Path, known: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Return all settings of the language model."""
        text = content.get("text_config")
        if isinstance(text, dict):
            text = {"model_type": "qwen2"} | text
        return text_settings(text, self.parts(content, path), path, known)

    def parts(self, content: dict[str, Any], path: Path) -> PartTable:
        """Return which part each tensor belongs to, by its stored name or its module's name."""
        return (
            *_VISION,
            ("language_model.", "llm", ""),
            *((f"model.{beginning}", part, name) for beginning, part, name in _VISION),
            ("model.language_model.", "llm", "model."),
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
        """Return what the configs say about the vision side."""
        settings = read_settings(content, _Settings, path)
        tower = settings.vision_config
        layer, strategy = settings.vision_feature_layer, settings.vision_feature_select_strategy
        activation = settings.projector_hidden_act
        unsupported = {
            f"vision_feature_layer {layer}; known: -1": layer != -1,
            f"vision_feature_select_strategy {strategy!r}; known: default": strategy != "default",
            f"projector_hidden_act {activation!r}; known: gelu": activation != "gelu",
            "use_mask_token": tower.use_mask_token,
            "use_absolute_position_embeddings false": not tower.use_absolute_position_embeddings,
            "use_mean_pooling false, a norm behind the last layer": not tower.use_mean_pooling,
        }
        refuse_unsupported(path, unsupported)
        sides = {name: _side(getattr(tower, name), path) for name in ("image_size", "patch_size")}
        part = vision_part(
            path,
            msgspec.structs.asdict(tower) | sides,
            settings.downsample_ratio,
            _processing(path.parent, sides["image_size"]),
        )
        patches = sides["image_size"] // sides["patch_size"] // part.projector_factor
        _check_sequence_length(path.parent, patches**2)
        return part

    def chat(self, folder: Path) -> VlmChatFormat:
        """Return the format that the checkpoint's own template has."""
        return internvl_format(folder)


def _side(size: int | list[int], path: Path) -> int:
    if isinstance(size, int):
        return size
    refuse_unsupported(
        path, {f"tiles or patches of {size} pixels": not size or size != size[:1] * 2}
    )
    return size[0]


def _processing(folder: Path, tile: int) -> Processing:
    content, path = read_image_processor(folder)
    processor = read_settings(content, _ImageProcessor, path)
    kind, size = processor.image_processor_type, processor.size
    unsupported = {
        f"image_processor_type {kind!r}; known: {', '.join(_KINDS)}": kind not in _KINDS,
        "leaving out resizing, rescaling or normalizing": not (
            processor.do_resize and processor.do_rescale and processor.do_normalize
        ),
        f"resample {processor.resample}; known: {_BICUBIC}, bicubic": (
            processor.resample != _BICUBIC
        ),
        f"tiles of {size.height} x {size.width} pixels, where the tower takes {tile}": (
            (size.height, size.width) != (tile, tile)
        ),
    }
    refuse_unsupported(path, unsupported)
    return tile_processing(
        path,
        tile=tile,
        mean=processor.image_mean,
        std=processor.image_std,
        rescale=processor.rescale_factor,
        tiles=(processor.min_patches, processor.max_patches),
    )


def _check_sequence_length(folder: Path, image_tokens: int) -> None:
    """Check that prompts have as many image tokens for a tile as the graph makes."""
    path = folder / "processor_config.json"
    told = read_json(path).get("image_seq_length", 256) if path.is_file() else 256
    lost = f"image_seq_length {told}, where a tile has {image_tokens} image tokens"
    refuse_unsupported(path, {lost: told != image_tokens})
