"""Compares the tiles of this project, which Pillow resizes, with those of transformers' LFM2-VL.

    python compare_lfm2_vl.py PICTURE...

In an environment of its own: pip install edge-et transformers==5.24.0 torch==2.13.0
torchvision==0.28.0. That image processor has no backend but torchvision.

Prints the versions, the CPU, and one line for each picture: its size, tiles and image tokens, the
largest and the mean difference in grey levels, the share of 8-bit values that differ, and how far
the image tokens of a tower of random weights are apart: the largest difference of a value, as a
share of the largest absolute one, and the smallest cosine of two tokens.
"""

import platform
import sys
from pathlib import Path

import numpy as np
import PIL
import torch
import torchvision
import transformers
from transformers import Siglip2VisionConfig, Siglip2VisionModel
from transformers.models.lfm2_vl.image_processing_lfm2_vl import Lfm2VlImageProcessor

from edge_et.export.vision.siglip2 import Siglip2Blocks
from edge_et.image import choose_grid, load_image, plan_image, split_tiles

sys.path.insert(0, str(Path(__file__).parents[2]))
from tiny.sizes import sized_spec

SPEC = sized_spec({})
PATCH = 16


def their_tiles(path: Path) -> list[np.ndarray]:
    """Return the reference's tiles, [H,W,3] uint8 each."""
    processor = Lfm2VlImageProcessor(do_rescale=False, do_normalize=False)
    made = processor(load_image(path), return_tensors="pt")
    tiles = []
    for patches, (rows, columns) in zip(
        made.pixel_values.numpy(), made.spatial_shapes.tolist(), strict=True
    ):
        patches = patches[: rows * columns].reshape(rows, columns, PATCH, PATCH, 3)
        tile = patches.transpose(0, 2, 1, 3, 4).reshape(rows * PATCH, columns * PATCH, 3)
        assert np.array_equal(tile, tile.astype(np.uint8))
        tiles.append(tile.astype(np.uint8))
    return tiles


def new_tower() -> Siglip2Blocks:
    torch.manual_seed(0)
    config = Siglip2VisionConfig(
        hidden_size=192,
        intermediate_size=768,
        num_hidden_layers=6,
        num_attention_heads=3,
        vision_use_head=False,
    )
    return Siglip2Blocks(Siglip2VisionModel(config).eval(), 512, 2).eval()


def tokens_of(tower: Siglip2Blocks, tile: np.ndarray) -> np.ndarray:
    values = torch.from_numpy(tile.astype(np.float32) / 127.5 - 1).permute(2, 0, 1)[None]
    with torch.inference_mode():
        return tower(values)[0].numpy()


def compare(path: Path, tower: Siglip2Blocks) -> str:
    image = load_image(path)
    plan = plan_image(SPEC, image.size)
    grid = choose_grid(image.size, SPEC.processing, None)
    ours = [np.asarray(tile) for tile in split_tiles(image, SPEC.processing, grid)]
    theirs = their_tiles(path)
    assert [tile.shape for tile in ours] == [tile.shape for tile in theirs]
    apart = np.concatenate(
        [np.abs(a.astype(int) - b).ravel() for a, b in zip(ours, theirs, strict=True)]
    )
    largest, cosine = 0.0, 1.0
    for pair in zip(ours, theirs, strict=True):
        first, second = (tokens_of(tower, tile) for tile in pair)
        largest = max(largest, float(np.abs(first - second).max() / np.abs(second).max()))
        lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
        cosine = min(cosine, float(((first * second).sum(1) / lengths).min()))
    size, share = f"{image.width}x{image.height}", np.count_nonzero(apart) / apart.size
    return (
        f"{path.name:20}{size:>12}{plan.tiles:4}{plan.image_tokens:6}{apart.max():6}"
        f"{apart.mean():10.5f}{share:9.3%}{largest:9.5f}{cosine:11.7f}"
    )


if __name__ == "__main__":
    print(
        f"transformers {transformers.__version__}, torch {torch.__version__}, torchvision "
        f"{torchvision.__version__}, pillow {PIL.__version__}; {platform.machine()}, "
        f"{torch.backends.cpu.get_cpu_capability()}"
    )
    print("picture, size, tiles, tokens, largest, mean, share; tokens: largest, cosine")
    made = new_tower()
    for name in sys.argv[1:]:
        print(compare(Path(name), made), flush=True)
