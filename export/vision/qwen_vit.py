"""The vision tower of Qwen3.5 as a torch module for tiles of many sizes.

In: `pixel_values [N, 3, H, W] float32`, H and W whole blocks of patches. Out: `block_features
[N, S, C]`, which are the patches of each block side by side, blocks in reading order.

The checkpoint reads a picture as a film of equal frames: its convolution over time and place is one
over places alone, with the sum of its weights along time. Position embeddings are resized inside,
and so inside the graph: bilinear with corners aligned is one matrix for rows and one for columns.
Heads attend one after another, so that of a large tile the weights of one are in memory, not those
of all.

Source: `modeling_qwen3_5.py` and `vision_utils.py` of transformers.
"""

from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers.activations import ACT2FN
from transformers.initialization import no_init_weights

from edge_et.export.checkpoint.checkpoint_folder import TensorFiles
from edge_et.export.errors import UnreadableCheckpointError

_CHANNELS = 3
_NORM_EPS = 1e-6


class QwenBlocks(nn.Module):
    """The tower up to the norm of its merger, and the patches of each block side by side.

    Modules have the names of the checkpoint.

    Attributes:
        image_size: H and W of a square tile to try it on, pixels.
        block: side of a block, pixels, of which H and W are multiples.
        width: C, channels of one block's features.
    """

    frequencies: Tensor

    def __init__(self, settings: dict[str, Any], image_size: int) -> None:
        """Make it with random weights.

        Args:
            settings: the keys of vision_config, and `rope_theta`.
            image_size: H and W of a square tile to try it on, pixels.
        """
        super().__init__()
        width, heads = settings["hidden_size"], settings["num_heads"]
        self.image_size = image_size
        self.factor: int = settings["spatial_merge_size"]
        self.block = self.factor * settings["patch_size"]
        self.width = self.factor**2 * width
        self.patch_embed = _PatchEmbedding(settings)
        self.pos_embed = nn.Embedding(settings["num_position_embeddings"], width)
        self.blocks = nn.ModuleList(_Layer(settings) for _ in range(settings["depth"]))
        self.norm = nn.LayerNorm(width, _NORM_EPS)
        each = width // heads // 2  # channels of a head that tell the row; as many, the column
        powers = torch.arange(0, each, 2, dtype=torch.float32, device="cpu") / each
        self.register_buffer("frequencies", settings["rope_theta"] ** -powers, persistent=False)

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Give `block_features [N, S, C]`, S = H * W / block**2."""
        patches = self.patch_embed(pixel_values)
        rows, columns = patches.shape[2:]
        hidden = (patches.permute(0, 2, 3, 1) + self.resized_positions(rows, columns)).flatten(1, 2)
        angles = self._angles(rows, columns)
        turn = angles.cos(), angles.sin()
        for layer in self.blocks:
            hidden = layer(hidden, turn)
        factor = self.factor
        blocks = self.norm(hidden).unflatten(1, (rows // factor, factor, columns // factor, factor))
        return cast(Tensor, blocks.permute(0, 1, 3, 2, 4, 5).flatten(3).flatten(1, 2))

    def resized_positions(self, rows: int, columns: int) -> Tensor:
        """Return the position embeddings of a map of patches, `[rows, columns, width]`."""
        side = round(self.pos_embed.num_embeddings**0.5)
        positions = self.pos_embed.weight.unflatten(0, (side, side))
        across = torch.einsum("ys,stc->ytc", aligned_weights(side, rows), positions)
        return torch.einsum("xt,ytc->yxc", aligned_weights(side, columns), across)

    def _angles(self, rows: int, columns: int) -> Tensor:
        """Return by how much the channels of a head are turned, `[rows * columns, width]`."""
        down = torch.arange(rows, dtype=torch.float32)[:, None, None] * self.frequencies
        along = torch.arange(columns, dtype=torch.float32)[None, :, None] * self.frequencies
        half = torch.cat((down.expand(-1, columns, -1), along.expand(rows, -1, -1)), dim=-1)
        return torch.cat((half, half), dim=-1).flatten(0, 1)


class _PatchEmbedding(nn.Module):
    """A convolution over films, as the checkpoint has it, until it is folded."""

    def __init__(self, settings: dict[str, Any]) -> None:
        super().__init__()
        patch = settings["patch_size"]
        size = (settings["temporal_patch_size"], patch, patch)
        self.proj: nn.Conv3d | nn.Conv2d = nn.Conv3d(_CHANNELS, settings["hidden_size"], size, size)

    def fold(self) -> None:
        """Take pictures from here on, each of which stands for a film of equal frames."""
        film = self.proj
        kernel = film.weight.detach().sum(2)
        size = kernel.shape[-1]
        still = nn.Conv2d(_CHANNELS, len(kernel), size, size)
        still.weight, still.bias = nn.Parameter(kernel), film.bias
        self.proj = still

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Give patches [N, width, rows, columns]; once it is folded."""
        return self.proj(pixel_values)


