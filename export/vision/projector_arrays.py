"""Projectors as arrays: what numpy computes of them, without torch.

In: patch_features [N,P,C] float32. Out: image_tokens [N,S,D]. It is `projector.MlpProjector`.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_et.export.errors import AssemblyError


@dataclass(frozen=True, slots=True, eq=False)
class Linear:
    """One linear of a projector, as torch stores it.

    Attributes:
        weight: [width out, width in] float32.
        bias: [width out] float32; None: it has none.
    """

    weight: NDArray[np.float32]
    bias: NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class ProjectorArrays:
    """The projectors of LLaVA and Idefics3, with GELU (exact, by erf) between their linears.

    Attributes:
        linears: at least one.
        factor: side of the block of patches that becomes one image token, in the order that
            `projector.py` tells; 1: each patch by itself.
    """

    linears: tuple[Linear, ...]
    factor: int = 1

    @property
    def vision_width(self) -> int:
        """C, channels of a patch."""
        return int(self.linears[0].weight.shape[1]) // self.factor**2

    def check(self, image_tokens: int, embedding_width: int) -> None:
        """Check that the arrays fit one another and the tiles.

        Args:
            image_tokens: S, image tokens of a tile.
            embedding_width: D.

        Raises:
            AssemblyError: they do not.
        """
        if not self.linears:
            raise AssemblyError("the projector has no linears")
        width = self.vision_width * self.factor**2
        for index, linear in enumerate(self.linears):
            shape = list(linear.weight.shape)
            if len(shape) != 2 or shape[1] != width:
                raise AssemblyError(
                    f"linear {index} of the projector is {shape}, expected [any, {width}]"
                )
            width = shape[0]
            if linear.bias is not None and linear.bias.shape != (width,):
                raise AssemblyError(
                    f"the bias of the projector's linear {index} is {list(linear.bias.shape)}, "
                    f"expected [{width}]"
                )
        if width != embedding_width:
            raise AssemblyError(
                f"the projector makes vectors of {width} values, and the language model takes "
                f"{embedding_width}"
            )
        if self.factor > 1 and math.isqrt(image_tokens) ** 2 != image_tokens:
            raise AssemblyError(
                f"{image_tokens} image tokens are no square, as blocks of {self.factor} x "
                f"{self.factor} patches make"
            )

    def project(self, patch_features: NDArray[np.float32]) -> NDArray[np.float64]:
        """Project the patches of square tiles.

        Args:
            patch_features: [N,P,C] float32, P a multiple of factor^2.

        Returns:
            [N,S,D] float64.
        """
        hidden = patch_features.astype(np.float64)
        if (factor := self.factor) > 1:
            count, patches, width = hidden.shape
            side = math.isqrt(patches) // factor
            blocks = hidden.reshape(count, side, factor, side, factor, width)
            hidden = blocks.transpose(0, 1, 3, 2, 4, 5).reshape(count, side**2, factor**2 * width)
        for index, linear in enumerate(self.linears):
            if index:
                hidden = 0.5 * hidden * (1 + _erf(hidden / math.sqrt(2)))
            hidden = hidden @ linear.weight.astype(np.float64).T
            if linear.bias is not None:
                hidden += linear.bias
        return hidden


def _erf(values: NDArray[np.float64]) -> NDArray[np.float64]:
    made = np.fromiter(map(math.erf, values.ravel()), np.float64, values.size)
    return made.reshape(values.shape)
