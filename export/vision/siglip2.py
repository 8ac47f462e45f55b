"""SigLIP 2 (NaFlex) as a torch module for tiles of many sizes.

In: `pixel_values [N, 3, H, W] float32`, H and W whole blocks of patches. Out: `block_features
[N, S, C]`, which are the patches of each block side by side, blocks in reading order.

The position embeddings are resized inside, and so inside the graph: bilinear with antialiasing is
one matrix for rows and one for columns, which follow from H and W by sums, products and a maximum.
They are float32 and written as transformers 5 writes them; transformers 4 calls
`torch.nn.functional.interpolate`, whose weights are the same. The operator Resize of ONNX is not
used: runtimes differ in how they antialias.

Source: `modeling_siglip2.py` and `modeling_lfm2_vl.py` of transformers.
"""

import math
from pathlib import Path
from typing import Any, cast

import torch
from huggingface_hub.errors import StrictDataclassError
from torch import Tensor, nn
from transformers import Siglip2VisionConfig, Siglip2VisionModel
from transformers.initialization import no_init_weights

from edge_et.export.checkpoint.checkpoint_folder import TensorFiles
from edge_et.export.errors import UnreadableCheckpointError

_BEFORE = "vision_model."
_CHANNELS = 3


class Siglip2Blocks(nn.Module):
    """SigLIP 2 without its pooling head, and the pixel unshuffle behind it.

    Attributes:
        image_size: H and W of a tile of a grid, pixels.
        block: side of a block, pixels, of which H and W are multiples.
        width: C, channels of one block's features.
    """

    positions: Tensor

    def __init__(self, model: Siglip2VisionModel, image_size: int, factor: int) -> None:
        """Take the parts of a model; they are shared with it.

        Args:
            model: the backbone.
            image_size: H and W of a tile of a grid, pixels.
            factor: side of a block, patches.
        """
        super().__init__()
        embeddings = model.embeddings
        self.image_size = image_size
        self.factor = factor
        linear = embeddings.patch_embedding
        patch_size = math.isqrt(linear.in_features // _CHANNELS)
        self.block = factor * patch_size
        self.width = factor**2 * linear.out_features
        self.patch_projection = nn.Conv2d(
            _CHANNELS,
            linear.out_features,
            patch_size,
            patch_size,
            device=linear.weight.device,
        )
        # A patch is a row of pixels with their channels together; the convolution has these first.
        patches = linear.weight.detach().unflatten(1, (patch_size, patch_size, _CHANNELS))
        self.patch_projection.weight = nn.Parameter(patches.permute(0, 3, 1, 2).contiguous())
        self.patch_projection.bias = linear.bias
        side = embeddings.position_embedding_size
        positions = embeddings.position_embedding.weight.detach().unflatten(0, (side, side))
        self.register_buffer("positions", positions.clone())
        self.layers = model.encoder.layers
        self.norm = model.post_layernorm

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Give `block_features [N, S, C]`, S = H * W / block**2."""
        patches = self.patch_projection(pixel_values)
        rows, columns = patches.shape[2:]
        hidden = (patches.permute(0, 2, 3, 1) + self.resized_positions(rows, columns)).flatten(1, 2)
        for layer in self.layers:
            hidden = layer(hidden, attention_mask=None)
        hidden = self.norm(hidden)
        factor = self.factor
        blocks = hidden.unflatten(1, (rows // factor, factor, columns // factor, factor))
        return cast(Tensor, blocks.permute(0, 1, 3, 2, 4, 5).flatten(3).flatten(1, 2))

    def resized_positions(self, rows: int, columns: int) -> Tensor:
        """Return the position embeddings of a map of patches, `[rows, columns, width]`."""
        side = self.positions.shape[0]
        across = torch.einsum("ys,stc->ytc", resize_weights(side, rows), self.positions)
        return torch.einsum("xt,ytc->yxc", resize_weights(side, columns), across)


def resize_weights(before: int, after: int) -> Tensor:
    """Return how a bilinear resize with antialiasing weighs its inputs along one axis.

    Args:
        before: values along the axis.
        after: values of the result.

    Returns:
        `[after, before] float32`, rows that sum to one.
    """
    scale = torch.tensor(float(before)) / after
    support = scale.clamp(min=1)
    centres = (torch.arange(after, dtype=torch.float32) + 0.5) * scale - 0.5
    places = torch.arange(before, dtype=torch.float32)
    weights = (1 - (places - centres[:, None]).abs() / support).clamp(min=0)
    return weights / weights.sum(-1, keepdim=True)


def check_siglip2(settings: dict[str, Any], tensors: TensorFiles, source: Path) -> None:
    """Check that a tower has the tensors that its settings ask for; no value is read.

    Args:
        settings: as `Siglip2VisionConfig` takes them.
        tensors: of the tower alone.
        source: where they come from, for messages.

    Raises:
        UnreadableCheckpointError: the settings describe no model.
        MissingTensorError: a tensor is not there.
        LeftoverTensorError: a tensor is there that the model has not.
        TensorShapeError: one has another shape.
    """
    try:
        with torch.device("meta"):
            model = _new_model(settings)
    except (
        AttributeError,
        KeyError,
        RuntimeError,
        StrictDataclassError,
        TypeError,
        ValueError,
        ZeroDivisionError,
    ) as err:
        raise UnreadableCheckpointError(f"{source} describes no SigLIP 2 tower: {err}") from err
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    tensors.part(_module_name).require(shapes)


def load_siglip2(
    settings: dict[str, Any], tensors: TensorFiles, image_size: int, factor: int
) -> Siglip2Blocks:
    """Load a tower that `check_siglip2` has checked.

    Args:
        settings: as `Siglip2VisionConfig` takes them.
        tensors: of the tower alone.
        image_size: H and W of a tile of a grid, pixels.
        factor: side of a block, patches.

    Returns:
        The backbone, float32, in evaluation mode.

    Raises:
        TensorValueError: a value is NaN or infinite.
    """
    with no_init_weights():  # the tensors are all there, and random numbers for them take seconds
        model = _new_model(settings)
    tensors.part(_module_name).fill(model)
    return Siglip2Blocks(model.eval(), image_size, factor).eval()


def _new_model(settings: dict[str, Any]) -> Siglip2VisionModel:
    """Make a tower without a pooling head."""
    return Siglip2VisionModel(Siglip2VisionConfig.from_dict(settings | {"vision_use_head": False}))


def _module_name(stored: str) -> str | None:
    """Return what a stored tensor is called in transformers 5; 4 puts `vision_model.` before.

    A pooling head, which some configs ask for, is nobody's input: None.
    """
    name = stored.removeprefix(_BEFORE)
    return None if name.startswith("head.") else name
