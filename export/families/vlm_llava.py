"""LLaVA-NeXT's own layout, which the paper's checkpoints have.

config.json is that of the language model, with settings of the vision side (`mm_...`) between. It
does not describe the tower. What the shapes of its tensors do not tell follows from its name on the
hub alone.

Source: `builder.py`, `llava_arch.py`, `mm_utils.py` and `siglip_encoder.py` of LLaVA-NeXT.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec

from edge_et.bundle import Processing
from edge_et.export.chat.vlm_chat_format import VlmChatFormat, qwen_1_5_format
from edge_et.export.checkpoint.checkpoint_folder import TensorFiles
from edge_et.export.errors import (
    MissingTensorError,
    UnreadableCheckpointError,
    UnsupportedModelError,
)
from edge_et.export.families.vlm_layout import (
    PartTable,
    VisionPart,
    complete_settings,
    make_processing,
    read_settings,
)

_TOWER = "model.vision_tower.vision_tower.vision_model."
_MLP = re.compile(r"mlp([1-9]\d?)x_gelu")
_ANYRES = re.compile(r"anyres(_max_([1-9]\d{0,3}))?")
_RANGE_END = re.compile(r"\((\d{1,2})x(\d{1,2})\)")
_ARRANGEMENTS: dict[str, Literal["flat", "grid", "unpadded"]] = {
    "flat": "flat",
    "spatial": "grid",
    "spatial_unpad": "unpadded",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownTower:
    """What a tower's name tells and its tensors do not.

    Attributes:
        heads: of the attention.
        norm_eps: added to the variance by each LayerNorm.
        activation: of the MLPs, as transformers calls it.
        image_size: H and W of a tile, pixels.
        patch_size: side of a patch, pixels.
        mean: subtracted from values of 0 to 1, the same for red, green and blue.
        std: what the difference is divided by.
    """

    heads: int
    norm_eps: float
    activation: str
    image_size: int
    patch_size: int
    mean: float
    std: float


KNOWN_TOWERS = {
    "google/siglip-so400m-patch14-384": KnownTower(
        heads=16,
        norm_eps=1e-6,
        activation="gelu_pytorch_tanh",
        image_size=384,
        patch_size=14,
        mean=0.5,
        std=0.5,
    ),
}
"""By name on the hub. Source: `SigLipVisionConfig` and `SigLipImageProcessor` of LLaVA-NeXT."""


class VisionSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The keys of config.json that decide what the graph and the tiles are; LLaVA's defaults.

    `mm_vision_select_layer` is not among them. LLaVA's tower never reads it: it takes the output
    of the last layer that it has, after dropping one of those that the hub's file has. Checkpoints
    are saved from what is left, so a tower inside is complete, and one beside has a layer more.
    """

    mm_vision_tower: str | None = None
    mm_projector_type: str = "linear"
    mm_patch_merge_type: str = "flat"
    mm_resampler_type: str | None = None
    mm_use_im_start_end: bool = False
    image_aspect_ratio: str | None = None
    image_grid_pinpoints: list[tuple[int, int]] | str | None = None

    @property
    def projector_layers(self) -> int | None:
        """Linears of the projector; None for a type that is not known."""
        if self.mm_projector_type == "linear":
            return 1
        match = _MLP.fullmatch(self.mm_projector_type)
        return int(match[1]) if match else None


