"""Writes lfm2_vl.json beside it: how transformers 5.24.0 cuts pictures for LFM2-VL, and marks them.

In an environment of its own: pip install transformers==5.24.0 torch==2.13.0 torchvision==0.28.0

Of over 400 sizes it tells the grid's columns and rows, the size of the whole picture's tile, and
16 digits of the SHA-256 of the text that stands for the picture. No pixel is computed: torch's
"meta" device has shapes alone. Sizes are drawn, and taken from where the rules round and compare:
half blocks, and areas about the largest that has no grid.
"""

import hashlib
import json
import random
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast
from transformers.models.lfm2_vl.image_processing_lfm2_vl import Lfm2VlImageProcessor
from transformers.models.lfm2_vl.processing_lfm2_vl import Lfm2VlProcessor

SETTINGS: dict[str, dict[str, Any]] = {
    "published": {},
    "fewer": {"min_image_tokens": 32, "max_image_tokens": 128, "max_pixels_tolerance": 1.5},
    "small": {
        "encoder_patch_size": 4,
        "tile_size": 32,
        "min_image_tokens": 4,
        "max_image_tokens": 16,
        "max_tiles": 6,
    },
}
HANDED = (
    "downsample_factor",
    "min_tiles",
    "max_tiles",
    "use_thumbnail",
    "min_image_tokens",
    "max_image_tokens",
    "encoder_patch_size",
    "tile_size",
    "max_pixels_tolerance",
    "resample",
)


def sizes(step: int, blocks: int) -> list[tuple[int, int]]:
    """Draw sizes.

    Args:
        step: side of a block of pixels that becomes one image token.
        blocks: area from which on pictures have a grid.
    """
    chance = random.Random(37)
    longest = step * 125
    drawn = [(chance.randint(1, longest), chance.randint(1, longest)) for _ in range(230)]
    halves = [
        tuple(step * chance.randint(0, 40) + step // 2 + chance.randint(-1, 1) for _ in range(2))
        for _ in range(80)
    ]
    near = []
    for _ in range(100):
        columns = chance.randint(5, blocks // 5)
        rows = blocks // columns + chance.randint(-1, 1)
        away = [chance.choice((-step // 2 - 1, -step // 2, 0, step // 2, 1)) for _ in range(2)]
        near.append((step * columns + away[0], step * rows + away[1]))
    thin = [(1, 1), (1, 2), (1, longest), (longest, 1), (3, 700), (700, 3), (5000, step // 2)]
    return [(max(width, 1), max(height, 1)) for width, height in (*drawn, *halves, *near, *thin)]


def processor_of(settings: dict[str, Any]) -> Lfm2VlProcessor:
    tokenizer = Tokenizer(models.WordLevel({"<image>": 0, "?": 1}, unk_token="?"))
    tokens = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="?")
    return Lfm2VlProcessor(Lfm2VlImageProcessor(**settings), tokens)


def cut(settings: dict[str, Any]) -> dict[str, object]:
    processor = processor_of(settings)
    images = processor.image_processor
    step = images.encoder_patch_size * images.downsample_factor
    handed = {name: getattr(images, name) for name in HANDED}
    rows_of_sizes = []
    for width, height in sizes(step, int(images.max_image_tokens * images.max_pixels_tolerance)):
        empty = torch.empty(1, 3, height, width, dtype=torch.uint8, device="meta")
        tiles, rows, columns, shown = images.resize_and_split(empty, **handed)
        assert list(tiles[0][-1].shape[1:]) == shown[0]
        text = processor.replace_image_token(
            {"image_rows": rows, "image_cols": columns, "image_sizes": shown},
            0,
            use_image_special_tokens=True,
        )
        digest = hashlib.sha256(text.encode()).hexdigest()[:16]
        rows_of_sizes.append([width, height, columns[0], rows[0], *shown[0][::-1], digest])
    return {"settings": settings, "pictures": rows_of_sizes}


if __name__ == "__main__":
    content = {name: cut(settings) for name, settings in SETTINGS.items()}
    Path(__file__).with_name("lfm2_vl.json").write_text(json.dumps(content) + "\n")
