"""transformers' layout of Idefics3, SmolVLM and SmolVLM2: tiles on a grid, with marks between them.

Source: `modeling_idefics3.py`, `image_processing_idefics3.py` and `processing_idefics3.py` of
transformers; those of SmolVLM compute the same. Their position embeddings take the patches of a
whole tile in order, as in transformers 5: some of transformers 4 count the first place twice.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec

from edge_et.bundle import MarkupSpec, Processing
from edge_et.export.chat.vlm_chat_format import VlmChatFormat, idefics3_format
from edge_et.export.checkpoint.checkpoint_folder import TensorFiles, read_json
from edge_et.export.checkpoint.config_keys import read_image_processor
from edge_et.export.errors import UnreadableCheckpointError, UnsupportedModelError, VocabularyError
from edge_et.export.families.vlm_layout import (
    Markup,
    PartTable,
    VisionPart,
    complete_settings,
    make_processing,
    open_tokenizer,
    read_settings,
    refuse_unsupported,
    require_tokens,
)

_TEXT_MODELS = {"llama": "LlamaForCausalLM"}
_LANCZOS = 1  # of PIL.Image.Resampling
_KINDS = tuple(
    f"{family}ImageProcessor{backend}"
    for family in ("Idefics3", "SmolVLM")
    for backend in ("", "Fast", "Pil")
)
_AROUND, _WHOLE, _IMAGE = "<fake_token_around_image>", "<global-img>", "<image>"
_TILE = "<row_{row}_col_{column}>"
_NAMES = {"fake_image_token": _AROUND, "global_image_token": _WHOLE, "image_token": _IMAGE}
"""Of the tokenizer, by which SmolVLM's processor finds them."""

_Size = Annotated[int, msgspec.Meta(ge=1, le=2**16)]
_Channels = Annotated[list[float], msgspec.Meta(min_length=3, max_length=3)]


class _Tower(msgspec.Struct, frozen=True, kw_only=True):
    """The keys of vision_config; defaults are those of transformers."""

    hidden_size: _Size = 1152
    intermediate_size: _Size = 3072
    num_hidden_layers: _Size = 12
    num_attention_heads: _Size = 16
    num_channels: _Size = 3
    image_size: _Size = 224
    patch_size: _Size = 32
    hidden_act: str = "gelu_pytorch_tanh"
    layer_norm_eps: float = 1e-6


