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
        whole_tokens: fewest and most image tokens of a tile of the picture's shape, which then has
            them in rows and columns; None: tiles are of one size.
    """

    chat: ChatSpec = _CHAT
    picture: str = "{image}\n"
    resample: Literal["bicubic", "lanczos"] = "bicubic"
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)
    tiling: Tiling | None = None
    markup: MarkupSpec | None = None
    marks: tuple[str, ...] = ()
    first: Sequence[tuple[str, str]] = ()
    whole_tokens: tuple[int, int] | None = None

    @property
    def edge_tiles(self) -> int:
        """Tiles along the longest edge of a picture, 1 where it is no rule."""
        return 1 if self.tiling is None else self.tiling.edge_tiles or 1


def _ratio_grids() -> tuple[tuple[int, int], ...]:
    """Return columns and rows of all grids of up to twelve tiles, fewest tiles first.

    Source: `get_all_supported_aspect_ratios` of transformers' GOT-OCR2, which InternVL uses.
    """
    sides = range(1, _MOST_TILES + 1)
    grids = [(columns, rows) for columns in sides for rows in sides]
    return tuple(sorted((grid for grid in grids if prod(grid) <= _MOST_TILES), key=prod))


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
    ),
    # preprocessor_config.json and chat_template of OpenGVLab/InternVL3_5-1B-HF. The mean and the
    # deviation are those of ImageNet.
    "internvl": Layout(
        picture=f"{IMAGE_START}{{image}}{IMAGE_END}\n",
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        tiling=Tiling(rule="ratio", grids=_ratio_grids(), whole="last"),
        marks=(IMAGE_START, IMAGE_END),
    ),
}
"""By `TowerShape.projector`."""
