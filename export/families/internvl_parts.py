"""What both layouts of InternVL mean: language model, tiles, marks around a picture.

In: settings of either config.json, with the keys of transformers. Out: parts of a layout's answers.

Source: `modeling_internvl.py` and `image_processing_got_ocr2.py` of transformers, and
`load_image` on the cards of OpenGVLab, which cut alike.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec

from edge_et.bundle import MarkupSpec, Processing
from edge_et.export.chat.internvl_chat_format import CONTEXT_TOKEN, PICTURE_MARKS
from edge_et.export.errors import UnreadableCheckpointError
from edge_et.export.families.vlm_layout import (
    Markup,
    PartTable,
    VisionPart,
    complete_settings,
    embeddings_are_tied,
    make_processing,
    mark_ids,
    refuse_unsupported,
    require_tokens,
)

TEXT_MODELS = {"qwen2": "Qwen2ForCausalLM", "qwen3": "Qwen3ForCausalLM"}

Size = Annotated[int, msgspec.Meta(ge=1, le=2**16)]

Tiles = Annotated[int, msgspec.Meta(ge=1, le=64)]
"""A number of tiles; a grid of a bundle has 64 at most on a side."""


def text_settings(
    text: Any, table: PartTable, path: Path, known: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return all settings of the language model.

    Args:
        text: its settings in config.json.
        table: whose tensor is whose.
        path: the config.json.
        known: see `complete_settings`.

    Raises:
        UnsupportedModelError: another model type.
        UnreadableCheckpointError: there are no settings, or no valid ones.
    """
    if not isinstance(text, dict):
        raise UnreadableCheckpointError(f"{path} has no settings of a language model")
    rope = text.get("rope_parameters")
    if isinstance(rope, dict) and rope.get("rope_type") == "dynamic":
        # Of use beyond max_position_embeddings alone, which no bundle goes beyond.
        rope = {key: rope[key] for key in ("rope_theta",) if key in rope}
    settings = complete_settings(text | {"rope_parameters": rope}, TEXT_MODELS, path, known)
    if settings.get("tie_word_embeddings"):
        settings["tie_word_embeddings"] = embeddings_are_tied(path.parent, table)
    return settings


def tile_processing(
    path: Path,
    *,
    tile: int,
    mean: Sequence[float],
    std: Sequence[float],
    rescale: float,
    tiles: tuple[int, int],
) -> Processing:
    """Return how pictures become tiles.

    Args:
        path: where the values come from, for messages.
        tile: side of a tile, pixels.
        mean: of each channel.
        std: likewise.
        rescale: what an 8-bit value is multiplied by.
        tiles: least and most of a grid.

    Raises:
        UnsupportedModelError: no grid has so many.
        UnreadableCheckpointError: a value is out of range.
    """
    least, most = tiles
    refuse_unsupported(path, {f"grids of {least} tiles or more and {most} or less": least > most})
    sides = range(1, most + 1)
    grids = [
        (columns, rows) for columns in sides for rows in sides if least <= columns * rows <= most
    ]
    # Of equally many tiles the narrower grid is first, which decides between equally near ones.
    grids.sort(key=lambda grid: grid[0] * grid[1])
    return make_processing(
        path,
        height=tile,
        width=tile,
        mean=mean,
        std=std,
        rescale=rescale,
        resample="bicubic",
        fit="squash",
        tiling={"rule": "ratio", "grids": grids, "whole": "last"},
    )


def vision_part(
    path: Path, tower: dict[str, Any], downsample_ratio: float, processing: Processing
) -> VisionPart:
    """Describe the vision side.

    Args:
        path: the config.json.
        tower: keyword arguments of `InternVLVisionConfig`, sides as integers.
        downsample_ratio: of the pixel shuffle.
        processing: how pictures become tiles.

    Raises:
        UnsupportedModelError: the shuffle does not fit the patches, pixels are of other channels,
            or the tokenizer names other marks.
        VocabularyError: the tokenizer lacks a mark.
    """
    side = tower["image_size"] // tower["patch_size"]
    factor = round(1 / downsample_ratio) if 0 < downsample_ratio <= 1 else 0
    fits = factor > 0 and factor * downsample_ratio == 1 and side % factor == 0
    unsupported = {
        f"a tower for {tower['num_channels']} channels": tower["num_channels"] != 3,
        f"downsample_ratio {downsample_ratio}, where a tile has {side} x {side} patches": not fits,
    }
    refuse_unsupported(path, unsupported)
    return VisionPart(
        tower=tower,
        tower_kind="intern_vit",
        tower_folder=None,
        feature_layer=None,
        projector_layers=2,
        projector_bias=True,
        projector_factor=factor,
        projector_norm=True,
        processing=processing,
        arrangement="flat",
        markup=_picture_marks(path.parent),
    )


def _picture_marks(folder: Path) -> Markup:
    start, end = PICTURE_MARKS
    names = {"start_image_token": start, "end_image_token": end}
    require_tokens(folder, names | {"context_image_token": CONTEXT_TOKEN})
    ids = mark_ids(folder, PICTURE_MARKS)
    spec = MarkupSpec(tokens=PICTURE_MARKS, start=(start,), end=(end,))
    return Markup(spec=spec, ids=ids)
