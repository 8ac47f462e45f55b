"""transformers' layout of Qwen3.5: one tile of the picture's shape, its tokens in rows and columns.

In: config.json and the files beside it. Out: whose tensor is whose, and the vision side.

Source: `modeling_qwen3_5.py`, `image_processing_qwen2_vl.py` and `processing_qwen3_vl.py` of
transformers.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec

from edge_et.bundle import Processing
from edge_et.export.chat.qwen_chat_format import IMAGE_TOKEN, qwen_format
from edge_et.export.chat.vlm_chat_format import VlmChatFormat
from edge_et.export.checkpoint.checkpoint_folder import TensorFiles
from edge_et.export.checkpoint.config_keys import read_image_processor
from edge_et.export.errors import UnreadableCheckpointError
from edge_et.export.families.llm_family import MAX_LAYERS
from edge_et.export.families.vlm_layout import (
    CLIP_MEAN,
    CLIP_STD,
    PartTable,
    VisionPart,
    complete_settings,
    make_processing,
    read_settings,
    refuse_unsupported,
    require_tokens,
)

MOST_IMAGE_TOKENS: Final = 1024
"""Of a picture in a bundle. Published processors allow 16384, a picture of 4096 x 4096; the tower
compares each patch with each, so that 16 times the tokens are 256 times the work of attention."""

_TILE_BLOCKS = 16  # along a side of the tile that stands for many sizes
_BICUBIC = 3  # of PIL.Image.Resampling
_KINDS = tuple(f"Qwen2VLImageProcessor{backend}" for backend in ("", "Fast", "Pil"))
_ACTIVATIONS = ("gelu_pytorch_tanh", "gelu")
_NAMES = {
    "image_token": IMAGE_TOKEN,
    "vision_start_token": "<|vision_start|>",
    "vision_end_token": "<|vision_end|>",
}
_TEXT_MODELS = {"qwen3_5_text": "Qwen3_5ForCausalLM"}

_Size = Annotated[int, msgspec.Meta(ge=1, le=2**16)]
_Pixels = Annotated[int, msgspec.Meta(ge=1, le=2**40)]
_Channels = tuple[float, float, float]


class _Rope(msgspec.Struct, frozen=True, kw_only=True):
    rope_type: str = "axial"
    rope_theta: Annotated[float, msgspec.Meta(gt=0)] = 10_000.0


class _Tower(msgspec.Struct, frozen=True, kw_only=True):
    """The keys of vision_config; defaults are those of transformers."""

    depth: Annotated[int, msgspec.Meta(ge=1, le=MAX_LAYERS)] = 27
    hidden_size: _Size = 1152
    hidden_act: str = _ACTIVATIONS[0]
    intermediate_size: _Size = 4304
    num_heads: _Size = 16
    in_channels: _Size = 3
    patch_size: _Size | list[_Size] = 16
    spatial_merge_size: _Size = 2
    temporal_patch_size: _Size | list[_Size] = 2
    num_position_embeddings: _Size = 2304
    rope_parameters: _Rope | None = None
    deepstack_visual_indexes: list[int] | None = None


class _Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The keys of config.json that decide what the graph is."""

    vision_config: _Tower


class _Area(msgspec.Struct, frozen=True, kw_only=True):
    shortest_edge: _Pixels
    longest_edge: _Pixels


class _ImageProcessor(msgspec.Struct, frozen=True, kw_only=True):
    """The keys of the image processor that decide what the pixel values are.

    Defaults are those of transformers. What it calls edges are areas, for which it takes
    `min_pixels` and `max_pixels` where these are there.
    """

    image_processor_type: str = _KINDS[0]
    do_resize: bool = True
    do_rescale: bool = True
    do_normalize: bool = True
    size: _Area = _Area(shortest_edge=56**2, longest_edge=1280 * 28**2)
    min_pixels: _Pixels | None = None
    max_pixels: _Pixels | None = None
    resample: int = _BICUBIC
    rescale_factor: float = 1 / 255
    image_mean: _Channels = CLIP_MEAN
    image_std: _Channels = CLIP_STD
    patch_size: _Size = 14
    merge_size: _Size = 2
    temporal_patch_size: _Size = 2