class _Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The keys of config.json that decide what the graph is; defaults are those of transformers."""

    vision_config: _Tower
    scale_factor: _Size = 2


class _LongestEdge(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    longest_edge: _Size


class _ImageProcessor(msgspec.Struct, frozen=True, kw_only=True):
    """The keys of the image processor that decide what the pixel values are.

    Defaults are those of transformers. Tiles are full, so `do_pad` decides nothing.
    """

    image_processor_type: str = _KINDS[0]
    do_resize: bool = True
    do_image_splitting: bool = True
    do_rescale: bool = True
    do_normalize: bool = True
    size: _LongestEdge = _LongestEdge(longest_edge=4 * 364)
    max_image_size: _LongestEdge = _LongestEdge(longest_edge=364)
    resample: int = _LANCZOS
    rescale_factor: float = 1 / 255
    image_mean: _Channels | None = None
    image_std: _Channels | None = None


class Idefics3:
    """Hooks of `Idefics3ForConditionalGeneration` and `SmolVLMForConditionalGeneration`."""

    def llm_settings(
        self, content: dict[str, Any], path: Path, known: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Return all settings of the language model."""
        text = content.get("text_config")
        if not isinstance(text, dict):
            raise UnreadableCheckpointError(f"{path} has no text_config")
        for name in ("qk_layer_norms", "use_resampler"):
            if text.get(name) or content.get(name):
                raise UnsupportedModelError(f"{path} asks for {name}: not supported")
        return complete_settings({"model_type": "llama"} | text, _TEXT_MODELS, path, known)

    def parts(self, content: dict[str, Any], path: Path) -> PartTable:
        """Return which part each tensor belongs to."""
        return (
            ("model.vision_model.", "tower", ""),
            ("model.connector.modality_projection.proj.", "projector", "0."),
            ("model.text_model.", "llm", "model."),
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
        tower, factor = settings.vision_config, settings.scale_factor
        side = tower.image_size // tower.patch_size
        lost = f"scale_factor {factor}, where a tile has {side} x {side} patches"
        refuse_unsupported(path, {lost: side % factor != 0})
        processing = _processing(path.parent, tower.image_size, (side // factor) ** 2)
        assert processing.tiling is not None
        return VisionPart(
            tower=msgspec.structs.asdict(tower) | {"vision_use_head": False},
            tower_folder=None,
            feature_layer=None,
            projector_layers=1,
            projector_bias=False,
            projector_factor=factor,
            processing=processing,
            arrangement="flat",
            markup=_markup(path.parent, processing.tiling.possible_grids),
        )

    def chat(self, folder: Path) -> VlmChatFormat:
        """Return the format that the checkpoint's own template has."""
        return idefics3_format(folder)


def _processing(folder: Path, tile: int, image_tokens: int) -> Processing:
    content, path = read_image_processor(folder)
    processor = read_settings(content, _ImageProcessor, path)
    longest, largest = processor.size.longest_edge, processor.max_image_size.longest_edge
    unsupported = {
        f"image_processor_type {processor.image_processor_type!r}; known: {', '.join(_KINDS)}": (
            processor.image_processor_type not in _KINDS
        ),
        "leaving out resizing, rescaling or normalizing": not (
            processor.do_resize and processor.do_rescale and processor.do_normalize
        ),
        f"resample {processor.resample}; known: {_LANCZOS}, Lanczos": (
            processor.resample != _LANCZOS
        ),
        f"tiles of {largest} pixels (max_image_size), where the tower takes {tile}": (
            largest != tile
        ),
        f"a longest edge of {longest} pixels (size), which is no multiple of {tile}": (
            longest % tile != 0
        ),
        "no tiles (do_image_splitting), and yet a longest edge of several": (
            not processor.do_image_splitting and longest != tile
        ),
    }
    refuse_unsupported(path, unsupported)
    _check_sequence_length(folder, image_tokens)
    return make_processing(
        path,
        height=tile,
        width=tile,
        mean=processor.image_mean or (0.5,) * 3,
        std=processor.image_std or (0.5,) * 3,
        rescale=processor.rescale_factor,
        resample="lanczos",
        fit="squash",
        tiling={"rule": "edge", "edge_tiles": longest // tile, "whole": "last"},
    )


def _check_sequence_length(folder: Path, image_tokens: int) -> None:
    """Check that prompts have as many image tokens for a tile as the graph makes."""
    path = folder / "processor_config.json"
    told = read_json(path).get("image_seq_len") if path.is_file() else None
    lost = f"image_seq_len {told}, where a tile has {image_tokens} image tokens"
    refuse_unsupported(path, {lost: told not in (None, image_tokens)})


def _markup(folder: Path, grids: tuple[tuple[int, int], ...]) -> Markup:
    """Find the tokens that the processor's texts around tiles become, by the tokenizer itself."""
    require_tokens(folder, _NAMES)
    path, tokenizer = folder / "tokenizer.json", open_tokenizer(folder)
    ids: dict[str, int] = {}

    def marks(text: str) -> tuple[str, ...]:
        """Return the tokens of a text that stands between two image tokens."""
        found = tokenizer.encode(_IMAGE + text + _IMAGE, add_special_tokens=False).ids
        image = tokenizer.token_to_id(_IMAGE)
        if len(found) < 2 or not found[0] == found[-1] == image:
            raise VocabularyError(f"{path} has no token {_IMAGE}")
        inner = found[1:-1]
        texts = tuple(tokenizer.decode([token], skip_special_tokens=False) for token in inner)
        if "".join(texts) != text:
            raise VocabularyError(f"{path} writes {text!r} as {texts}, which is another text")
        ids.update(zip(texts, inner, strict=True))
        return texts

    def one(text: str) -> str:
        tokens = marks(text)
        if tokens != (text,):
            raise VocabularyError(f"{path} has no token {text}")
        return text

    around, whole = one(_AROUND), one(_WHOLE)
    # The line feeds stand before the mark that opens a tile, which may change what they become.
    row_end, grid_end = (marks(feeds + _AROUND)[:-1] for feeds in ("\n", "\n\n"))
    for columns, rows in grids:
        one(_TILE.format(row=rows, column=columns))
    spec = MarkupSpec(
        tokens=tuple(ids),
        tile=(around, _TILE),
        row_end=row_end,
        grid_end=grid_end,
        whole=(around, whole),
        end=(around,),
    )
    return Markup(spec=spec, ids=tuple(ids.values()))
