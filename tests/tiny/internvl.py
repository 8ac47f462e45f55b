"""Random checkpoints of InternVL in both layouts, and what transformers makes of them."""

import json
import re
import shutil
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken, Tokenizer
from transformers import (
    InternVLConfig,
    InternVLForConditionalGeneration,
    InternVLProcessor,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
)
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil

from tiny.vlm import LLAVA, Tensors

Kind = Literal["qwen2", "qwen3"]
CONFIGS: dict[Kind, Any] = {"qwen2": Qwen2Config, "qwen3": Qwen3Config}

TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' }}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for content in message['content'] %}{% if content['type'] == 'image' %}"
    "{{ '<IMG_CONTEXT>\\n' }}{% elif content['type'] == 'text' %}{{ content['text'] }}"
    "{% endif %}{% endfor %}{% endif %}{{ '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
"""What the published checkpoints write."""

SYSTEM = (
    "\u4f60\u662f\u4e66\u751f\u00b7\u4e07\u8c61\uff0c\u82f1\u6587\u540d\u662fInternVL\uff0c"
    "\u662f\u7531\u4e0a\u6d77\u4eba\u5de5\u667a\u80fd\u5b9e\u9a8c\u5ba4\u3001"
    "\u6e05\u534e\u5927\u5b66\u53ca\u591a\u5bb6\u5408\u4f5c\u5355\u4f4d"
    "\u8054\u5408\u5f00\u53d1\u7684\u591a\u6a21\u6001\u5927\u8bed\u8a00\u6a21\u578b\u3002"
)
"""Of the conversation template `internvl2_5`, as OpenGVLab/InternVL has it."""

TILE, PATCH, TOKENS, MOST = 32, 8, 4, 6
ROWS = 2016
DYNAMIC_ROPE = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 50_000.0}
"""As in most of the published configs."""

_ORIGINAL_NAMES = (
    (r"vision_tower\.embeddings\.cls_token", "vision_model.embeddings.class_embedding"),
    (
        r"vision_tower\.embeddings\.position_embeddings",
        "vision_model.embeddings.position_embedding",
    ),
    (
        r"vision_tower\.embeddings\.patch_embeddings\.projection",
        "vision_model.embeddings.patch_embedding",
    ),
    (r"vision_tower\.encoder\.layer\.", "vision_model.encoder.layers."),
    (r"\.attention\.projection_layer\.", ".attn.proj."),
    (r"\.attention\.", ".attn."),
    (r"\.layernorm_before\.", ".norm1."),
    (r"\.layernorm_after\.", ".norm2."),
    (r"\.lambda_([12])", r".ls\1"),
    (r"multi_modal_projector\.layer_norm\.", "mlp1.0."),
    (r"multi_modal_projector\.linear_1\.", "mlp1.1."),
    (r"multi_modal_projector\.linear_2\.", "mlp1.3."),
)


def make_tokenizer() -> Tokenizer:
    tokenizer = Tokenizer.from_file(str(LLAVA / "tokenizer.json"))
    marks = ("<img>", "</img>", "<IMG_CONTEXT>", "<video>")
    tokenizer.add_tokens([AddedToken(mark, normalized=False, special=True) for mark in marks])
    return tokenizer


