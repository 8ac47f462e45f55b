"""How a picture becomes the pixel values of its tiles."""

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta, Struct

from edge_et.bundle.tiling_spec import Tiling

_MAX_GRID_PIXELS: Final = 2**27  # as a picture in memory: 0.5 GB


class WholeSize(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The tile of the whole picture has nearly its shape, and an area within bounds.

    Its sides are whole blocks, of which each becomes one image token.

    Source: `smart_resize` of `image_processing_lfm2_vl.py` of transformers, and of
    `image_processing_qwen2_vl.py`, whose `least_blocks` are 0.
    """

    block: Annotated[int, Meta(ge=2, le=8192, description="Side of a block, pixels; even.")]
    min_tokens: Annotated[
        int, Meta(ge=1, le=2**16, description="Image tokens that smaller pictures are enlarged to.")
    ]
    max_tokens: Annotated[
        int, Meta(ge=1, le=2**16, description="Most image tokens, and most blocks of a side.")
    ]
    least_blocks: Annotated[
        Literal[0, 1],
        Meta(
            description="Blocks of a side that is nearer to none; 0: the picture counts as one of "
            "too few tokens, and is enlarged."
        ),
    ] = 1

    def __post_init__(self) -> None:
        if self.block % 2:
            raise ValueError(f"`block` {self.block} is odd")
        if self.min_tokens > self.max_tokens:
            raise ValueError("`min_tokens` is larger than `max_tokens`")

    @property
    def most_tokens(self) -> int:
        """A bound on the image tokens: sides are rounded up where a picture is enlarged."""
        return max(self.max_tokens, 2 * self.min_tokens + 1)


class Processing(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How a picture becomes the pixel values of its tiles."""

    height: Annotated[int, Meta(ge=1, le=8192, description="Height H of a tile, pixels.")]
    width: Annotated[int, Meta(ge=1, le=8192, description="Width W of a tile, pixels.")]
    mean: Annotated[
        tuple[float, float, float],
        Meta(description="Subtracted from the rescaled red, green and blue values."),
    ]
    std: Annotated[
        tuple[
            Annotated[float, Meta(gt=0)], Annotated[float, Meta(gt=0)], Annotated[float, Meta(gt=0)]
        ],
        Meta(description="What the difference is divided by, one for red, green and blue."),
    ]
    rescale: Annotated[float, Meta(gt=0, description="Factor from 0..255, most often 1/255.")]
    resample: Annotated[
        Literal["bilinear", "bicubic", "lanczos"],
        Meta(description="Filter of the resizing; all three widen their support when shrinking."),
    ]
    fit: Annotated[
        Literal["squash", "pad", "expand", "crop"],
        Meta(description="What happens to a picture of another shape than the tile."),
    ]
    pad_color: Annotated[
        tuple[
            Annotated[int, Meta(ge=0, le=255)],
            Annotated[int, Meta(ge=0, le=255)],
            Annotated[int, Meta(ge=0, le=255)],
        ],
        Meta(description="Red, green and blue of borders, 0..255."),
    ] = (0, 0, 0)
    tiling: Annotated[Tiling | None, Meta(description="null: one tile a picture.")] = None
    whole_size: Annotated[
        WholeSize | None,
        Meta(description="How large the tile of the whole picture is; null: W by H."),
    ] = None

    @property
    def most_tile_pixels(self) -> int:
        """A bound on the area of a tile."""
        if self.whole_size is None:
            return self.height * self.width
        return max(self.height * self.width, self.whole_size.most_tokens * self.whole_size.block**2)

    @property
    def of_one_size(self) -> "Processing":
        """The rules for tiles of W by H alone, which a tower for tiles of many sizes takes too."""
        if self.whole_size is None:
            return self
        tiling = self.tiling
        if tiling is not None:
            tiling = msgspec.structs.replace(tiling, over_pixels=None)
        return msgspec.structs.replace(self, whole_size=None, tiling=tiling)

    def __post_init__(self) -> None:
        if self.whole_size is not None:
            self._check_whole_size(self.whole_size)
        elif self.tiling is not None and self.tiling.over_pixels is not None:
            raise ValueError("`tiling.over_pixels` needs `whole_size`, to whose blocks it rounds")
        if self.tiling is None:
            return
        if self.fit != "squash":
            raise ValueError(f'`tiling` squashes the tile of the whole picture, not "{self.fit}"')
        tiles = max(columns * rows for columns, rows in self.tiling.possible_grids)
        if tiles * self.height * self.width > _MAX_GRID_PIXELS:
            raise ValueError(f"a grid of {tiles} tiles has more than {_MAX_GRID_PIXELS} pixels")

    def _check_whole_size(self, size: WholeSize) -> None:
        if self.fit != "squash":
            raise ValueError(f'`whole_size` is for the fit "squash", not "{self.fit}"')
        if self.height % size.block or self.width % size.block:
            raise ValueError(f"tiles of {self.width} x {self.height} are no blocks of {size.block}")
        if self.tiling is not None and self.tiling.rule == "edge":
            raise ValueError('`whole_size` and the rule "edge" exclude each other')
        if self.most_tile_pixels > _MAX_GRID_PIXELS:
            raise ValueError(f"a tile may have more than {_MAX_GRID_PIXELS} pixels")
