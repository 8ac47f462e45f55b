"""transformers' layout of LFM2-VL and LFM2.5-VL: one tile of many sizes, or a grid with one beside.

In: config.json and the files beside it. Out: the settings of the language model, whose tensor is
whose, and the vision side.

Source: `modeling_lfm2_vl.py`, `image_processing_lfm2_vl.py` and `processing_lfm2_vl.py` of
transformers. `vision_feature_layer`, which published configs hold, is read by none of them.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec

from edge_et.bundle import MarkupSpec, Processing
from edge_et.export.chat.lfm2_vl_chat_format import lfm2_vl_format
from edge_et.export.chat.vlm_chat_format import VlmChatFormat
from edge_et.export.checkpoint.checkpoint_folder import TensorFiles, read_json
from edge_et.export.checkpoint.config_keys import read_image_processor
from edge_et.export.errors import UnreadableCheckpointError
from edge_et.export.families.llm_family import MAX_LAYERS
from edge_et.export.families.vlm_layout import (
    Markup,
    PartTable,
    VisionPart,
    complete_settings,
    embeddings_are_tied,
    make_processing,
    mark_ids,
    read_settings,
    refuse_unsupported,
    require_tokens,
)

_TEXT_MODELS = {"lfm2": "Lfm2ForCausalLM"}
_BILINEAR = 2  # of PIL.Image.Resampling
_KINDS = ("Lfm2VlImageProcessor", "Lfm2VlImageProcessorFast")
_FACTOR = 2
"""Side of a block, patches. Of another one, half a block would not be a patch, which decides where
a picture has a grid."""
_START, _END, _WHOLE = "<|image_start|>", "<|image_end|>", "<|img_thumbnail|>"
_TILE = "<|img_row_{row}_col_{column}|>"
_NAMES = {
    "image_token": "<image>",
    "image_start_token": _START,
    "image_end_token": _END,
    "image_thumbnail_token": _WHOLE,
}
"""Of the tokenizer, by which the processor finds them."""

_Size = Annotated[int, msgspec.Meta(ge=1, le=2**16)]
_Tiles = Annotated[int, msgspec.Meta(ge=1, le=64)]
_Channels = Annotated[list[float], msgspec.Meta(min_length=3, max_length=3)]


class _Tower(msgspec.Struct, frozen=True, kw_only=True):
    """The keys of vision_config; defaults are those of transformers."""

    hidden_size: _Size = 768
    intermediate_size: _Size = 3072
    num_hidden_layers: Annotated[int, msgspec.Meta(ge=1, le=MAX_LAYERS)] = 12
    num_attention_heads: _Size = 12
    num_channels: _Size = 3
    num_patches: _Size = 256
    patch_size: _Size = 16
    hidden_act: str = "gelu_pytorch_tanh"
    layer_norm_eps: float = 1e-6


class _Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The keys of config.json that decide what the graph is; defaults are those of transformers."""

    vision_config: _Tower
    downsample_factor: _Size = _FACTOR
    projector_hidden_act: str = "gelu"
    projector_hidden_size: _Size = 2560
    projector_bias: bool = True
    projector_use_layernorm: bool = True


class _ImageProcessor(msgspec.Struct, frozen=True, kw_only=True):
    """The keys of the image processor that decide what the pixel values are.

    Defaults are those of transformers, which resizes whatever `do_resize` says, and by no `size`.
    """

    image_processor_type: str = _KINDS[0]
    do_image_splitting: bool = True
    do_rescale: bool = True
    do_normalize: bool = True
    downsample_factor: _Size = _FACTOR
    encoder_patch_size: _Size = 16
    tile_size: _Size = 512
    min_tiles: _Tiles = 2
    max_tiles: _Tiles = 10
    use_thumbnail: bool = True
    min_image_tokens: _Size = 64
    max_image_tokens: _Size = 256
    max_pixels_tolerance: Annotated[float, msgspec.Meta(ge=0, le=2**10)] = 2.0
    resample: int = _BILINEAR
    rescale_factor: float = 1 / 255
    image_mean: _Channels | None = None
    image_std: _Channels | None = None


