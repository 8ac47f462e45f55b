"""The original layout of InternVL 2.5, 3 and 3.5, whose own code is never run.

Source: `configuration_internvl_chat.py`, `configuration_intern_vit.py`, `modeling_internvl_chat.py`
and `modeling_intern_vit.py` of OpenGVLab/InternVL, and `load_image` on the cards.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec

from edge_et.export.chat.internvl_chat_format import CONVERSATIONS, internvl_conversation_format
from edge_et.export.chat.vlm_chat_format import VlmChatFormat
from edge_et.export.checkpoint.checkpoint_folder import TensorFiles, read_json
from edge_et.export.families.internvl_parts import (
    Size,
    Tiles,
    text_settings,
    tile_processing,
    vision_part,
)
from edge_et.export.families.llm_family import MAX_LAYERS
from edge_et.export.families.vlm_layout import (
    PartTable,
    VisionPart,
    read_settings,
    refuse_unsupported,
)

_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_QK_NORM_EPS = 1e-6
"""Of transformers' norm for queries and keys, whatever the config says of the others."""


class _Tower(msgspec.Struct, frozen=True, kw_only=True):
    """The keys of vision_config; defaults are those of its class, which is InternViT-6B."""

    hidden_size: Size = 3200
    intermediate_size: Size = 12800
    num_hidden_layers: Annotated[int, msgspec.Meta(ge=1, le=MAX_LAYERS)] = 48
    num_attention_heads: Size = 25
    num_channels: Size = 3
    image_size: Size = 224
    patch_size: Size = 14
    attention_bias: bool = msgspec.field(name="qkv_bias", default=False)
    use_qk_norm: bool = msgspec.field(name="qk_normalization", default=True)
    norm_type: str = "rms_norm"
    hidden_act: str = "gelu"
    layer_norm_eps: float = 1e-6


class _Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The keys of config.json that decide what is exported; defaults are those of its class."""

    vision_config: _Tower
    select_layer: int = -1
    downsample_ratio: float = 0.5
    ps_version: str = "v1"
    force_image_size: int | None = None
    dynamic_image_size: bool = False
    use_thumbnail: bool = False
    pad2square: bool = False
    min_dynamic_patch: Tiles = 1
    max_dynamic_patch: Tiles = 6
    use_backbone_lora: int = 0
    use_llm_lora: int = 0
    template: str | None = None
    system_message: str | None = None


class InternVLChat:
    """Hooks of `InternVLChatModel`."""

    def llm_settings(
        self, content: dict[str, Any], path: Path, known: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Return all settings of the language model."""
        return text_settings(content.get("llm_config"), self.parts(content, path), path, known)

    def parts(self, content: dict[str, Any], path: Path) -> PartTable:
        """Return which part each tensor belongs to."""
        return (
            ("vision_model.", "tower", ""),
            ("mlp1.0.", "projector", "norm."),
            ("mlp1.1.", "projector", "expand."),
            ("mlp1.3.", "projector", "project."),
            ("language_model.", "llm", ""),
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
        """Return what the config says about the vision side."""
        settings = read_settings(content, _Settings, path)
        tower, version = settings.vision_config, settings.ps_version
        tile, forced = tower.image_size, settings.force_image_size
        system = settings.system_message
        unsupported = {
            f"select_layer {settings.select_layer}; known: -1": settings.select_layer != -1,
            f"ps_version {version!r}; known: v2": version != "v2",
            f"force_image_size {forced}, where the tower takes {tile}": forced not in (None, tile),
            "dynamic_image_size false": not settings.dynamic_image_size,
            "use_thumbnail false": not settings.use_thumbnail,
            "pad2square": settings.pad2square,
            "use_backbone_lora": settings.use_backbone_lora != 0,
            "use_llm_lora": settings.use_llm_lora != 0,
            "another system_message than that of the conversation template": (
                system not in (None, CONVERSATIONS.get(settings.template or ""))
            ),
            f"qk_normalization with layer_norm_eps {tower.layer_norm_eps}; known: {_QK_NORM_EPS}": (
                tower.use_qk_norm and tower.layer_norm_eps != _QK_NORM_EPS
            ),
        }
        refuse_unsupported(path, unsupported)
        return vision_part(
            path,
            msgspec.structs.asdict(tower),
            settings.downsample_ratio,
            tile_processing(
                path,
                tile=tile,
                mean=_IMAGENET_MEAN,
                std=_IMAGENET_STD,
                rescale=1 / 255,
                tiles=(settings.min_dynamic_patch, settings.max_dynamic_patch),
            ),
        )

    def chat(self, folder: Path) -> VlmChatFormat:
        """Return the format of the conversation template that config.json names."""
        template = read_json(folder / "config.json").get("template")
        return internvl_conversation_format(folder, template)
