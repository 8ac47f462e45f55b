"""Random checkpoints of LFM2-VL, and what transformers makes of their tiles."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken, Tokenizer
from transformers import Lfm2VlConfig, Lfm2VlForConditionalGeneration

from tiny.vlm import LLAVA

BLOCK, TILE, WIDTH, PATCH = 8, 32, 64, 4
SETTINGS: dict[str, Any] = {
    "encoder_patch_size": PATCH,
    "tile_size": TILE,
    "min_image_tokens": 4,
    "max_image_tokens": 16,
    "max_tiles": 6,
}
"""Of the image processor: the small ones of tests/data/tiling/write_lfm2_vl.py."""

MARKS = (
    "<image>",
    "<|image_start|>",
    "<|image_end|>",
    "<|img_thumbnail|>",
    *(f"<|img_row_{row}_col_{column}|>" for row in range(1, 11) for column in range(1, 11)),
)
_ROWS = 2304


def write_lfm2_vl(folder: Path, *, generation: int = 5, **settings: Any) -> Path:
    """Write a checkpoint as a generation of transformers does.

    Args:
        folder: where to.
        generation: 4 or 5.
        settings: of config.json, or of `vision_config`, in place of tiny ones.
    """
    folder.mkdir(parents=True)
    tower = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "patch_size": PATCH,
        "num_patches": 25,
        "hidden_act": "gelu_pytorch_tanh",
        "layer_norm_eps": 1e-6,
        "vision_use_head": False,
    }
    text = {
        "model_type": "lfm2",
        "hidden_size": WIDTH,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "layer_types": ["conv", "full_attention"],
        "vocab_size": _ROWS,
    }
    ours = {name: value for name, value in settings.items() if name in tower}
    others = {name: value for name, value in settings.items() if name not in tower}
    torch.manual_seed(11)
    config = Lfm2VlConfig(
        vision_config={"model_type": "siglip2_vision_model"} | tower | ours,
        text_config=text,
        **({"projector_hidden_size": 40} | others),
    )
    model = Lfm2VlForConditionalGeneration(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "vision_tower" in name or "projector" in name:  # nothing is zero or one
                parameter.copy_(torch.randn_like(parameter) * 0.2 + ("norm" in name))
    model.save_pretrained(folder)
    if generation == 4:
        path = folder / "model.safetensors"
        tower_name = "model.vision_tower."
        named = {
            name.replace(tower_name, f"{tower_name}vision_model."): tensor
            for name, tensor in load_file(path).items()
        }
        save_file(named, path)
    kind = "Lfm2VlImageProcessor" + ("Fast" if generation == 4 else "")
    processor = {"image_processor_type": kind} | SETTINGS
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    whole = {"processor_class": "Lfm2VlProcessor"}
    (folder / "processor_config.json").write_text(json.dumps(whole))
    tokenizer = Tokenizer.from_file(str(LLAVA / "tokenizer.json"))
    tokenizer.add_tokens([AddedToken(mark, normalized=False, special=True) for mark in MARKS])
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def reference_tokens(folder: Path, tiles: list[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
    """Return what transformers makes of tiles of a checkpoint that it wrote.

    Args:
        folder: of generation 5.
        tiles: pixel values [3,H,W] float32 each.

    Returns:
        Image tokens [S,D] float32 of each.
    """
    model = Lfm2VlForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
    most = max(tile[0].size for tile in tiles) // PATCH**2
    rows, masks, shapes = [], [], []
    for tile in tiles:
        height, width = (side // PATCH for side in tile.shape[1:])
        patches = tile.reshape(3, height, PATCH, width, PATCH).transpose(1, 3, 2, 4, 0)
        patches = patches.reshape(height * width, -1)
        rows.append(np.pad(patches, [(0, most - len(patches)), (0, 0)]))
        masks.append(np.arange(most) < len(patches))
        shapes.append((height, width))
    with torch.inference_mode():
        made = model.get_image_features(
            pixel_values=torch.from_numpy(np.stack(rows)),
            spatial_shapes=torch.tensor(shapes),
            pixel_attention_mask=torch.from_numpy(np.stack(masks)).int(),
        )
    return [tokens.numpy() for tokens in made.pooler_output]
