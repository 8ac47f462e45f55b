"""What the families of vision-language models put around a tower, as bundles say it.

In: the kind of a projector. Out: how a picture is cut, what stands between its tiles, and how a
conversation is written. Dimensions are not known here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Literal

from edge_et.benchmarks.synthetic.synthetic_tokenizer import BLANK_LINE, SPECIAL
from edge_et.bundle import ChatSpec, MarkupSpec, RoleNames, Tiling

IMAGE_START, IMAGE_END = "<img>", "</img>"
"""What InternVL has around a picture; llama.cpp puts them there itself."""

_CHAT = ChatSpec(
    turn_start="<|im_start|>{role}\n",
    turn_end="<|im_end|>\n",
    system="You are a helpful assistant.",
    stop_tokens=SPECIAL[::2],
)

_EDGE_TILES = 4
_MOST_TILES = 12  # of InternVL's grid: max_dynamic_patch
_TURN_END = "<end_of_utterance>"
_AROUND, _WHOLE = "<fake_token_around_image>", "<global-img>"
_TILES = tuple(
    f"<row_{row}_col_{column}>"
    for row in range(1, _EDGE_TILES + 1)
    for column in range(1, _EDGE_TILES + 1)
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """A family's rules.

    Attributes:
        chat: the turns.
        picture: what stands for a picture at the beginning of a turn.
        resample: how pictures are resized.
        mean: of the channels.
        std: of the channels.
        tiling: how a picture is cut; None: it is one tile.
        markup: tokens between the tiles; None: there are none.
        marks: special tokens of the tokenizer, beside those that all have.
        first: what the tokenizer merges before all else.
        whole_tokens: fewest and most image tokens of a tile of the picture's shape; None: tiles are
            of one size.
        least_blocks: fewest blocks of a side of that tile, see `WholeSize`.
        places: whether a tile's tokens stand in a line or in rows and columns.
    """

    chat: ChatSpec = _CHAT
    picture: str = "{image}\n"
    resample: Literal["bilinear", "bicubic", "lanczos"] = "bicubic"
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)
    tiling: Tiling | None = None
    markup: MarkupSpec | None = None
    marks: tuple[str, ...] = ()
    first: Sequence[tuple[str, str]] = ()
    whole_tokens: tuple[int, int] | None = None
    least_blocks: Literal[0, 1] = 1
    places: Literal["line", "grid"] = "line"

    @property
    def edge_tiles(self) -> int:
        """Tiles along the longest edge of a picture, 1 where it is no rule."""
        return 1 if self.tiling is None else self.tiling.edge_tiles or 1


def _ratio_grids(least: int, most: int) -> tuple[tuple[int, int], ...]:
    """Return columns and rows of all grids of so many tiles, fewest tiles first.

    Source: `get_all_supported_aspect_ratios` of transformers' GOT-OCR2, which InternVL uses, and
    `_target_ratios` of its LFM2-VL.
    """
    sides = range(1, most + 1)
    grids = [(columns, rows) for columns in sides for rows in sides]
    return tuple(sorted((grid for grid in grids if least <= prod(grid) <= most), key=prod))


_LFM2_BLOCK, _LFM2_TOKENS = 32, (64, 256)
_LFM2_GRIDS = _ratio_grids(2, 10)
_LFM2_START, _LFM2_END, _LFM2_WHOLE = "<|image_start|>", "<|image_end|>", "<|img_thumbnail|>"
_LFM2_TILE = "<|img_row_{row}_col_{column}|>"
_LFM2_MARKS = (
    _LFM2_START,
    _LFM2_END,
    _LFM2_WHOLE,
    *(_LFM2_TILE.format(row=row, column=column) for column, row in ((1, 1), *_LFM2_GRIDS)),
)
_LFM2_BEGIN = "<|startoftext|>"


LAYOUTS = {
    "mlp": Layout(),
    # preprocessor_config.json and chat_template of HuggingFaceTB/SmolVLM2-500M-Video-Instruct, and
    # `processing_smolvlm.py` of transformers.
    "idefics3": Layout(
        chat=ChatSpec(
            start="<|im_start|>",
            turn_start="{role}:",
            roles=RoleNames(system="System", user="User", assistant="Assistant"),
            before_text=" ",
            turn_end=f"{_TURN_END}\n",
            system=None,
            stop_tokens=(_TURN_END, SPECIAL[0]),
        ),
        picture="{image}",
        resample="lanczos",
        tiling=Tiling(rule="edge", edge_tiles=_EDGE_TILES, whole="last"),
        markup=MarkupSpec(
            tokens=(_AROUND, _WHOLE, "\n", "\n\n", *_TILES),
            tile=(_AROUND, "<row_{row}_col_{column}>"),
            row_end=("\n",),
            grid_end=("\n\n",),
            whole=(_AROUND, _WHOLE),
            end=(_AROUND,),
        ),
        marks=(_AROUND, _WHOLE, *_TILES, _TURN_END),
        first=(BLANK_LINE,),
    ),
    # preprocessor_config.json and chat_template of Qwen/Qwen3.5-0.8B, and the most image tokens
    # that a build makes of it.
    "qwen3vl_merger": Layout(
        chat=ChatSpec(
            turn_start="<|im_start|>{role}\n",
            turn_end="<|im_end|>\n",
            system=None,
            stop_tokens=SPECIAL[::2],
        ),
        picture="<|vision_start|>{image}<|vision_end|>",
        marks=("<|vision_start|>", "<|vision_end|>"),
        whole_tokens=(64, 1024),
        least_blocks=0,
        places="grid",
    ),
    # chat_template of LiquidAI/LFM2-VL-450M, and `image_processing_lfm2_vl.py` and
    # `processing_lfm2_vl.py` of transformers.
    "lfm2": Layout(
        chat=ChatSpec(
            start=_LFM2_BEGIN,
            turn_start="<|im_start|>{role}\n",
            turn_end="<|im_end|>\n",
            system=None,
            stop_tokens=SPECIAL[::2],
        ),
        picture="{image}",
        resample="bilinear",
        tiling=Tiling(
            rule="ratio",
            grids=_LFM2_GRIDS,
            over_pixels=2 * _LFM2_TOKENS[1] * _LFM2_BLOCK**2,
            whole="last",
        ),
        markup=MarkupSpec(
            tokens=_LFM2_MARKS,
            start=(_LFM2_START,),
            tile=(_LFM2_TILE,),
            whole=(_LFM2_WHOLE,),
            alone=(),
            end=(_LFM2_END,),
        ),
        marks=(*_LFM2_MARKS, _LFM2_BEGIN),
        whole_tokens=_LFM2_TOKENS,
    ),
    # preprocessor_config.json and chat_template of OpenGVLab/InternVL3_5-1B-HF. The mean and the
    # deviation are those of ImageNet.
    "internvl": Layout(
        picture=f"{IMAGE_START}{{image}}{IMAGE_END}\n",
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        tiling=Tiling(rule="ratio", grids=_ratio_grids(1, _MOST_TILES), whole="last"),
        marks=(IMAGE_START, IMAGE_END),
    ),
}
"""By `TowerShape.projector`."""
