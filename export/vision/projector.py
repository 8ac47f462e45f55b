"""Projectors: patch features of a vision backbone to image tokens of a language model.

In: `patch_features [N, P, C] float32`, P patches of a square grid in reading order, without a
class token. Out: `image_tokens [N, S, D] float32`; S is P, or P / factor**2 after a pixel shuffle.
Imports torch alone, so that training and export use one and the same module.

Channel order of a pixel shuffle: one image token is made of the `factor * factor` patches of one
block. Tokens follow the blocks in reading order; inside a token, the patches of the block follow
each other in reading order, each with its C channels together. With `factor = 2`:

    token = [top left | top right | bottom left | bottom right], 4 * C channels
"""

import math
from typing import cast

import torch
from torch import Tensor, nn


def pixel_shuffle(features: Tensor, grid: tuple[int, int], factor: int) -> Tensor:
    """Join each block of `factor x factor` neighbouring patches into one wider token.

    Args:
        features: `[N, rows * columns, C]`, patches in reading order.
        grid: rows and columns of the patch grid; both are multiples of `factor`.
        factor: side of a block, in patches.

    Returns:
        `[N, rows * columns / factor**2, factor**2 * C]`, in the order told above.

    Raises:
        ValueError: the grid does not hold the patches, or blocks do not tile the grid.
    """
    rows, columns = grid
    count, patches, width = features.shape
    if rows * columns != patches:
        raise ValueError(f"a grid of {rows} x {columns} does not hold {patches} patches")
    if rows % factor or columns % factor:
        raise ValueError(f"blocks of {factor} x {factor} do not tile {rows} x {columns} patches")
    blocks = features.reshape(count, rows // factor, factor, columns // factor, factor, width)
    blocks = blocks.permute(0, 1, 3, 2, 4, 5)
    return blocks.reshape(count, patches // factor**2, factor**2 * width)


def square_blocks(features: Tensor, factor: int) -> Tensor:
    """Shuffle the patches of square tiles; see `pixel_shuffle`."""
    if factor == 1:
        return features
    patches = features.shape[1]
    side = math.isqrt(patches)
    if side * side != patches:
        raise ValueError(f"{patches} patches are not a square grid")
    return pixel_shuffle(features, (side, side), factor)


class MlpProjector(nn.Sequential):
    """Linears with GELU (exact, by erf) between them: the projectors of LLaVA and Idefics3.

    Attributes:
        vision_width: C, channels of one patch feature.
        factor: side of the block of patches that becomes one image token; 1: each by itself.
    """

    def __init__(
        self,
        vision_width: int,
        llm_width: int,
        *,
        layers: int = 2,
        bias: bool = True,
        factor: int = 1,
    ) -> None:
        """Make it with random weights.

        Args:
            vision_width: C.
            llm_width: D, embedding width of the language model.
            layers: number of linears; all but the first are D x D.
            bias: whether they have biases.
            factor: side of the block of patches that becomes one image token.
        """
        modules: list[nn.Module] = [nn.Linear(factor**2 * vision_width, llm_width, bias)]
        for _ in range(layers - 1):
            modules += [nn.GELU(approximate="none"), nn.Linear(llm_width, llm_width, bias)]
        super().__init__(*modules)
        self.vision_width = vision_width
        self.factor = factor

    def forward(self, patch_features: Tensor) -> Tensor:
        """Project the patches of square tiles; see `PixelShuffleProjector.forward`."""
        return cast(Tensor, super().forward(square_blocks(patch_features, self.factor)))


class PixelShuffleProjector(nn.Module):
    """Pixel shuffle, then LayerNorm, Linear, GELU (exact, by erf), Linear, and a code of the place.

    LFM2-VL leaves out the LayerNorm, or the biases of the linears, where its config says so.

    Attributes:
        vision_width: C, channels of one patch feature.
        factor: side of the block of patches that becomes one image token.
        hidden: width between the two linears.
        llm_width: D, embedding width of the language model.
        places: S, image tokens of a tile, each of which gets a learned vector added that tells its
            place; 0 for none.
    """

    def __init__(
        self,
        vision_width: int = 384,
        factor: int = 2,
        hidden: int = 1024,
        llm_width: int = 576,
        places: int = 0,
        *,
        norm: bool = True,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.vision_width = vision_width
        self.factor = factor
        self.hidden = hidden
        self.llm_width = llm_width
        shuffled_width = factor**2 * vision_width
        self.norm = nn.LayerNorm(shuffled_width, eps=1e-5) if norm else nn.Identity()
        self.expand = nn.Linear(shuffled_width, hidden, bias)
        self.activation = nn.GELU(approximate="none")
        self.project = nn.Linear(hidden, llm_width, bias)
        self.places = places
        if places:
            self.place_codes = nn.Parameter(torch.zeros(places, llm_width))

    def forward(self, patch_features: Tensor) -> Tensor:
        """Project the patches of square tiles.

        Args:
            patch_features: `[N, P, C] float32`, P a square number.

        Returns:
            `[N, P / factor**2, D] float32`.

        Raises:
            ValueError: P is not a square, or blocks do not tile the grid.
        """
        blocks = square_blocks(patch_features, self.factor)
        hidden = self.activation(self.expand(self.norm(blocks)))
        tokens = self.project(hidden)
        return cast(Tensor, tokens + self.place_codes if self.places else tokens)