class Qwen35Vl:
    """Hooks of `Qwen3_5ForConditionalGeneration`."""

    def llm_settings(
        self, content: dict[str, Any], path: Path, known: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Return all settings of the language model."""
        text = content.get("text_config")
        if not isinstance(text, dict):
            raise UnreadableCheckpointError(f"{path} has no text_config")
        return complete_settings({"model_type": "qwen3_5_text"} | text, _TEXT_MODELS, path, known)

    def parts(self, content: dict[str, Any], path: Path) -> PartTable:
        """Return which part each tensor belongs to."""
        return (
            ("mtp.", "draft", ""),  # predicts a second token, which transformers does not do either
            ("model.visual.merger.linear_fc1.", "projector", "expand."),
            ("model.visual.merger.linear_fc2.", "projector", "project."),
            ("model.visual.merger.norm.", "tower", "norm."),
            ("model.visual.", "tower", ""),
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
        tower = read_settings(content, _Settings, path).vision_config
        sides = {name: _side(tower, name, path) for name in ("patch_size", "temporal_patch_size")}
        rope = tower.rope_parameters or _Rope()
        head = tower.hidden_size // tower.num_heads
        unsupported = {
            f"a tower for {tower.in_channels} channels": tower.in_channels != 3,
            f"deepstack_visual_indexes {tower.deepstack_visual_indexes}, which put image tokens "
            "into later layers too": bool(tower.deepstack_visual_indexes),
            f"hidden_act {tower.hidden_act!r}; known: {', '.join(_ACTIVATIONS)}": (
                tower.hidden_act not in _ACTIVATIONS
            ),
            f"num_position_embeddings {tower.num_position_embeddings}, which is no square": (
                math.isqrt(tower.num_position_embeddings) ** 2 != tower.num_position_embeddings
            ),
            f"a rope of type {rope.rope_type!r}; known: axial": rope.rope_type != "axial",
            f"{tower.num_heads} heads in {tower.hidden_size} channels": (
                head * tower.num_heads != tower.hidden_size or head % 4 != 0
            ),
        }
        refuse_unsupported(path, unsupported)
        width = tower.hidden_size
        settings = msgspec.structs.asdict(tower) | sides | {"rope_theta": rope.rope_theta}
        return VisionPart(
            tower=settings,
            tower_kind="qwen",
            tower_folder=None,
            feature_layer=None,
            projector_layers=2,
            projector_bias=True,
            projector_factor=tower.spatial_merge_size,
            projector_hidden=tower.spatial_merge_size**2 * width,
            processing=_processing(path.parent, tower, sides),
            arrangement="flat",
            places="grid",
        )

    def chat(self, folder: Path) -> VlmChatFormat:
        """Return the format that the checkpoint's own template has."""
        require_tokens(folder, _NAMES)
        return qwen_format(folder)


def _side(tower: _Tower, name: str, path: Path) -> int:
    size = getattr(tower, name)
    if isinstance(size, list):
        refuse_unsupported(path, {f"{name} {size}": not size or size != size[:1] * len(size)})
        return int(size[0])
    return int(size)


def _processing(folder: Path, tower: _Tower, sides: Mapping[str, int]) -> Processing:
    content, path = read_image_processor(folder)
    processor = read_settings(content, _ImageProcessor, path)
    kind, block = processor.image_processor_type, tower.spatial_merge_size * sides["patch_size"]
    least = processor.min_pixels or processor.size.shortest_edge
    most = processor.max_pixels or processor.size.longest_edge
    ours = {"merge_size": tower.spatial_merge_size, **sides}
    unsupported = {
        f"image_processor_type {kind!r}; known: {', '.join(_KINDS)}": kind not in _KINDS,
        "leaving out resizing, rescaling or normalizing": not (
            processor.do_resize and processor.do_rescale and processor.do_normalize
        ),
        f"resample {processor.resample}; known: {_BICUBIC}, bicubic": (
            processor.resample != _BICUBIC
        ),
        f"{least} to {most} pixels, which are no areas of whole blocks of {block} x {block}": (
            least % block**2 != 0 or most % block**2 != 0 or least > most
        ),
        **{
            f"{name} {getattr(processor, name)}, where the tower has {size}": (
                getattr(processor, name) != size
            )
            for name, size in ours.items()
        },
    }
    refuse_unsupported(path, unsupported)
    fewest, largest = least // block**2, min(most // block**2, MOST_IMAGE_TOKENS)
    side = block * min(_TILE_BLOCKS, math.isqrt(largest))
    return make_processing(
        path,
        height=side,
        width=side,
        mean=processor.image_mean,
        std=processor.image_std,
        rescale=processor.rescale_factor,
        resample="bicubic",
        fit="squash",
        whole_size={
            "block": block,
            "min_tokens": min(fewest, largest),
            "max_tokens": largest,
            "least_blocks": 0,
        },
    )