class _Layer(nn.Module):
    def __init__(self, settings: dict[str, Any]) -> None:
        super().__init__()
        width = settings["hidden_size"]
        self.norm1 = nn.LayerNorm(width, _NORM_EPS)
        self.norm2 = nn.LayerNorm(width, _NORM_EPS)
        self.attn = _Attention(width, settings["num_heads"])
        self.mlp = _FeedForward(width, settings["intermediate_size"], settings["hidden_act"])

    def forward(self, hidden: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
        hidden = hidden + self.attn(self.norm1(hidden), turn)
        return cast(Tensor, hidden + self.mlp(self.norm2(hidden)))


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.scale = (width // heads) ** -0.5
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, hidden: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
        three = self.qkv(hidden).unflatten(2, (3, self.heads, -1)).permute(2, 3, 0, 1, 4)
        queries, keys = (_turned(each, *turn) for each in three[:2].unbind(0))
        queries = queries * self.scale
        made = [
            (query @ key.transpose(1, 2)).softmax(-1) @ value
            for query, key, value in zip(
                queries.unbind(0), keys.unbind(0), three[2].unbind(0), strict=True
            )
        ]
        return cast(Tensor, self.proj(torch.cat(made, dim=-1)))


class _FeedForward(nn.Module):
    def __init__(self, width: int, inner: int, activation: str) -> None:
        super().__init__()
        self.linear_fc1 = nn.Linear(width, inner)
        self.linear_fc2 = nn.Linear(inner, width)
        self.activation = ACT2FN[activation]

    def forward(self, hidden: Tensor) -> Tensor:
        return cast(Tensor, self.linear_fc2(self.activation(self.linear_fc1(hidden))))


def aligned_weights(before: int, after: int) -> Tensor:
    """Return how a bilinear resize with aligned corners weighs its inputs along one axis.

    Args:
        before: values along the axis.
        after: values of the result.

    Returns:
        `[after, before] float32`, rows that sum to one.
    """
    steps = torch.arange(after, dtype=torch.float32)
    sources = steps * (before - 1) / steps[-1:].clamp(min=1)
    places = torch.arange(before, dtype=torch.float32)
    return (1 - (places - sources[:, None]).abs()).clamp(min=0)


def check_qwen_vit(settings: dict[str, Any], tensors: TensorFiles, source: Path) -> None:
    """Check that a tower has the tensors that its settings ask for; no value is read.

    Args:
        settings: as for `QwenBlocks`.
        tensors: of the tower and the norm of its merger.
        source: where they come from, for messages.

    Raises:
        UnreadableCheckpointError: the settings describe no model.
        MissingTensorError: a tensor is not there.
        LeftoverTensorError: a tensor is there that the model has not.
        TensorShapeError: one has another shape.
    """
    try:
        with torch.device("meta"):
            model = QwenBlocks(settings, 1)
    except (KeyError, RuntimeError, TypeError, ValueError, ZeroDivisionError) as err:
        raise UnreadableCheckpointError(f"{source} describes no tower of Qwen3.5: {err}") from err
    tensors.require({name: tuple(tensor.shape) for name, tensor in model.state_dict().items()})


def load_qwen_vit(settings: dict[str, Any], tensors: TensorFiles, image_size: int) -> QwenBlocks:
    """Load a tower that `check_qwen_vit` has checked.

    Args:
        settings: as for `QwenBlocks`.
        tensors: of the tower and the norm of its merger.
        image_size: H and W of a square tile to try it on, pixels.

    Returns:
        The backbone, float32, in evaluation mode.

    Raises:
        TensorValueError: a value is NaN or infinite.
    """
    with no_init_weights():  # the tensors are all there, and random numbers for them take seconds
        model = QwenBlocks(settings, image_size)
    tensors.fill(model)
    model.patch_embed.fold()
    return model.eval()


def _turned(vectors: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """Turn each pair of channels of `[heads, N, S, width]`, half the width apart."""
    first, second = vectors.chunk(2, dim=-1)
    return vectors * cosines + torch.cat((-second, first), dim=-1) * sines