class Lfm2Vl:
    """Hooks of `Lfm2VlForConditionalGeneration`."""

    def llm_settings(
        self, content: dict[str, Any], path: Path, known: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Return all settings of the language model."""
        text = content.get("text_config")
        if not isinstance(text, dict):
            raise UnreadableCheckpointError(f"{path} has no text_config")
        older = text.get("tie_embedding") or content.get("tie_embedding")
        tied = bool(older or text.get("tie_word_embeddings"))
        if tied:
            tied = embeddings_are_tied(path.parent, self.parts(content, path))
        others = {name: value for name, value in text.items() if name != "tie_embedding"}
        settings = {"model_type": "lfm2"} | others | {"tie_word_embeddings": tied}
        return complete_settings(settings, _TEXT_MODELS, path, known)

    def parts(self, content: dict[str, Any], path: Path) -> PartTable:
        """Return which part each tensor belongs to."""
        return (
            ("model.vision_tower.", "tower", ""),
            ("model.multi_modal_projector.layer_norm.", "projector", "norm."),
            ("model.multi_modal_projector.linear_1.", "projector", "expand."),
            ("model.multi_modal_projector.linear_2.", "projector", "project."),
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
        tower, factor = settings.vision_config, settings.downsample_factor
        activation = settings.projector_hidden_act
        unsupported = {
            f"a tower for {tower.num_channels} channels": tower.num_channels != 3,
            f"num_patches {tower.num_patches}, which is no square": (
                int(tower.num_patches**0.5) ** 2 != tower.num_patches
            ),
            f"downsample_factor {factor}; known: {_FACTOR}": factor != _FACTOR,
            f"projector_hidden_act {activation!r}; known: gelu": activation != "gelu",
        }
        refuse_unsupported(path, unsupported)
        processing = _processing(path.parent, tower.patch_size)
        grids = () if processing.tiling is None else processing.tiling.grids
        return VisionPart(
            tower=msgspec.structs.asdict(tower),
            tower_kind="siglip2",
            tower_folder=None,
            feature_layer=None,
            projector_layers=2,
            projector_bias=settings.projector_bias,
            projector_factor=factor,
            projector_norm=settings.projector_use_layernorm,
            projector_hidden=settings.projector_hidden_size,
            processing=processing,
            arrangement="flat",
            markup=_markup(path.parent, grids),
        )

    def chat(self, folder: Path) -> VlmChatFormat:
        """Return the format that the checkpoint's own template has."""
        return lfm2_vl_format(folder)


def _processing(folder: Path, patch: int) -> Processing:
    content, path = read_image_processor(folder)
    processor = read_settings(content, _ImageProcessor, path)
    block, tile = _FACTOR * patch, processor.tile_size
    least, most = processor.min_tiles, processor.max_tiles
    fewest = processor.min_image_tokens
    splits = processor.do_image_splitting and not least == most == 1
    unsupported = {
        f"image_processor_type {processor.image_processor_type!r}; known: {', '.join(_KINDS)}": (
            processor.image_processor_type not in _KINDS
        ),
        "leaving out rescaling or normalizing": not (
            processor.do_rescale and processor.do_normalize
        ),
        f"resample {processor.resample}; known: {_BILINEAR}, bilinear": (
            processor.resample != _BILINEAR
        ),
        f"downsample_factor {processor.downsample_factor}; known: {_FACTOR}": (
            processor.downsample_factor != _FACTOR
        ),
        f"encoder_patch_size {processor.encoder_patch_size}, where the tower has {patch}": (
            processor.encoder_patch_size != patch
        ),
        f"tiles of {tile} pixels, which are no blocks of {block}": tile % block != 0,
        f"grids of {least} to {most} tiles; known: from 2 on": splits and not 2 <= least <= most,
        "grids without the whole picture (use_thumbnail)": splits and not processor.use_thumbnail,
        f"{fewest} image tokens at least, {processor.max_image_tokens} at most": (
            fewest > processor.max_image_tokens
        ),
    }
    refuse_unsupported(path, unsupported)
    _check_special_tokens(folder)
    tiling = None
    if splits:
        over = processor.max_image_tokens * block**2 * processor.max_pixels_tolerance
        tiling = {
            "rule": "ratio",
            "grids": _grids(least, most),
            "over_pixels": int(over),
            "whole": "last",
        }
    return make_processing(
        path,
        height=tile,
        width=tile,
        mean=processor.image_mean or (0.5,) * 3,
        std=processor.image_std or (0.5,) * 3,
        rescale=processor.rescale_factor,
        resample="bilinear",
        fit="squash",
        tiling=tiling,
        whole_size={
            "block": block,
            "min_tokens": fewest,
            "max_tokens": processor.max_image_tokens,
        },
    )


def _grids(least: int, most: int) -> list[tuple[int, int]]:
    """Return the grids to choose from: fewest tiles first, and of equally many the narrower one.

    There the reference has the order of a Python set, which decides between two that are equally
    near. No picture meets that with the published 2 to 10 tiles.
    """
    sides = range(1, most + 1)
    grids = [
        (columns, rows) for columns in sides for rows in sides if least <= columns * rows <= most
    ]
    return sorted(grids, key=lambda grid: grid[0] * grid[1])


def _check_special_tokens(folder: Path) -> None:
    """Check that prompts have the marks around tiles."""
    path = folder / "processor_config.json"
    told = read_json(path).get("use_image_special_tokens", True) if path.is_file() else True
    refuse_unsupported(path, {"use_image_special_tokens false": told is not True})


def _markup(folder: Path, grids: tuple[tuple[int, int], ...]) -> Markup:
    """Find the tokens around tiles."""
    require_tokens(folder, _NAMES)
    places = [
        _TILE.format(row=row, column=column)
        for columns, rows in grids
        for row in range(1, rows + 1)
        for column in range(1, columns + 1)
    ]
    marks = tuple(dict.fromkeys((_START, _END, *((_WHOLE, *places) if places else ()))))
    spec = MarkupSpec(
        tokens=marks,
        start=(_START,),
        tile=(_TILE,) if places else (),
        whole=(_WHOLE,) if places else (),
        alone=(),
        end=(_END,),
    )
    return Markup(spec=spec, ids=mark_ids(folder, marks))
