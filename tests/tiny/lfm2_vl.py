"""Random checkpoints of LFM2-VL, and what transformers makes of pictures and tiles."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken, Tokenizer
from transformers import (
    Lfm2VlConfig,
    Lfm2VlForConditionalGeneration,
    PreTrainedTokenizerFast,
)
from transformers.feature_extraction_utils import BatchFeature
from transformers.models.lfm2_vl.processing_lfm2_vl import Lfm2VlProcessor

from edge_et.bundle import VisionSpec
from edge_et.image import plan_image, split_tiles, to_pixel_values
from tiny.vlm import LLAVA

BLOCK, TILE, WIDTH, PATCH = 8, 32, 64, 4
BASE = 50_000.0
"""Of the rotary frequencies."""
SETTINGS: dict[str, Any] = {
    "encoder_patch_size": PATCH,
    "tile_size": TILE,
    "min_image_tokens": 4,
    "max_image_tokens": 16,
    "max_tiles": 6,
}
"""Of the image processor: the small ones of tests/data/tiling/write_lfm2_vl.py."""

TEMPLATE = (
    "{{bos_token}}{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n'}}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for content in message['content'] %}{% if content['type'] == 'image' %}{{ '<image>' }}"
    "{% elif content['type'] == 'text' %}{{ content['text'] }}{% endif %}{% endfor %}{% endif %}"
    "{{'<|im_end|>\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{'<|im_start|>assistant\n' }}{% endif %}"
)
"""What the published checkpoints of LFM2-VL have."""

START = "<|startoftext|>"
MARKS = (
    "<image>",
    "<|image_start|>",
    "<|image_end|>",
    "<|img_thumbnail|>",
    *(f"<|img_row_{row}_col_{column}|>" for row in range(1, 11) for column in range(1, 11)),
    START,
)
_ROWS = 2304


def make_tokenizer() -> Tokenizer:
    tokenizer = Tokenizer.from_file(str(LLAVA / "tokenizer.json"))
    tokenizer.add_tokens([AddedToken(mark, normalized=False, special=True) for mark in MARKS])
    return tokenizer


def load_tokenizer() -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(
        tokenizer_object=make_tokenizer(),
        bos_token=START,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        chat_template=TEMPLATE,
        extra_special_tokens={
            "image_token": "<image>",
            "image_start_token": "<|image_start|>",
            "image_end_token": "<|image_end|>",
            "image_thumbnail": "<|img_thumbnail|>",
        },
    )


def write_lfm2_vl(folder: Path, *, generation: int = 5, **settings: Any) -> Path:
    """Write a checkpoint as a generation of transformers does.

    Args:
        folder: where to.
        generation: 4 or 5.
        settings: of config.json, or of `vision_config`, in place of tiny ones.
    """
    folder.mkdir(parents=True)
    tokenizer = make_tokenizer()
    ends = tokenizer.token_to_id("<|im_end|>")
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
        "intermediate_size": 96,
        "block_multiple_of": 16,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "layer_types": ["conv", "full_attention", "conv", "full_attention"],
        "max_position_embeddings": 8192,
        "rope_parameters": {"rope_type": "default", "rope_theta": BASE},
        "initializer_range": 0.15,
        "vocab_size": _ROWS,
        "bos_token_id": tokenizer.token_to_id(START),
        "eos_token_id": ends,
        "pad_token_id": None,
    }
    ours = {name: value for name, value in settings.items() if name in tower}
    others = {name: value for name, value in settings.items() if name not in tower}
    torch.manual_seed(11)
    config = Lfm2VlConfig(
        vision_config={"model_type": "siglip2_vision_model"} | tower | ours,
        text_config=text,
        image_token_id=tokenizer.token_to_id("<image>"),
        **({"projector_hidden_size": 40} | others),
    )
    model = Lfm2VlForConditionalGeneration(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "vision_tower" in name or "projector" in name:  # nothing is zero or one
                parameter.copy_(torch.randn_like(parameter) * 0.2 + ("norm" in name))
            elif "norm" in name:
                torch.nn.init.uniform_(parameter, 0.5, 1.5)
    model.generation_config.eos_token_id = ends
    model.save_pretrained(folder)
    load_tokenizer().save_pretrained(folder)
    kind = "Lfm2VlImageProcessor" + ("Fast" if generation == 4 else "")
    processor = {"image_processor_type": kind} | SETTINGS
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    whole = {"processor_class": "Lfm2VlProcessor"}
    (folder / "processor_config.json").write_text(json.dumps(whole))
    if generation == 4:
        _write_as_by_4(folder)
    return folder


def _write_as_by_4(folder: Path) -> None:
    """Name tensors and settings as transformers 4.57 does."""
    path, tower_name = folder / "model.safetensors", "model.vision_tower."
    named = {
        name.replace(tower_name, f"{tower_name}vision_model."): tensor
        for name, tensor in load_file(path).items()
    }
    save_file(named, path)
    path = folder / "config.json"
    content = json.loads(path.read_text())
    content["torch_dtype"] = content.pop("dtype", "float32")
    text = content["text_config"]
    del text["rope_parameters"], text["tie_word_embeddings"], content["tie_word_embeddings"]
    text |= {"rope_theta": BASE, "block_ff_dim": text.pop("intermediate_size")}
    text |= {"tie_embedding": True, "block_dim": WIDTH, "use_pos_enc": True}
    path.write_text(json.dumps(content))


def reference_tokens(folder: Path, tiles: list[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
    """Return what transformers makes of tiles of a checkpoint that it wrote.

    Args:
        folder: of generation 5.
        tiles: pixel values [3,H,W] float32 each.

    Returns:
        Image tokens [S,D] float32 of each.
    """
    model = Lfm2VlForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
    inputs = _vision_inputs(tiles)
    with torch.inference_mode():
        made = model.get_image_features(**inputs)
    return [tokens.numpy() for tokens in made.pooler_output]


def _vision_inputs(tiles: Sequence[NDArray[np.float32]]) -> dict[str, torch.Tensor]:
    """Return patches of tiles as the model takes them."""
    most = max(tile[0].size for tile in tiles) // PATCH**2
    rows, masks, shapes = [], [], []
    for tile in tiles:
        height, width = (side // PATCH for side in tile.shape[1:])
        patches = tile.reshape(3, height, PATCH, width, PATCH).transpose(1, 3, 2, 4, 0)
        patches = patches.reshape(height * width, -1)
        rows.append(np.pad(patches, [(0, most - len(patches)), (0, 0)]))
        masks.append(np.arange(most) < len(patches))
        shapes.append((height, width))
    return {
        "pixel_values": torch.from_numpy(np.stack(rows)),
        "spatial_shapes": torch.tensor(shapes),
        "pixel_attention_mask": torch.from_numpy(np.stack(masks)).int(),
    }


class _ImageProcessor:
    """Cuts pictures by a bundle's rules, since transformers' own processor needs torchvision.

    What it tells of grids and sizes is compared with that processor in tests/unit/image.
    """

    def __init__(self, spec: VisionSpec) -> None:
        assert spec.processing.whole_size is not None
        self._spec = spec
        self.use_thumbnail = True
        self.tile_size = spec.processing.height
        self.downsample_factor = 2
        self.encoder_patch_size = spec.processing.whole_size.block // 2
        self.model_input_names = ["pixel_values"]

    def fetch_images(self, images: Any) -> Any:
        return images

    def __call__(self, images: list[list[Image.Image]], **_options: Any) -> BatchFeature:
        tiles, grids, sizes = [], [], []
        for image in (image for row in images for image in row):
            grid = plan_image(self._spec, image.size).grid
            shown = split_tiles(image, self._spec.processing, grid)
            tiles += [to_pixel_values(tile, self._spec.processing) for tile in shown]
            grids.append(grid or (1, 1))
            sizes.append((shown[-1].height, shown[-1].width))
        told = {
            "image_rows": [rows for _, rows in grids],
            "image_cols": [columns for columns, _ in grids],
            "image_sizes": sizes,
        }
        return BatchFeature(_vision_inputs(tiles) | told)


class _Processor(Lfm2VlProcessor):  # type: ignore[misc]
    """Takes an image processor that is not transformers'."""

    def check_argument_for_proper_class(self, argument_name: str, argument: Any) -> Any:
        if argument_name != "image_processor":
            return super().check_argument_for_proper_class(argument_name, argument)
        return None