class LlavaNext:
    """Hooks of `LlavaQwen3ForCausalLM` and `LlavaQwenForCausalLM`."""

    def __init__(self, model_type: str, architecture: str) -> None:
        """Say what the language model is.

        Args:
            model_type: of the language model alone.
            architecture: of the language model alone.
        """
        self._model_type = model_type
        self._architecture = architecture

    def llm_settings(
        self, content: dict[str, Any], path: Path, known: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Return all settings of the language model, without rope scaling, which LLaVA drops."""
        scaled = content.get("rope_parameters", {})
        rope = {
            key: value
            for key, value in scaled.items()
            if key == "rope_theta" or isinstance(value, dict)
        }
        settings = content | {"model_type": self._model_type, "rope_parameters": rope}
        return complete_settings(settings, {self._model_type: self._architecture}, path, known)

    def parts(self, content: dict[str, Any], path: Path) -> PartTable:
        """Return which part each tensor belongs to."""
        # A single linear is stored alone, several in a sequence with the activations between.
        single = read_settings(content, VisionSettings, path).mm_projector_type == "linear"
        return (
            (_TOWER, "tower", ""),
            ("model.mm_projector.", "projector", "0." if single else ""),
            ("model.image_newline", "newline", "image_newline"),
            ("model.", "llm", "model."),
            ("lm_head.", "llm", "lm_head."),
        )

    def tower_beside(self, content: dict[str, Any], path: Path, tensors: TensorFiles) -> str | None:
        """Name the tower that the checkpoint needs but does not hold; None: it holds its tower."""
        if any(name.startswith(_TOWER) for name in tensors.names):
            return None
        name = read_settings(content, VisionSettings, path).mm_vision_tower
        _known_tower(name, path)
        return name

    def vision(
        self,
        content: dict[str, Any],
        path: Path,
        tensors: TensorFiles | None,
        tower_folder: Path | None,
    ) -> VisionPart:
        """Return what the config, the tower's name and its shapes say about the vision side."""
        settings = read_settings(content, VisionSettings, path)
        known = _known_tower(settings.mm_vision_tower, path)
        layers = settings.projector_layers
        unsupported = {
            f"mm_projector_type {settings.mm_projector_type!r}; known: linear, mlpNx_gelu": (
                layers is None
            ),
            f"mm_patch_merge_type {settings.mm_patch_merge_type!r}; "
            f"known: {', '.join(_ARRANGEMENTS)}": settings.mm_patch_merge_type not in _ARRANGEMENTS,
            f"mm_resampler_type {settings.mm_resampler_type!r}": (
                settings.mm_resampler_type is not None
            ),
            "mm_use_im_start_end": settings.mm_use_im_start_end,
        }
        if lost := [setting for setting, present in unsupported.items() if present]:
            raise UnsupportedModelError(f"{path} asks for {lost[0]}: not supported")
        assert layers is not None
        return VisionPart(
            tower=_tower_settings(tensors, known, path),
            tower_folder=tower_folder,
            # Of the tower on the hub, the last layer is not run.
            feature_layer=-2 if tensors is None or tower_folder is not None else -1,
            projector_layers=layers,
            projector_bias=True,
            processing=_processing(settings, known, path),
            arrangement=_ARRANGEMENTS[settings.mm_patch_merge_type],
        )

    def chat(self, folder: Path) -> VlmChatFormat:
        """Return the conversation template that LLaVA-NeXT names `qwen_1_5`."""
        return qwen_1_5_format(folder)


def _known_tower(name: str | None, path: Path) -> KnownTower:
    if name not in KNOWN_TOWERS:
        raise UnsupportedModelError(
            f"{path}: the vision tower {name!r} is not known; known: {', '.join(KNOWN_TOWERS)}"
        )
    return KNOWN_TOWERS[name]


def _tower_settings(tensors: TensorFiles | None, known: KnownTower, path: Path) -> dict[str, Any]:
    size = {"image_size": known.image_size, "patch_size": known.patch_size}
    if tensors is None:
        return size
    convolution = "embeddings.patch_embedding.weight"
    first_linear = "encoder.layers.0.mlp.fc1.weight"
    if missing := [name for name in (convolution, first_linear) if name not in tensors.names]:
        raise MissingTensorError(str(path.parent), missing)
    layers = {
        match[1] for name in tensors.names if (match := re.match(r"encoder\.layers\.(\d+)\.", name))
    }
    return size | {
        "hidden_size": tensors.shape(convolution)[0],
        "intermediate_size": tensors.shape(first_linear)[0],
        "num_hidden_layers": len(layers),
        "num_attention_heads": known.heads,
        "layer_norm_eps": known.norm_eps,
        "hidden_act": known.activation,
        "vision_use_head": "head.probe" in tensors.names,
    }


def _processing(settings: VisionSettings, known: KnownTower, path: Path) -> Processing:
    """Return how LLaVA's `process_images` treats a picture."""
    ratio = settings.image_aspect_ratio
    tiling = None
    if match := _ANYRES.fullmatch(ratio or ""):
        # Only maps that lose their borders are ever interpolated.
        shrinks = match[2] and settings.mm_patch_merge_type == "spatial_unpad"
        tiling = {
            "grids": _grids(settings.image_grid_pinpoints, known.image_size, path),
            "shrink_over_tiles": int(match[2]) if shrinks else None,
        }
    elif ratio not in (None, "square", "pad"):
        raise UnsupportedModelError(
            f"{path}: image_aspect_ratio {ratio!r} is not supported; "
            "known: anyres, anyres_max_N, pad, square"
        )
    padded = ratio == "pad"
    return make_processing(
        path,
        height=known.image_size,
        width=known.image_size,
        mean=[known.mean] * 3,
        std=[known.std] * 3,
        rescale=1 / 255,
        resample="bicubic",
        fit="expand" if padded else "squash",
        pad_color=[int(known.mean * 255) if padded else 0] * 3,
        tiling=tiling,
    )


def _grids(
    pinpoints: list[tuple[int, int]] | str | None, tile: int, path: Path
) -> list[tuple[int, int]]:
    """Return columns and rows of the grids; pinpoints are widths and heights in pixels."""
    if isinstance(pinpoints, str):
        # "(1x1),...,(6x6)" names the ends of a range of grids; other strings are lists as text.
        if ends := _RANGE_END.findall(pinpoints):
            (first_columns, first_rows), (last_columns, last_rows) = (
                tuple(map(int, ends[place])) for place in (0, -1)
            )
            return [
                (columns, rows)
                for columns in range(first_columns, last_columns + 1)
                for rows in range(first_rows, last_rows + 1)
            ]
        try:
            pinpoints = msgspec.convert(json.loads(pinpoints), list[tuple[int, int]])
        except (ValueError, RecursionError) as err:
            raise UnreadableCheckpointError(f"{path}: image_grid_pinpoints: {err}") from err
    if not pinpoints or any(side % tile for pair in pinpoints for side in pair):
        raise UnreadableCheckpointError(
            f"{path}: image_grid_pinpoints are no multiples of {tile} pixels"
        )
    return [(width // tile, height // tile) for width, height in pinpoints]
