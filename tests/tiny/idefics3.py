"""Random checkpoints of Idefics3 and SmolVLM, made by transformers, and what it makes of them."""

import json
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3Processor,
    LlamaConfig,
    PreTrainedTokenizerFast,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
)
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil
from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil

from tiny.tokenizer import TEXT

Kind = Literal["Idefics3", "SmolVLM"]
CONFIGS = {"Idefics3": Idefics3Config, "SmolVLM": SmolVLMConfig}
MODELS = {
    "Idefics3": Idefics3ForConditionalGeneration,
    "SmolVLM": SmolVLMForConditionalGeneration,
}
# torchvision's pixels differ by up to two grey levels.
PROCESSORS = {"Idefics3": Idefics3ImageProcessorPil, "SmolVLM": SmolVLMImageProcessorPil}

TEMPLATE = (
    "<|im_start|>{% for message in messages %}{{ message['role'] | capitalize }}"
    "{% if message['content'][0]['type'] == 'image' %}{{ ':' }}{% else %}{{ ': ' }}{% endif %}"
    "{% for line in message['content'] %}{% if line['type'] == 'text' %}{{ line['text'] }}"
    "{% elif line['type'] == 'image' %}{{ '<image>' }}{% endif %}{% endfor %}"
    "<end_of_utterance>\n{% endfor %}{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)
"""What the published checkpoints of SmolVLM have, and with another opening Idefics3."""

MARKS = (
    "<fake_token_around_image>",
    "<global-img>",
    *(f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)),
    "<image>",
    "<end_of_utterance>",
)
VISION = ("pixel_values", "pixel_attention_mask")
TILE, EDGE_TILES, TOKENS = 32, 4, 4
ROWS = 480


def train_tokenizer(*, joined_line_feeds: bool = True) -> Tokenizer:
    """A tokenizer of SmolLM2's kind, in which two line feeds may be one token, as there."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    breaks = ["\n\n"] * 50 if joined_line_feeds else []
    tokenizer.train_from_iterator([*TEXT * 4, "User: Assistant: Description: ", *breaks], trainer)
    add_marks(tokenizer)
    return tokenizer


def add_marks(tokenizer: Tokenizer) -> None:
    tokenizer.add_tokens([AddedToken(mark, normalized=False, special=True) for mark in MARKS])


def write_idefics3(
    folder: Path,
    kind: Kind = "SmolVLM",
    *,
    tied: bool = False,
    tokenizer: Tokenizer | None = None,
    tile: int = TILE,
    factor: int = 2,
    rows: int = ROWS,
) -> Path:
    """Write a checkpoint; patches are 8 pixels wide, and what they leave over is lost."""
    tokenizer = tokenizer or train_tokenizer()
    ends = tokenizer.token_to_id("<end_of_utterance>")
    text = LlamaConfig(
        vocab_size=rows,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=8192,
        rope_theta=100_000.0,
        tie_word_embeddings=tied,
        initializer_range=0.15,
        bos_token_id=1,
        eos_token_id=ends,
        pad_token_id=2,
    )
    config = CONFIGS[kind](
        text_config=text.to_dict(),
        vision_config={
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": tile,
            "patch_size": 8,
            "initializer_range": 0.3,
        },
        scale_factor=factor,
        image_token_id=tokenizer.token_to_id("<image>"),
        tie_word_embeddings=tied,
        pad_token_id=2,
    )
    torch.manual_seed(11)
    model = MODELS[kind](config).eval()
    for name, parameter in model.named_parameters():
        if "norm" in name:
            torch.nn.init.uniform_(parameter, 0.5, 1.5)
        elif name.endswith("bias"):
            torch.nn.init.normal_(parameter)
        elif "embed_tokens" in name or "modality_projection" in name:
            torch.nn.init.normal_(parameter, std=0.5)
    model.generation_config.eos_token_id = ends
    model.save_pretrained(folder)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|im_start|>",
        eos_token="<end_of_utterance>",
        pad_token="<|im_end|>",
        chat_template=TEMPLATE,
    ).save_pretrained(folder)
    image_processor(kind, tile).save_pretrained(folder)
    (folder / "processor_config.json").write_text(
        json.dumps({"image_seq_len": (tile // 8 // factor) ** 2})
    )
    return folder


def image_processor(kind: Kind, tile: int = TILE) -> Any:
    return PROCESSORS[kind](
        size={"longest_edge": EDGE_TILES * tile}, max_image_size={"longest_edge": tile}
    )


class Reference:
    """A checkpoint as transformers runs it."""

    def __init__(self, folder: Path, kind: Kind) -> None:
        self.model: Any = MODELS[kind].from_pretrained(folder, dtype=torch.float32).eval()
        self.model.generation_config.eos_token_id = None
        # SmolVLMProcessor writes the same text, and needs another package for videos.
        self.processor: Any = Idefics3Processor(
            PROCESSORS[kind].from_pretrained(folder),
            PreTrainedTokenizerFast.from_pretrained(folder),
            image_seq_len=json.loads((folder / "processor_config.json").read_text())[
                "image_seq_len"
            ],
            chat_template=TEMPLATE,
        )

    def inputs(self, pictures: list[Image.Image], words: str) -> dict[str, torch.Tensor]:
        """A question about pictures: ids, pixel values and masks."""
        content = [*({"type": "image"} for _ in pictures), {"type": "text", "text": words}]
        text = self.processor.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True
        )
        return dict(self.processor(images=[pictures], text=text, return_tensors="pt"))

    def write(
        self, pictures: list[Image.Image], words: str, count: int, known: int
    ) -> tuple[NDArray[np.float32], list[int]]:
        """The logits behind a question, of the ids that are known, and as many greedy tokens."""
        inputs = self.inputs(pictures, words)
        made = self.model.generate(
            **{name: inputs[name] for name in ("input_ids", "attention_mask", *VISION)},
            max_new_tokens=count,
            do_sample=False,
            suppress_tokens=list(range(known, ROWS)),
            output_logits=True,
            return_dict_in_generate=True,
        )
        logits = made.logits[0][0, :known].numpy()
        return logits, made.sequences[0, inputs["input_ids"].shape[1] :].tolist()

    def image_tokens(self, pixel_values: torch.Tensor) -> NDArray[np.float32]:
        """Of tiles [N,3,H,W]."""
        with torch.inference_mode():
            # A picture's rows each, or, before transformers 5.20, a tile's.
            parts = self.model.get_image_features(pixel_values[None]).pooler_output
        rows = torch.cat(list(parts))
        return cast(NDArray[np.float32], rows.numpy().reshape(len(pixel_values), -1, rows.shape[1]))


def picture(width: int, height: int) -> Image.Image:
    """Noise that is told by its size."""
    noise = np.random.default_rng([width, height]).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(noise)
