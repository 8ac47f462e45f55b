"""Vision backbones and the tower that is exported, as torch modules of one fixed tile size or many.

In: `pixel_values [N, 3, H, W] float32`. A backbone gives `patch_features [N, P, C]`, the tower
`image_tokens [N, S, D]`. The weights come from a Hugging Face folder, from a part of a larger
checkpoint, or from a model in memory.
"""

from pathlib import Path
from typing import Any, cast

import torch
from huggingface_hub.errors import StrictDataclassError
from torch import Tensor, nn
from transformers import Dinov2Config, Dinov2Model, SiglipVisionConfig, SiglipVisionModel
from transformers.initialization import no_init_weights
from transformers.models.dinov2.modeling_dinov2 import Dinov2Embeddings

from edge_et.export.checkpoint.checkpoint_folder import TensorFiles, open_tensors, read_json
from edge_et.export.errors import UnreadableCheckpointError, UnsupportedModelError
from edge_et.export.families.llm_family import MAX_LAYERS
from edge_et.export.vision.intern_vit import InternVitPatches
from edge_et.export.vision.projector import MlpProjector, PixelShuffleProjector
from edge_et.export.vision.qwen_vit import QwenBlocks
from edge_et.export.vision.siglip2 import Siglip2Blocks

_DINOV2_MODULES = {
    "attention.query": "q_proj",
    "attention.key": "k_proj",
    "attention.value": "v_proj",
    "output.dense": "o_proj",
}


class Dinov2Patches(nn.Module):
    """DINOv2 without its class token, for square tiles of one size.

    The position embedding is interpolated once, by transformers' own function, so that the graph
    holds the result.

    Attributes:
        image_size: H and W, pixels.
        width: C, channels of one patch feature.
    """

    class_token: Tensor
    positions: Tensor

    def __init__(
        self,
        model: Dinov2Model,
        image_size: int,
        feature_layer: int | None = None,
        early_layer: int | None = None,
    ) -> None:
        """Take the parts of a model; they are shared with it.

        Args:
            model: the backbone.
            image_size: H and W, pixels.
            feature_layer: None takes `last_hidden_state`, after the final layernorm; -1, -2, ...
                take `hidden_states[feature_layer]`, before it.
            early_layer: a number of layers, after which features are taken as well: normalised
                without weights and put behind the others, which doubles C. Colours and strokes
                are plainer there than at the end.
        """
        super().__init__()
        self.image_size = image_size
        hidden_size: int = model.config.hidden_size
        self.width = hidden_size if early_layer is None else 2 * hidden_size
        self.early_layer = early_layer
        embeddings: Dinov2Embeddings = model.embeddings
        side = image_size // _side(model.config.patch_size)
        with torch.no_grad():
            # Only the number of positions is looked at: those of the patches and the class token.
            positions: Tensor = embeddings.interpolate_pos_encoding(
                torch.empty(1, side**2 + 1, hidden_size), image_size, image_size
            )
        self.patch_projection: nn.Module = embeddings.patch_embeddings.projection
        self.register_buffer("class_token", embeddings.cls_token.detach() + positions[:, :1])
        self.register_buffer("positions", positions[:, 1:].detach().clone())
        self.layers = _first_layers(model.encoder.layer, feature_layer)
        self.norm = model.layernorm if feature_layer is None else nn.Identity()

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Give `patch_features [N, P, C]`, patches in reading order."""
        hidden = self.embed(pixel_values)
        if self.early_layer is None:
            return self.finish(hidden, 0)
        for layer in self.layers[: self.early_layer]:
            hidden = layer(hidden)
        late = self.finish(hidden, self.early_layer)
        return torch.cat((late, early_features(hidden)), dim=-1)

    def embed(self, pixel_values: Tensor) -> Tensor:
        """Give the hidden states before the first layer, `[N, 1 + P, C]`, class token first."""
        patches = self.patch_projection(pixel_values).flatten(2).transpose(1, 2) + self.positions
        class_token = self.class_token.expand(pixel_values.shape[0], -1, -1)
        return torch.cat((class_token, patches), dim=1)

    def finish(self, hidden: Tensor, done: int) -> Tensor:
        """Run the layers from number `done` on and the final norm: `[N, P, hidden width]`."""
        for layer in self.layers[done:]:
            hidden = layer(hidden)
        return cast(Tensor, self.norm(hidden)[:, 1:])


def early_features(hidden: Tensor) -> Tensor:
    """Normalise hidden states `[N, 1 + P, C]` and drop the class token: `[N, P, C]`."""
    return nn.functional.layer_norm(hidden, hidden.shape[-1:])[:, 1:]


class SiglipPatches(nn.Module):
    """SigLIP without its pooling head, for square tiles of one size.

    Attributes:
        image_size: H and W, pixels.
        width: C, channels of one patch feature.
    """

    positions: Tensor

    def __init__(
        self, model: SiglipVisionModel, image_size: int, feature_layer: int | None = None
    ) -> None:
        """Take the parts of a model; they are shared with it.

        Args:
            model: the backbone.
            image_size: H and W, pixels.
            feature_layer: None takes `last_hidden_state`, after the final layernorm; -1, -2, ...
                take `hidden_states[feature_layer]`, before it.
        """
        super().__init__()
        self.image_size = image_size
        self.width: int = model.config.hidden_size
        side = image_size // _side(model.config.patch_size)
        with torch.no_grad():
            positions = model.embeddings.interpolate_pos_encoding(
                torch.empty(1, side**2, self.width), image_size, image_size
            )
        self.patch_projection = model.embeddings.patch_embedding
        self.register_buffer("positions", positions.detach().clone())
        self.layers = _first_layers(model.encoder.layers, feature_layer)
        self.norm = model.post_layernorm if feature_layer is None else nn.Identity()

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Give `patch_features [N, P, C]`, patches in reading order."""
        hidden = self.patch_projection(pixel_values).flatten(2).transpose(1, 2) + self.positions
        for layer in self.layers:
            hidden = layer(hidden, attention_mask=None)
        return cast(Tensor, self.norm(hidden))


