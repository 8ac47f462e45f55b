"""Write small random checkpoints with the installed transformers, and what it computes of them.

    python tests/data/generations/write.py tests/data/generations/4    # with transformers 4.57.6
    python tests/data/generations/write.py tests/data/generations/5    # with transformers 5.24.0

The weights are the same for both. README.md says which versions wrote what is committed.
"""

import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from PIL import Image
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
)

WRITERS = ("4.57.6", "5.24.0")
ROWS = 288
TEXTS = ("Two birds sit on a wire: 7 left, 5 right.", "na\u00efve caf\u00e9\n\tdef f(x):")
CONFIGS: dict[str, tuple[Any, dict[str, Any]]] = {
    "llama": (LlamaConfig, {"rope_theta": 5e5, "head_dim": 8, "rms_norm_eps": 1e-5}),
    "qwen2": (Qwen2Config, {"rope_theta": 1e6, "tie_word_embeddings": True}),
    "qwen3": (Qwen3Config, {"rope_theta": 1e6, "head_dim": 16, "tie_word_embeddings": True}),
}
SIZES = {
    "vocab_size": ROWS,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "bos_token_id": 256,
    "eos_token_id": 258,
    "pad_token_id": 256,
}
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CHAT = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }} "
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>{% endif %}{% endfor %}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'text' %}\n{{ part['text'] }}{% endif %}{% endfor %}"
    "<|im_end|>{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TILE = 28


def make_tokenizer(family: str) -> PreTrainedTokenizerFast:
    """Make a byte-level tokenizer without merges but for three."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("t", "h"), ("th", "e"), ("i", "r")]
    vocabulary = {text: row for row, text in enumerate(alphabet)}
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<image>", "<video>"]
    vocabulary |= {text: len(vocabulary) + row for row, text in enumerate(special)}
    vocabulary |= {a + b: len(vocabulary) + row for row, (a, b) in enumerate(merges)}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges))
    first: Any = pre_tokenizers.Digits(individual_digits=True)
    if family != "llama":
        first = pre_tokenizers.Split(Regex(SPLIT), "isolated")
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=family == "llama")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([first, byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(text, special=True) for text in special])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|endoftext|>",
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=["<|im_start|>", "<image>", "<video>"],
    )


def fill(model: Any) -> None:
    """Set weights that depend on a tensor's name alone, which lost `vision_model.` in 5."""
    for name, parameter in model.named_parameters():
        seed = zlib.crc32(name.replace("vision_model.", "").encode())
        values = np.random.default_rng(seed).standard_normal(tuple(parameter.shape), np.float32)
        scale, middle = (0.2, 1.0) if "norm" in name else (0.25, 0.0)
        parameter.data.copy_(torch.from_numpy(values * scale + middle))
    model.tie_weights()


def write_language_model(folder: Path, family: str) -> None:
    """Write one checkpoint, and its token ids and logits."""
    config_class, settings = CONFIGS[family]
    model = AutoModelForCausalLM.from_config(config_class(**SIZES, **settings))
    fill(model)
    model.save_pretrained(folder)
    make_tokenizer(family).save_pretrained(folder)
    golden = run(folder, AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32))
    np.savez_compressed(folder / "golden.npz", **golden)


def run(folder: Path, model: Any) -> dict[str, Any]:
    """Return ids, and the logits of every third position."""
    golden: dict[str, Any] = {}
    tokenizer = AutoTokenizer.from_pretrained(folder)
    for number, text in enumerate(TEXTS):
        ids = tokenizer(text).input_ids
        with torch.inference_mode():
            logits = model.eval()(input_ids=torch.tensor([ids])).logits[0].numpy()
        golden |= {f"ids{number}": np.array(ids), f"logits{number}": logits[::3]}
    return golden


def write_onevision(folder: Path) -> None:
    """Write a vision-language checkpoint, its pixel values, image tokens and logits."""
    if transformers.__version__.startswith("4."):
        from transformers import LlavaOnevisionImageProcessor as ImageProcessor
    else:
        from transformers import LlavaOnevisionImageProcessorPil as ImageProcessor
    pinpoints = [[TILE * rows, TILE * columns] for rows in (1, 2) for columns in (1, 2)]
    vision = {
        "model_type": "siglip_vision_model",
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": TILE,
        "patch_size": 14,
        "vision_use_head": False,
    }
    text = Qwen2Config(**SIZES, rope_theta=1e6, tie_word_embeddings=True)
    config = LlavaOnevisionConfig(
        text_config=text.to_dict(),
        vision_config=vision,
        image_token_index=259,
        video_token_index=260,
        image_grid_pinpoints=pinpoints,
        vision_feature_layer=-1,
        tie_word_embeddings=True,
    )
    model = LlavaOnevisionForConditionalGeneration(config)
    fill(model)
    model.save_pretrained(folder)
    tokenizer = make_tokenizer("qwen2")
    tokenizer.chat_template = CHAT
    tokenizer.save_pretrained(folder)
    half = [0.5, 0.5, 0.5]
    processor = ImageProcessor(
        size={"height": TILE, "width": TILE},
        image_grid_pinpoints=pinpoints,
        image_mean=half,
        image_std=half,
    )
    save_processor(folder, processor, tokenizer)
    model = LlavaOnevisionForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
    golden = run(folder, model)
    pixels = np.random.default_rng(1).integers(0, 256, (37, 71, 3), np.uint8)
    tiles = processor(images=Image.fromarray(pixels), return_tensors="pt").pixel_values[0]
    with torch.inference_mode():
        hidden = model.model.vision_tower(tiles, output_hidden_states=True).hidden_states[-1]
        tokens = model.model.multi_modal_projector(hidden)
    golden |= {"picture": pixels, "pixel_values": tiles.numpy(), "image_tokens": tokens.numpy()}
    np.savez_compressed(folder / "golden.npz", **golden)


def save_processor(folder: Path, processor: Any, tokenizer: Any) -> None:
    """Write the image processor as this generation's `LlavaOnevisionProcessor` would."""
    if transformers.__version__.startswith("4."):
        processor.save_pretrained(folder)
        return
    import json

    inner = json.loads(processor.to_json_string())
    content = {"image_processor": inner, "processor_class": "LlavaOnevisionProcessor"}
    (folder / "processor_config.json").write_text(json.dumps(content, indent=2) + "\n")


def main(out: Path) -> None:
    """Write all checkpoints."""
    if transformers.__version__ not in WRITERS:
        raise SystemExit(f"transformers {transformers.__version__}; expected one of {WRITERS}")
    for family in CONFIGS:
        write_language_model(out / family, family)
    write_onevision(out / "onevision")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