def write_internvl(
    folder: Path,
    kind: Kind = "qwen2",
    *,
    tied: bool = False,
    least: int = 1,
    ratio: float = 0.5,
    **vision: Any,
) -> Path:
    """Write a checkpoint as transformers does."""
    tokenizer = make_tokenizer()
    ends = tokenizer.token_to_id("<|im_end|>")
    text = CONFIGS[kind](
        vocab_size=ROWS,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        max_position_embeddings=8192,
        rope_parameters=DYNAMIC_ROPE,
        tie_word_embeddings=tied,
        initializer_range=0.15,
        bos_token_id=None,
        eos_token_id=ends,
        pad_token_id=None,
    )
    tokens = int((TILE // PATCH * ratio) ** 2)
    config = InternVLConfig(
        text_config=text.to_dict(),
        vision_config={
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": TILE,
            "patch_size": PATCH,
            "initializer_range": 0.3,
            "attention_bias": True,
        }
        | vision,
        image_token_id=tokenizer.token_to_id("<IMG_CONTEXT>"),
        image_seq_length=tokens,
        downsample_ratio=ratio,
        tie_word_embeddings=tied,
    )
    torch.manual_seed(12)
    model = InternVLForConditionalGeneration(config).eval()
    for name, parameter in model.named_parameters():
        if "norm" in name or "lambda" in name:
            torch.nn.init.uniform_(parameter, 0.5, 1.5)
        elif name.endswith("bias") or "position_embeddings" in name or "cls_token" in name:
            torch.nn.init.normal_(parameter)
        elif "embed_tokens" in name or "multi_modal_projector" in name:
            torch.nn.init.normal_(parameter, std=0.5)
    model.generation_config.eos_token_id = ends
    model.save_pretrained(folder)
    load_tokenizer(tokenizer).save_pretrained(folder)
    image_processor(least).save_pretrained(folder)
    (folder / "processor_config.json").write_text(
        json.dumps({"image_seq_length": tokens, "processor_class": "InternVLProcessor"})
    )
    return folder


def load_tokenizer(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        chat_template=TEMPLATE,
        extra_special_tokens={
            "start_image_token": "<img>",
            "end_image_token": "</img>",
            "context_image_token": "<IMG_CONTEXT>",
            "video_token": "<video>",
        },
    )


def image_processor(least: int = 1) -> Any:
    return GotOcr2ImageProcessorPil(
        size={"height": TILE, "width": TILE},
        image_mean=[0.485, 0.456, 0.406],
        image_std=[0.229, 0.224, 0.225],
        min_patches=least,
        max_patches=MOST,
    )


def write_older_tokenizer_files(folder: Path) -> None:
    """Write the files that a checkpoint of InternVL's own code has in place of tokenizer.json."""
    content = json.loads((folder / "tokenizer.json").read_text())
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.json").write_text(json.dumps(content["model"]["vocab"]))
    merges = (" ".join(pair) for pair in content["model"]["merges"])
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]))
    added = {str(token.pop("id")): token for token in content["added_tokens"]}
    config = {
        "add_prefix_space": False,
        "added_tokens_decoder": added,
        "eos_token": "<|im_end|>",
        "model_max_length": 8192,
        "pad_token": "<|endoftext|>",
        "tokenizer_class": "Qwen2Tokenizer",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


def write_original(folder: Path, source: Path) -> Path:
    """Write a checkpoint of transformers' layout in that of InternVL's own code."""
    folder.mkdir()
    for path in source.iterdir():
        if path.name.startswith("tokenizer") or path.name == "generation_config.json":
            shutil.copy(path, folder)
    content = json.loads((source / "config.json").read_text())
    vision, text = content["vision_config"], content["text_config"]
    text["architectures"] = [f"{text['model_type'].capitalize()}ForCausalLM"]
    text |= {"rope_scaling": {"type": "dynamic", "factor": 2.0}, "rope_theta": 50_000.0}
    del text["rope_parameters"]
    vision |= {
        "architectures": ["InternVisionModel"],
        "model_type": "intern_vit_6b",
        "image_size": vision["image_size"][0],
        "patch_size": vision["patch_size"][0],
        "qkv_bias": vision.pop("attention_bias"),
        "qk_normalization": vision.pop("use_qk_norm"),
        "drop_path_rate": 0.1,
        "use_flash_attn": True,
    }
    code = "modeling_internvl_chat.InternVLChatModel"
    config = {
        "architectures": ["InternVLChatModel"],
        "auto_map": {"AutoConfig": "configuration.InternVLChatConfig", "AutoModel": code},
        "model_type": "internvl_chat",
        "downsample_ratio": content["downsample_ratio"],
        "dynamic_image_size": True,
        "force_image_size": TILE,
        "llm_config": text,
        "max_dynamic_patch": MOST,
        "min_dynamic_patch": 1,
        "pad2square": False,
        "ps_version": "v2",
        "select_layer": -1,
        "system_message": None,
        "template": "internvl2_5",
        "use_backbone_lora": 0,
        "use_llm_lora": 0,
        "use_thumbnail": True,
        "vision_config": vision,
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "modeling_internvl_chat.py").write_text("raise SystemExit('this code was run')\n")
    save_file(
        original_tensors(load_file(source / "model.safetensors")), folder / "model.safetensors"
    )
    return folder


def original_tensors(tensors: Tensors) -> Tensors:
    """Call tensors as InternVL's own code does, and join queries, keys and values."""
    made: Tensors = {}
    for name, tensor in tensors.items():
        for pattern, replacement in _ORIGINAL_NAMES:
            name = re.sub(pattern, replacement, name)
        made[name] = tensor
    for name in [name for name in made if ".attn.q_proj." in name]:
        three = [made.pop(name.replace(".q_proj.", f".{letter}_proj.")) for letter in "qkv"]
        made[name.replace(".q_proj.", ".qkv.")] = torch.cat(three)
    return made


class _Processor(InternVLProcessor):  # type: ignore[misc]
    """Without its part for videos, which needs torchvision."""

    def check_argument_for_proper_class(self, argument_name: str, argument: Any) -> Any:
        if argument_name != "video_processor":
            return super().check_argument_for_proper_class(argument_name, argument)
        return None


class Reference:
    """A checkpoint as transformers runs it."""

    def __init__(self, folder: Path) -> None:
        self.model: Any = InternVLForConditionalGeneration.from_pretrained(
            folder, dtype=torch.float32
        ).eval()
        self.model.generation_config.eos_token_id = None
        self.processor: Any = _Processor(
            GotOcr2ImageProcessorPil.from_pretrained(folder),
            load_tokenizer(make_tokenizer()),
            image_seq_length=self.model.config.image_seq_length,
            chat_template=TEMPLATE,
        )

    def inputs(
        self, pictures: list[Image.Image], words: str, system: str | None = None
    ) -> dict[str, torch.Tensor]:
        """A question about pictures: ids, mask and pixel values."""
        content = [*({"type": "image"} for _ in pictures), {"type": "text", "text": words}]
        turns = [{"role": "user", "content": content}]
        if system is not None:
            turns.insert(0, {"role": "system", "content": [{"type": "text", "text": system}]})
        text = self.processor.apply_chat_template(turns, add_generation_prompt=True)
        return dict(self.processor(images=pictures, text=text, return_tensors="pt"))

    def write(
        self, pictures: list[Image.Image], words: str, count: int, known: int, system: str | None
    ) -> tuple[NDArray[np.float32], list[int]]:
        """The logits behind a question, of the ids that are known, and as many greedy tokens."""
        inputs = self.inputs(pictures, words, system)
        made = self.model.generate(
            **{name: inputs[name] for name in ("input_ids", "attention_mask", "pixel_values")},
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
            rows = self.model.get_image_features(pixel_values).pooler_output
        return cast(NDArray[np.float32], rows.numpy())