class Reference:
    """A checkpoint as transformers runs it, on tiles that are cut by a bundle's rules."""

    def __init__(self, folder: Path, spec: VisionSpec) -> None:
        self.model: Any = Lfm2VlForConditionalGeneration.from_pretrained(
            folder, dtype=torch.float32
        ).eval()
        self.model.generation_config.eos_token_id = None
        self.processor: Any = _Processor(
            _ImageProcessor(spec), load_tokenizer(), chat_template=TEMPLATE
        )

    def inputs(
        self, pictures: list[Image.Image], words: str, system: str | None = None
    ) -> dict[str, torch.Tensor]:
        """A question about pictures: ids, mask and patches."""
        content = [*({"type": "image"} for _ in pictures), {"type": "text", "text": words}]
        turns: list[dict[str, Any]] = [{"role": "user", "content": content}]
        if system is not None:
            turns.insert(0, {"role": "system", "content": system})
        text = self.processor.apply_chat_template(turns, add_generation_prompt=True)
        return dict(self.processor(images=[pictures], text=[text], return_tensors="pt"))

    def write(
        self,
        pictures: list[Image.Image],
        words: str,
        count: int,
        known: int,
        system: str | None = None,
    ) -> tuple[NDArray[np.float32], list[int]]:
        """The logits behind a question, of the ids that are known, and as many greedy tokens."""
        inputs = self.inputs(pictures, words, system)
        made = self.model.generate(
            **inputs,
            max_new_tokens=count,
            do_sample=False,
            suppress_tokens=list(range(known, _ROWS)),
            output_logits=True,
            return_dict_in_generate=True,
        )
        logits = made.logits[0][0, :known].numpy()
        return logits, made.sequences[0, inputs["input_ids"].shape[1] :].tolist()
