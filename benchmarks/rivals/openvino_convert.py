"""Convert a synthetic bundle: a model for OpenVINO GenAI with the same dimensions.

``python -m edge_et.benchmarks.rivals.openvino_convert FOLDER`` writes it into the bundle's folder,
once with int8 and once with int4 weights: a LLaVA of random weights, exported and quantized by
optimum-intel with its own defaults. That needs other versions of transformers than the rest of
this package, and so an environment of its own; the benchmark needs openvino-genai alone.
"""

import re
import shutil
import sys
from pathlib import Path
from typing import Any

from edge_et.benchmarks.rivals.openvino_files import IMAGE_TOKEN, WEIGHTS, converted_folder
from edge_et.benchmarks.synthetic.shapes import SHAPES, BundleShape, LlmShape
from edge_et.benchmarks.synthetic.synthetic_tokenizer import SPECIAL, new_tokenizer, write_tokenizer
from edge_et.bundle import load_bundle
from edge_et.errors import BenchError, EdgeETError
from edge_et.native_libraries import import_library
from edge_et.store import partial_folder

_WORD = re.compile("Ġ[a-z]{4}")
_QUIET = 0.1  # how much smaller the rows of all tokens are that are no words
_GROUP_SIZES = (128, 64, 32)


def shape_of(folder: Path) -> BundleShape:
    """Return the dimensions of a synthetic bundle.

    Args:
        folder: the bundle's.

    Raises:
        BundleError: it is no bundle.
        BenchError: it is no synthetic one, has a reasoner of its own, or is no LLaVA.
    """
    name = load_bundle(folder).manifest.name
    found = [shape for shape in SHAPES.values() if shape.name.replace("+", "-") == name]
    if not found:
        raise BenchError(
            f"{name} is no synthetic bundle; those can be imitated: {', '.join(SHAPES)}"
        )
    if found[0].reasoner is not None:
        raise BenchError(f"{name} has two language models, which one VLMPipeline cannot hold")
    if found[0].tower.projector != "mlp":
        raise BenchError(f"{name} is no LLaVA, which is all that is imitated")
    return found[0]


def group_size(shape: LlmShape) -> int:
    """Return how many int4 weights share a scale: OpenVINO's 128, or what the widths allow."""
    widths = (shape.width, shape.feed_forward, shape.heads * shape.head_width)
    return next(size for size in _GROUP_SIZES if all(width % size == 0 for width in widths))


def tokenizer_content(shape: LlmShape) -> dict[str, Any]:
    """Return the content of a tokenizer.json that has a token for the picture too."""
    size = min(shape.vocabulary, shape.rows - len(SPECIAL) - 1)
    content = new_tokenizer(size)
    last = content["added_tokens"][-1]
    content["added_tokens"].append(last | {"id": last["id"] + 1, "content": IMAGE_TOKEN})
    return content


def preprocessor(shape: BundleShape) -> dict[str, Any]:
    """Return what GenAI does with a picture: its shorter side fits, a square is cut out."""
    side = shape.tower.image
    return {
        "image_processor_type": "CLIPImageProcessor",
        "do_resize": True,
        "size": {"shortest_edge": side},
        "do_center_crop": True,
        "crop_size": {"height": side, "width": side},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
        "do_convert_rgb": True,
        "resample": 3,
    }


def convert(folder: Path) -> None:
    """Write the models that are not there yet.

    Args:
        folder: of a synthetic bundle.

    Raises:
        BundleError: it is no bundle.
        BenchError: its dimensions cannot be imitated.
        OSError: the folder cannot be written.
    """
    import msgspec

    import_library("openvino")  # before optimum does
    from optimum.intel import OVModelForVisualCausalLM, OVWeightQuantizationConfig

    shape = shape_of(folder)
    size = group_size(shape.perceiver)
    options = {"int8": {"bits": 8}, "int4": {"bits": 4, "group_size": size}}
    missing = [weights for weights in WEIGHTS if not converted_folder(folder, weights).exists()]
    if not missing:
        return
    with partial_folder(folder) as draft:
        source, exported = draft / "source", draft / "exported"
        tokenizer = _write_checkpoint(shape, source)
        model = OVModelForVisualCausalLM.from_pretrained(
            source, export=True, compile=False, load_in_8bit=False
        )
        model.save_pretrained(exported)
        del model
        shutil.rmtree(source)
        for weights in missing:
            made = draft / weights
            quantized = OVModelForVisualCausalLM.from_pretrained(
                exported,
                compile=False,
                quantization_config=OVWeightQuantizationConfig(**options[weights]),
            )
            quantized.save_pretrained(made)
            del quantized
            _write_tokenizer(tokenizer, made)
            config = msgspec.json.encode(preprocessor(shape))
            (made / "preprocessor_config.json").write_bytes(config)
            made.replace(converted_folder(folder, weights))


