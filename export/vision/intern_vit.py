"""InternViT as a torch module of one fixed tile size, from the tensors of either layout.

In: `pixel_values [N, 3, H, W] float32`. Out: `patch_features [N, P, C]`. transformers' layers
compute it; the original code calls its tensors otherwise, and has one matrix for queries, keys and
values.

Source: `modeling_internvl.py` of transformers, `modeling_intern_vit.py` of OpenGVLab/InternVL.
"""

import re
from pathlib import Path
from typing import Any, cast

import torch
from huggingface_hub.errors import StrictDataclassError
from torch import Tensor, nn
from transformers import InternVLVisionConfig, InternVLVisionModel
from transformers.initialization import no_init_weights

from edge_et.export.checkpoint.checkpoint_folder import TensorFiles
from edge_et.export.errors import UnreadableCheckpointError

_NAMES = {
    r"embeddings\.class_embedding": "embeddings.cls_token",
    r"embeddings\.position_embedding": "embeddings.position_embeddings",
    r"embeddings\.patch_embedding\.(.+)": r"embeddings.patch_embeddings.projection.\1",
    r"encoder\.layers\.(\d+)\.attn\.proj\.(.+)": (
        r"encoder.layer.\1.attention.projection_layer.\2"
    ),
    r"encoder\.layers\.(\d+)\.attn\.(.+)": r"encoder.layer.\1.attention.\2",
    r"encoder\.layers\.(\d+)\.norm1\.(.+)": r"encoder.layer.\1.layernorm_before.\2",
    r"encoder\.layers\.(\d+)\.norm2\.(.+)": r"encoder.layer.\1.layernorm_after.\2",
    r"encoder\.layers\.(\d+)\.ls([12])": r"encoder.layer.\1.lambda_\2",
    r"encoder\.layers\.(\d+)\.mlp\.(.+)": r"encoder.layer.\1.mlp.\2",
}
"""What the original code calls a tensor, and what transformers does."""

_ONE_OF_THREE = re.compile(r"(.+\.attention)\.([qkv])_proj\.(.+)")


class InternVitPatches(nn.Module):
    """InternViT without its class token, for square tiles of one size.

    Attributes:
        image_size: H and W, pixels.
        width: C, channels of one patch feature.
    """

    class_token: Tensor
    positions: Tensor

    def __init__(self, model: InternVLVisionModel, image_size: int) -> None:
        """Take the parts of a model; they are shared with it.

        Args:
            model: the backbone.
            image_size: H and W, pixels, for which its position embeddings are.
        """
        super().__init__()
        self.image_size = image_size
        self.width: int = model.config.hidden_size
        embeddings = model.embeddings
        positions = embeddings.position_embeddings.detach()
        self.patch_projection = embeddings.patch_embeddings.projection
        self.register_buffer("class_token", embeddings.cls_token.detach() + positions[:, :1])
        self.register_buffer("positions", positions[:, 1:].clone())
        self.layers = model.encoder.layer

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Give `patch_features [N, P, C]`, patches in reading order."""
        patches = self.patch_projection(pixel_values).flatten(2).transpose(1, 2) + self.positions
        class_token = self.class_token.expand(pixel_values.shape[0], -1, -1)
        hidden = torch.cat((class_token, patches), dim=1)
        for layer in self.layers:
            hidden = layer(hidden)
        return cast(Tensor, hidden[:, 1:])


def check_intern_vit(settings: dict[str, Any], tensors: TensorFiles, source: Path) -> None:
    """Check that a tower has the tensors that its settings ask for; no value is read.

    Args:
        settings: as `InternVLVisionConfig` takes them.
        tensors: of the tower alone, in either layout.
        source: where they come from, for messages.

    Raises:
        UnreadableCheckpointError: the settings describe no model.
        MissingTensorError: a tensor is not there.
        LeftoverTensorError: a tensor is there that the model has not.
        TensorShapeError: one has another shape.
    """
    try:
        with torch.device("meta"):
            model = InternVLVisionModel(InternVLVisionConfig.from_dict(settings))
    except (
        AttributeError,
        KeyError,
        RuntimeError,
        StrictDataclassError,
        TypeError,
        ValueError,
        ZeroDivisionError,
    ) as err:
        raise UnreadableCheckpointError(f"{source} describes no InternViT: {err}") from err
    tensors = tensors.part(_module_name)
    joined = _is_joined(tensors)
    shapes: dict[str, tuple[int, ...]] = {}
    for name, tensor in model.state_dict().items():
        stored, part = _stored_place(name, joined=joined)
        rows, *others = tensor.shape
        shapes[stored] = (rows if part is None else 3 * rows, *others)
    tensors.require(shapes)


def load_intern_vit(settings: dict[str, Any], tensors: TensorFiles) -> InternVitPatches:
    """Load a tower that `check_intern_vit` has checked.

    Args:
        settings: as `InternVLVisionConfig` takes them, `image_size` as one number.
        tensors: of the tower alone, in either layout.

    Returns:
        The backbone, float32, in evaluation mode.

    Raises:
        TensorValueError: a value is NaN or infinite.
    """
    with no_init_weights():  # the tensors are all there, and random numbers for them take seconds
        model = InternVLVisionModel(InternVLVisionConfig.from_dict(settings))
    tensors = tensors.part(_module_name)
    joined = _is_joined(tensors)
    read: dict[str, Tensor] = {}
    for name, tensor in model.state_dict().items():
        stored, part = _stored_place(name, joined=joined)
        if part is None:
            tensor.copy_(torch.from_numpy(tensors.read(stored)))
            continue
        if part == 0:  # queries come first, and the keys and values are read with them
            read[stored] = torch.from_numpy(tensors.read(stored))
        tensor.copy_(read[stored].chunk(3)[part])
        if part == 2:
            del read[stored]
    return InternVitPatches(model.eval(), settings["image_size"]).eval()


def _module_name(stored: str) -> str:
    """Return what a stored tensor is called in transformers, but for the joined matrices."""
    for pattern, name in _NAMES.items():
        if match := re.fullmatch(pattern, stored):
            return match.expand(name)
    return stored


def _is_joined(tensors: TensorFiles) -> bool:
    return any(".attention.qkv." in name for name in tensors.names)


def _stored_place(name: str, *, joined: bool) -> tuple[str, int | None]:
    """Return the stored name of a parameter, and which third of the rows it is; None: all."""
    match = _ONE_OF_THREE.fullmatch(name)
    if not joined or match is None:
        return name, None
    return f"{match[1]}.qkv.{match[3]}", "qkv".index(match[2])