SizedBackbone = Siglip2Blocks | QwenBlocks
"""Those that take tiles of many sizes."""
Backbone = Dinov2Patches | SiglipPatches | InternVitPatches | SizedBackbone
Projector = MlpProjector | PixelShuffleProjector


class TowerWithProjector(nn.Module):
    """What is exported: a backbone and the projector behind it.

    Attributes:
        backbone: pixel values to patch features.
        projector: patch features to image tokens.
        newline: `[D]`, the vector that stands behind each row of image tokens; None: there is none.
        markup: `[M, D]`, embeddings of what stands between tiles; None: nothing does.
    """

    newline: Tensor | None
    markup: Tensor | None

    def __init__(
        self,
        backbone: Backbone,
        projector: Projector,
        newline: Tensor | None = None,
        markup: Tensor | None = None,
    ) -> None:
        super().__init__()
        if backbone.width != projector.vision_width:
            raise UnsupportedModelError(
                f"the backbone's features are {backbone.width} wide, "
                f"the projector takes {projector.vision_width}"
            )
        self.backbone = backbone
        self.projector = projector
        self.register_buffer("newline", newline)
        self.register_buffer("markup", markup)

    def forward(self, pixel_values: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Give `image_tokens [N, S, D]` for `pixel_values [N, 3, H, W]`, then the constants."""
        tokens = cast(Tensor, self.projector(self.backbone(pixel_values)))
        constants = [value for value in (self.newline, self.markup) if value is not None]
        # Copies, since an output of a graph cannot be one of its weights.
        return (tokens, *(value.clone() for value in constants)) if constants else tokens


def load_backbone(
    folder: Path, image_size: int | None = None, feature_layer: int | None = None
) -> Backbone:
    """Load a backbone from a Hugging Face folder.

    Args:
        folder: config.json and safetensors of a Dinov2Model, a SiglipVisionModel, or a SiglipModel,
            whose text half is set aside.
        image_size: H and W, pixels; None: the config's.
        feature_layer: see `Dinov2Patches`.

    Returns:
        The backbone, float32, in evaluation mode.

    Raises:
        UnsupportedModelError: another architecture, or a layer or size it does not have.
        CheckpointError: the folder cannot be used; its children tell why.
    """
    content = read_json(folder / "config.json")
    architectures = content.get("architectures")
    try:
        match architectures:
            case ["Dinov2Model"]:
                return _load_dinov2(folder, content, image_size, feature_layer)
            case ["SiglipVisionModel"] | ["SiglipModel"]:
                settings, tensors = siglip_in_folder(folder)
                return load_siglip(settings, tensors, image_size, feature_layer)
    except (TypeError, ValueError, ZeroDivisionError, StrictDataclassError) as err:
        path = folder / "config.json"
        raise UnreadableCheckpointError(f"{path} describes no such model: {err}") from err
    raise UnsupportedModelError(
        f"architectures {architectures} cannot be exported; "
        "known: Dinov2Model, SiglipVisionModel, SiglipModel"
    )


def _load_dinov2(
    folder: Path, content: dict[str, object], image_size: int | None, feature_layer: int | None
) -> Dinov2Patches:
    config = Dinov2Config.from_dict(content)
    model = Dinov2Model(config)
    open_tensors(folder).part(dinov2_module_name).fill(model)
    return Dinov2Patches(model.eval(), image_size or _side(config.image_size), feature_layer).eval()


def dinov2_module_name(stored: str) -> str:
    """Return what a stored tensor of DINOv2 is called in `Dinov2Model` of transformers 5.

    Files keep the names of transformers 4.
    """
    for old, new in _DINOV2_MODULES.items():
        stored = stored.replace(f".attention.{old}.", f".attention.{new}.")
    return stored


def siglip_in_folder(folder: Path) -> tuple[dict[str, Any], TensorFiles]:
    """Find the vision tower of a SigLIP folder.

    Args:
        folder: config.json and tensors of a SiglipVisionModel, or of a SiglipModel, whose text half
            is set aside.

    Returns:
        Its settings, as `SiglipVisionConfig` takes them, and its tensors; transformers 4 stores
        their names with `vision_model.` before, 5 without.

    Raises:
        UnsupportedModelError: another architecture.
        UnreadableCheckpointError: a file is missing or damaged.
    """
    path = folder / "config.json"
    content = read_json(path)
    tensors = open_tensors(folder)
    match content.get("architectures"):
        case ["SiglipVisionModel"]:
            return content, tensors.part(_of_siglip_vision)
        case ["SiglipModel"]:
            vision = content.get("vision_config", {})
            if not isinstance(vision, dict):
                raise UnreadableCheckpointError(f"{path} has no vision_config")
            return vision, tensors.part(_of_siglip_vision)
    raise UnsupportedModelError(
        f"{path} is of {content.get('architectures')}, not SiglipVisionModel or SiglipModel"
    )


def check_siglip(
    settings: dict[str, Any], tensors: TensorFiles, feature_layer: int | None, source: Path
) -> None:
    """Check that a SigLIP tower has the tensors that its settings ask for; no value is read.

    Args:
        settings: as `SiglipVisionConfig` takes them.
        tensors: of the tower alone.
        feature_layer: see `SiglipPatches`.
        source: where they come from, for messages.

    Raises:
        UnreadableCheckpointError: the settings describe no model.
        MissingTensorError: a tensor is not there.
        UnsupportedModelError: a layer that it does not have.
        LeftoverTensorError: a tensor is there that the model has not.
        TensorShapeError: one has another shape.
    """
    if (channels := settings.get("num_channels", 3)) != 3:
        raise UnsupportedModelError(f"{source} has a tower for {channels!r} channels: expected 3")
    layers = settings.get("num_hidden_layers", 1)
    if not isinstance(layers, int) or layers > MAX_LAYERS:
        raise UnreadableCheckpointError(f"{source} describes no SigLIP tower: {layers!r} layers")
    try:
        with torch.device("meta"):
            model = SiglipVisionModel(SiglipVisionConfig.from_dict(settings))
    except (
        AttributeError,
        RuntimeError,
        StrictDataclassError,
        TypeError,
        ValueError,
        ZeroDivisionError,
    ) as err:
        raise UnreadableCheckpointError(f"{source} describes no SigLIP tower: {err}") from err
    _first_layers(model.encoder.layers, feature_layer)
    state = model.state_dict()
    tensors.require({name: tuple(tensor.shape) for name, tensor in state.items()})


def load_siglip(
    settings: dict[str, Any],
    tensors: TensorFiles,
    image_size: int | None = None,
    feature_layer: int | None = None,
) -> SiglipPatches:
    """Load a SigLIP tower.

    Args:
        settings: as `SiglipVisionConfig` takes them.
        tensors: of the tower alone.
        image_size: H and W, pixels; None: the settings' own.
        feature_layer: see `SiglipPatches`.

    Returns:
        The backbone, float32, in evaluation mode.

    Raises:
        UnsupportedModelError: a layer that it does not have.
        CheckpointError: the tensors do not fit; its children tell why.
    """
    config = SiglipVisionConfig.from_dict(settings)
    with no_init_weights():  # the tensors are all there, and random numbers for them take seconds
        model = SiglipVisionModel(config)
    tensors.fill(model)
    return SiglipPatches(model.eval(), image_size or _side(config.image_size), feature_layer).eval()


def _side(size: int | list[int] | tuple[int, int]) -> int:
    """Return the side of a square, which transformers 5 also takes as height and width."""
    match size:
        case int(side):
            return side
        case (int(height), int(width)) if height == width:
            return height
    raise UnsupportedModelError(f"tiles or patches of {size} pixels: expected squares")


def _of_siglip_vision(name: str) -> str | None:
    of_text = name.startswith("text_model.") or name in ("logit_scale", "logit_bias")
    return None if of_text else name.removeprefix("vision_model.")


def _first_layers(layers: nn.ModuleList, feature_layer: int | None) -> nn.ModuleList:
    if feature_layer is None:
        return layers
    if not -len(layers) <= feature_layer <= -1:
        raise UnsupportedModelError(
            f"feature layer {feature_layer}: expected -{len(layers)} to -1, or none"
        )
    return layers[: len(layers) + feature_layer + 1]