def _write_checkpoint(shape: BundleShape, folder: Path) -> Any:
    """Write a LLaVA as transformers stores it, and return its tokenizer."""
    import torch
    from transformers import (
        CLIPImageProcessor,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
        PreTrainedTokenizerFast,
    )

    folder.mkdir()
    content = tokenizer_content(shape.perceiver)
    ids = {token["content"]: token["id"] for token in content["added_tokens"]}
    write_tokenizer(folder / "tokenizer.json", content)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(folder / "tokenizer.json"),
        eos_token=SPECIAL[-1],
        pad_token=SPECIAL[0],
        extra_special_tokens={"image_token": IMAGE_TOKEN},
    )
    config = LlavaConfig(
        vision_config=_vision_config(shape),
        text_config=_text_config(shape, ids),
        image_token_index=ids[IMAGE_TOKEN],
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
        tie_word_embeddings=True,
    )
    torch.manual_seed(1)
    model = LlavaForConditionalGeneration(config)
    words = [row for text, row in content["model"]["vocab"].items() if _WORD.fullmatch(text)]
    factors = torch.full((shape.perceiver.rows, 1), _QUIET)
    factors[words] = 1.0
    embeddings: Any = model.get_input_embeddings()
    with torch.no_grad():  # so that words are written, and no token for the picture or the end
        embeddings.weight.mul_(factors)
    model.save_pretrained(folder)
    LlavaProcessor(
        image_processor=CLIPImageProcessor(**preprocessor(shape)),
        tokenizer=tokenizer,
        patch_size=shape.tower.patch,
        vision_feature_select_strategy="full",
    ).save_pretrained(folder)
    return tokenizer


def _vision_config(shape: BundleShape) -> Any:
    from transformers import SiglipVisionConfig

    return SiglipVisionConfig(
        hidden_size=shape.tower.width,
        num_hidden_layers=shape.tower.layers,
        num_attention_heads=shape.tower.heads,
        intermediate_size=shape.tower.feed_forward,
        patch_size=shape.tower.patch,
        image_size=shape.tower.image,
    )


def _text_config(shape: BundleShape, ids: dict[str, int]) -> Any:
    from transformers import LlamaConfig, Qwen3Config

    llm = shape.perceiver
    kind = {"llama": LlamaConfig, "qwen3": Qwen3Config}[llm.architecture]
    return kind(
        hidden_size=llm.width,
        num_hidden_layers=llm.layers,
        num_attention_heads=llm.heads,
        num_key_value_heads=llm.kv_heads,
        head_dim=llm.head_width,
        intermediate_size=llm.feed_forward,
        vocab_size=llm.rows,
        max_position_embeddings=shape.context_length,
        rms_norm_eps=llm.norm_epsilon,
        rope_theta=llm.rope_base,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=ids[SPECIAL[-1]],
        pad_token_id=ids[SPECIAL[0]],
    )


def _write_tokenizer(tokenizer: Any, folder: Path) -> None:
    openvino = import_library("openvino")
    tokenizer.save_pretrained(folder)
    models = import_library("openvino_tokenizers").convert_tokenizer(
        tokenizer, with_detokenizer=True
    )
    for name, model in zip(("tokenizer", "detokenizer"), models, strict=True):
        openvino.save_model(model, folder / f"openvino_{name}.xml")


def main() -> None:
    """Convert, and leave with status 1 and one line on stderr if it cannot be done."""
    if len(sys.argv) != 2:
        sys.exit("usage: python -m edge_et.benchmarks.rivals.openvino_convert FOLDER")
    try:
        convert(Path(sys.argv[1]))
    except (EdgeETError, ImportError, OSError) as err:
        sys.exit(str(err))


if __name__ == "__main__":
    main()
