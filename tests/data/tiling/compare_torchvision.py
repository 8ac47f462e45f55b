"""Compares the pixels of transformers' two backends, PIL and torchvision, before normalisation.

    python compare_torchvision.py

In an environment of its own: pip install transformers==5.24.0 torch==2.13.0 torchvision==0.28.0
pillow==12.3.0. Builds of torch for GPUs do, too: all is computed on the CPU. Pillow 13.0.0 resizes
many pictures in another order than torchvision and earlier ones, which makes more of a difference.

Prints the versions, the CPU, and one line for each image processor and kind of picture: the largest
and the mean difference in grey levels, the share of 8-bit values that differ, and how many pictures
got another number of tiles. Another grid of as many tiles would show as differences beyond 200.
"""

import platform
import random
from pathlib import Path

import numpy as np
import PIL
import torch
import torchvision
import transformers
from PIL import Image
from transformers import (
    GotOcr2ImageProcessor,
    Idefics3ImageProcessor,
    LlavaOnevisionImageProcessor,
    Qwen2VLImageProcessor,
    SmolVLMImageProcessor,
)
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil
from transformers.models.llava_onevision.image_processing_pil_llava_onevision import (
    LlavaOnevisionImageProcessorPil,
)
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil
from write_reference import CUT, EDGES, PLAIN, RATIOS, picture

PHOTOGRAPH = Path(__file__).parents[3] / "examples" / "cat.png"


def edge(name: str) -> dict[str, object]:
    longest, tile = EDGES[name]
    return {"size": {"longest_edge": longest}, "max_image_size": {"longest_edge": tile}}


def ratio(name: str) -> dict[str, object]:
    tile, most = RATIOS[name]
    return {
        "size": {"height": tile, "width": tile},
        "crop_to_patches": True,
        "max_patches": most,
    }


KINDS = {
    "SmolVLM": (SmolVLMImageProcessorPil, SmolVLMImageProcessor, edge("smolvlm")),
    "Idefics3": (Idefics3ImageProcessorPil, Idefics3ImageProcessor, edge("idefics3")),
    "GotOcr2 (InternVL)": (GotOcr2ImageProcessorPil, GotOcr2ImageProcessor, ratio("internvl")),
    "LlavaOnevision": (LlavaOnevisionImageProcessorPil, LlavaOnevisionImageProcessor, {}),
    # As Qwen3.5 has it, but for as many pixels as a bundle shows.
    "Qwen2VL (Qwen3.5)": (
        Qwen2VLImageProcessorPil,
        Qwen2VLImageProcessor,
        {"size": {"shortest_edge": 64 * 32**2, "longest_edge": 1024 * 32**2}, "patch_size": 16},
    ),
}


def sizes() -> list[tuple[int, int]]:
    chance = random.Random(31)
    drawn = [(chance.randint(1, 2000), chance.randint(1, 2000)) for _ in range(30)]
    near = [(chance.randint(500, 530), chance.randint(500, 530)) for _ in range(10)]
    return [*drawn, *near, *CUT]


def gradient(width: int, height: int) -> np.ndarray:
    across, down = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return np.stack([across, down, (across + down) / 2], axis=-1).round().astype(np.uint8)


def photograph(width: int, height: int) -> np.ndarray:
    """Return the photograph cut to a size, mirrored at its borders where it is smaller."""
    shown = np.asarray(Image.open(PHOTOGRAPH).convert("RGB"))
    below, beside = max(0, height - shown.shape[0]), max(0, width - shown.shape[1])
    return np.pad(shown, [(0, below), (0, beside), (0, 0)], "symmetric")[:height, :width]


def compare(name: str, drawn: str) -> str:
    first, second, settings = KINDS[name]
    backends = [first(**settings, **PLAIN), second(**settings, **PLAIN)]
    largest = different = values = total = other = 0
    for size in sizes():
        image = Image.fromarray(PICTURES[drawn](*size))
        pair = [np.asarray(each(image, return_tensors="pt").pixel_values) for each in backends]
        if pair[0].shape != pair[1].shape:
            other += 1
            continue
        assert all(np.array_equal(each, each.astype(np.uint8)) for each in pair), (name, size)
        apart = np.abs(pair[0].astype(np.int16) - pair[1].astype(np.int16))
        largest = max(largest, int(apart.max()))
        different += np.count_nonzero(apart)
        total += int(apart.sum(dtype=np.int64))
        values += apart.size
    return (
        f"{name:20}{drawn:12}{largest:8}{total / values:10.5f}{different / values:9.3%}{other:12}"
    )


PICTURES = {"noise": picture, "gradient": gradient, "photograph": photograph}

if __name__ == "__main__":
    print(
        f"transformers {transformers.__version__}, torch {torch.__version__}, torchvision "
        f"{torchvision.__version__}, pillow {PIL.__version__}; {platform.machine()}, "
        f"{torch.backends.cpu.get_cpu_capability()}; {len(sizes())} sizes"
    )
    print(f"{'processor':20}{'picture':12}{'largest':>8}{'mean':>10}{'share':>9}{'other grid':>12}")
    for name in KINDS:
        for drawn in PICTURES:
            print(compare(name, drawn), flush=True)
