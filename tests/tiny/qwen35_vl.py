"""Random checkpoints of Qwen3.5 with pictures, and what transformers makes of them."""

import json
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from tokenizers import Tokenizer
from transformers import (
    PreTrainedTokenizerFast,
    Qwen3_5Config,
    Qwen3_5ForConditionalGeneration,
    Qwen3VLProcessor,
)
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from tiny.vlm import LLAVA

PATCH, BLOCK, LEAST, MOST, WIDTH = 4, 8, 4, 24, 64
"""Side of a patch and of a block, pixels; fewest and most image tokens; width of one."""

ROWS = 2016
IMAGE, ENDS = 1986, 1976
"""Ids of `<|image_pad|>` and `<|im_end|>`."""

_LARGER = {
    "embed_tokens": 2,
    "q_proj": 2,
    "k_proj": 2,
    "v_proj": 4,
    "o_proj": 4,
    "in_proj_qkv": 4,
    "out_proj": 4,
}
"""How much larger weights are than they are drawn where texts shall differ with pictures."""

TEMPLATE = (
    "{%- macro shown(content) %}{% if content is string %}{{ content }}{% else %}"
    "{% for item in content %}{% if item.type == 'image' %}"
    "{{ '<|vision_start|><|image_pad|><|vision_end|>' }}"
    "{% else %}{{ item.text }}{% endif %}{% endfor %}{% endif %}{% endmacro %}"
    "{%- for message in messages %}"
    "{{ '<|im_start|>' + message.role + '\n' + shown(message.content) | trim + '<|im_end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
    "{% if enable_thinking is defined and enable_thinking is false %}"
    "{{ '<think>\n\n</think>\n\n' }}{% else %}{{ '<think>\n' }}{% endif %}{% endif %}"
)
"""What the published checkpoints write, as far as it goes here."""


def write_qwen35_vl(
    folder: Path, *, tied: bool = True, is_sharp: bool = True, most: int = MOST, **vision: Any
) -> Path:
    """Write a checkpoint as transformers does.

    Args:
        folder: where to.
        tied: whether the output matrix is that of the embeddings.
        is_sharp: whether texts differ with pictures; they do with roundings of weights, too.
        most: image tokens of a picture.
        vision: of `vision_config`, in place of tiny ones.
    """
    rope = {"rope_type": "default", "rope_theta": 10_000.0, "partial_rotary_factor": 0.5}
    text = {
        "vocab_size": ROWS,
        "hidden_size": WIDTH,
        "intermediate_size": 96,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 32,
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 4,
        "linear_key_head_dim": 16,
        "linear_value_head_dim": 16,
        "max_position_embeddings": 8192,
        "initializer_range": 0.15,
        "rope_parameters": rope | {"mrope_section": [3, 3, 2], "mrope_interleaved": True},
        "tie_word_embeddings": tied,
        "eos_token_id": ENDS,
    }
    tower = {
        "depth": 2,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_heads": 2,
        "patch_size": PATCH,
        "out_hidden_size": WIDTH,
        "num_position_embeddings": 36,
        "initializer_range": 0.2,
    }
    config = Qwen3_5Config(
        text_config=text,
        vision_config=tower | vision,
        image_token_id=IMAGE,
        video_token_id=IMAGE + 1,
        vision_start_token_id=1983,
        vision_end_token_id=1984,
        tie_word_embeddings=tied,
    )
    torch.manual_seed(14)
    model: Any = Qwen3_5ForConditionalGeneration(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "visual" in name:  # nothing is zero or one
                parameter.copy_(torch.randn_like(parameter) * 0.2 + ("norm" in name))
            for part, factor in _LARGER.items():
                if is_sharp and f".{part}.weight" in name:
                    parameter.mul_(factor)
    model.generation_config.eos_token_id = ENDS
    model.save_pretrained(folder)
    load_tokenizer().save_pretrained(folder)
    made = config.vision_config
    area = (made.spatial_merge_size * made.patch_size) ** 2
    processor = {
        "size": {"longest_edge": most * area, "shortest_edge": LEAST * area},
        "patch_size": made.patch_size,
        "temporal_patch_size": made.temporal_patch_size,
        "merge_size": made.spatial_merge_size,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
        "processor_class": "Qwen3VLProcessor",
        "image_processor_type": "Qwen2VLImageProcessorFast",
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return folder


def load_tokenizer() -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_file(str(LLAVA / "tokenizer.json")),
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        chat_template=TEMPLATE,
    )


class _Processor(Qwen3VLProcessor):  # type: ignore[misc]
    """Without its part for videos, which needs torchvision."""

    def check_argument_for_proper_class(self, argument_name: str, argument: Any) -> Any:
        if argument_name != "video_processor":
            return super().check_argument_for_proper_class(argument_name, argument)
        return None


class Reference:
    """A checkpoint as transformers runs it."""

    def __init__(self, folder: Path) -> None:
        self.model: Any = Qwen3_5ForConditionalGeneration.from_pretrained(
            folder, dtype=torch.float32
        ).eval()
        self.model.generation_config.eos_token_id = None
        self.processor: Any = _Processor(
            Qwen2VLImageProcessorPil.from_pretrained(folder),
            load_tokenizer(),
            chat_template=TEMPLATE,
        )

    def inputs(self, pictures: list[Image.Image], words: str) -> dict[str, torch.Tensor]:
        """A question about pictures: ids, mask, kinds of tokens, patches and their grids."""
        content = [*({"type": "image"} for _ in pictures), {"type": "text", "text": words}]
        text = self.processor.apply_chat_template(
            [{"role": "user", "content": content}],
            add_generation_prompt=True,
            enable_thinking=False,
        )
        return dict(self.processor(images=pictures, text=text, return_tensors="pt"))

    def write(
        self, pictures: list[Image.Image], words: str, count: int, known: int
    ) -> tuple[NDArray[np.float32], list[int]]:
        """The logits behind a question, of the ids that are known, and as many greedy tokens."""
        inputs = self.inputs(pictures, words)
        made = self.model.generate(
            **inputs,
            max_new_tokens=count,
            do_sample=False,
            suppress_tokens=list(range(known, ROWS)),
            output_logits=True,
            return_dict_in_generate=True,
        )
        logits = made.logits[0][0, :known].numpy()
        return logits, made.sequences[0, inputs["input_ids"].shape[1] :].tolist()

    def image_tokens(self, tile: NDArray[np.float32]) -> NDArray[np.float32]:
        """Of pixel values [3,H,W]; the processor's own code makes patches of them."""
        vision = self.model.config.vision_config
        patches, grid = patches_of(
            tile, vision.patch_size, vision.spatial_merge_size, vision.temporal_patch_size
        )
        with torch.inference_mode():
            rows = self.model.get_image_features(patches, torch.tensor([grid])).pooler_output[0]
        return cast(NDArray[np.float32], rows.numpy())


def patches_of(
    tile: NDArray[np.float32], patch: int, merge: int, frames: int
) -> tuple[torch.Tensor, tuple[int, int, int]]:
    """Cut pixel values [3,H,W] into the rows that transformers reads, and give their grid."""
    _, height, width = tile.shape
    rows, columns = height // patch, width // patch
    cut = tile.reshape(3, rows // merge, merge, patch, columns // merge, merge, patch)
    cut = cut.transpose(1, 4, 2, 5, 0, 3, 6)  # blocks, patches of a block, channels, pixels
    film = np.repeat(cut[:, :, :, :, :, None], frames, axis=5)
    return torch.from_numpy(film.reshape(rows * columns, -1)), (1, rows, columns)
