"""LFM2 and Qwen3.5: what a recurrent state adds to exporting, held to transformers."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from edge_et.bundle import check_gguf
from edge_et.export.errors import (
    LeftoverTensorError,
    UnreadableCheckpointError,
    UnsupportedModelError,
)
from edge_et.export.families.llm_registry import config_of_gguf
from edge_et.export.families.vlm_registry import find_layout, read_llm
from edge_et.export.llm.compare_logits import PROMPTS, encode_prompts
from edge_et.export.llm.export_llm import export_llm
from edge_et.export.llm.export_lora import export_lora
from edge_et.export.llm.llama_for_tools import decode, loaded_model, native_library, open_context
from edge_et.export.llm.llama_logits import llama_logits, llama_tokens
from edge_et.llm import TokenSegment
from edge_et.quantize.importance_matrix import collect_importance
from edge_et.quantize.quantize_llm import quantize_llm
from edge_et.weights import Unsupported, reference_logits

MAX_ERROR = 3e-3
Exported = tuple[str, Path, Path]
POSITIONS = 100  # more than the 64 of a chunk that gated delta nets are evaluated in
GREEDY = 32
IDS = np.random.default_rng(5).integers(0, 400, POSITIONS, dtype=np.int32)


def single_steps(path: Path, steps: int, choose: Callable[[int, Any], int]) -> NDArray[np.float32]:
    """Decode token by token from an empty cache; `choose` names the next by position and logits."""
    rows = []
    with loaded_model(path) as model, open_context(model, path, steps) as context:
        library = native_library()
        width = library.llama_vocab_n_tokens(library.llama_model_get_vocab(model))
        for position in range(steps):
            token = choose(position, rows[-1] if rows else None)
            place = np.array([position], np.int32)
            decode(context, path, np.array([token], np.int32), place, outputs=True)
            logits = library.llama_get_logits(context)
            rows.append(np.ctypeslib.as_array(logits, shape=(width,)).copy())
    return np.array(rows)


def test_batched_and_single_logits_are_those_of_transformers(
    exported_hybrid: Exported,
) -> None:
    _, folder, out = exported_hybrid
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.inference_mode():
        expected = model(torch.tensor([IDS.tolist()])).logits[0].numpy()
    (batch,) = llama_logits(out, [IDS.tolist()])
    assert np.abs(batch - expected).max() < MAX_ERROR
    single = single_steps(out, POSITIONS, lambda position, _: int(IDS[position]))
    assert np.abs(single - expected).max() < MAX_ERROR
    # The state matters: another first token changes what is written at the end.
    with torch.inference_mode():
        other = model(torch.tensor([[7, *IDS[1:].tolist()]])).logits[0].numpy()
    assert np.abs(other[POSITIONS // 2] - expected[POSITIONS // 2]).max() > 10 * MAX_ERROR


def test_greedy_tokens_are_those_of_transformers(exported_hybrid: Exported) -> None:
    _, folder, out = exported_hybrid
    prompt = IDS[:10].tolist()
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.inference_mode():
        expected = model.generate(
            torch.tensor([prompt]),
            max_new_tokens=GREEDY,
            do_sample=False,
            eos_token_id=None,
            pad_token_id=0,
        )[0].tolist()
    written: list[int] = []

    def choose(position: int, logits: Any) -> int:
        written.append(prompt[position] if position < len(prompt) else int(logits.argmax()))
        return written[-1]

    single_steps(out, len(prompt) + GREEDY, choose)
    assert written == expected
    assert len(set(written)) > 5


def test_the_vocabulary_splits_text_as_the_tokenizer_does(exported_hybrid: Exported) -> None:
    family, folder, out = exported_hybrid
    texts = [*PROMPTS, "12345 \u00e9\u0301 \u0928\u092e\u0938\u094d\u0924\u0947 x1y22z333"]
    assert llama_tokens(out, texts) == encode_prompts(folder / "tokenizer.json", texts)
    stated = {"lfm2": "lfm2", "qwen3_5": "qwen35"}[family]
    assert gguf.GGUFReader(out).fields["tokenizer.ggml.pre"].contents() == stated


def test_what_is_not_multiplied_stays_in_float32(exported_hybrid: Exported, tmp_path: Path) -> None:
    family, folder, _ = exported_hybrid
    half = export_llm(folder, tmp_path / "half.gguf", dtype="F16").path
    prompts = [(TokenSegment(tuple(IDS.tolist())),)]
    importance = collect_importance(half, prompts)
    report = quantize_llm(half, tmp_path / "small.gguf", "Q8_0", importance=importance)
    assert report.error is not None
    assert report.error < 0.5  # random weights are sensitive; a wrong tensor gives more than 1
    tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(report.path).tensors}
    kept = {name for name, tensor in tensors.items() if tensor.tensor_type.name == "F32"}
    quantized = {name for name, tensor in tensors.items() if tensor.tensor_type.name == "Q8_0"}
    assert kept | quantized == set(tensors)
    assert {name for name in tensors if "conv" in name.split(".")[-2]} <= kept
    assert all(tensors[name].shape.size == 1 or "conv" in name for name in kept)
    inputs = {"lfm2": "blk.0.shortconv.in_proj.weight", "qwen3_5": "blk.0.attn_qkv.weight"}[family]
    assert inputs in quantized
    assert importance.keys() == {name for name in quantized if name.startswith("blk.")}


def test_what_reads_models_by_numpy_says_that_it_cannot(exported_hybrid: Exported) -> None:
    family, _, out = exported_hybrid
    check_gguf(out)
    found = reference_logits(out, None, IDS[:3])
    assert isinstance(found, Unsupported)
    assert family.replace("qwen3_5", "qwen35") in found.reason
    with pytest.raises(UnsupportedModelError, match="known:"):
        config_of_gguf(out)


def test_an_adapter_is_refused(exported_hybrid: Exported, tmp_path: Path) -> None:
    _, folder, _ = exported_hybrid
    (tmp_path / "adapter_config.json").write_text(
        json.dumps({"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj"]})
    )
    with pytest.raises(UnsupportedModelError, match="adapters for it are not supported"):
        export_lora(tmp_path, folder, tmp_path / "out.gguf")


def edited(folder: Path, changes: dict[str, Any], drop: tuple[str, ...] = ()) -> Path:
    path = folder / "config.json"
    content = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in content.items() if key not in drop}))
    return folder


def test_an_lfm2_of_transformers_4_is_the_same_model(
    make_llm: Callable[..., Path], tmp_path: Path
) -> None:
    folder = make_llm("lfm2")
    exports = [export_llm(folder, tmp_path / "5.gguf", check_logits=False).path]
    base = json.loads((folder / "config.json").read_text())["rope_parameters"]["rope_theta"]
    drop = ("rope_parameters", "tie_word_embeddings", "intermediate_size", "layer_types")
    older = {"rope_theta": base, "theta": base, "block_ff_dim": 96, "full_attn_idxs": [1, 3]}
    for name, changes in (("4", older), ("tied", {"tie_embedding": True})):
        edited(folder, changes, drop)
        exports.append(export_llm(folder, tmp_path / f"{name}.gguf").path)
    assert len({path.read_bytes() for path in exports}) == 1


@pytest.mark.parametrize(
    ("changes", "error", "match"),
    [
        ({"conv_bias": True}, UnsupportedModelError, "conv_bias"),
        ({"theta": 7.0}, UnreadableCheckpointError, "50000.0 by rope_theta and 7.0 by theta"),
        ({"layer_types": ["conv"] * 4}, UnsupportedModelError, "4 are convolutions and 0 atten"),
        ({"layer_types": ["full_attention"] * 4}, UnsupportedModelError, "0 are convolutions"),
        ({"layer_types": ["conv", "full_attention"]}, UnsupportedModelError, "of 4 layers 1"),
        ({"layer_types": ["conv", "mamba"] * 2}, UnsupportedModelError, "and no others"),
        ({"conv_L_cache": 1}, UnreadableCheckpointError, "conv_kernel"),
        ({"num_attention_heads": 2}, UnsupportedModelError, "2 heads of 16 are not 64 wide"),
        ({"block_multiple_of": "many"}, UnreadableCheckpointError, "block_multiple_of"),
        ({"architectures": ["Lfm2MoeForCausalLM"]}, UnsupportedModelError, "known: Llama"),
    ],
)
def test_an_lfm2_that_no_gguf_can_hold(
    make_llm: Callable[..., Path], changes: dict[str, Any], error: type[Exception], match: str
) -> None:
    folder = edited(make_llm("lfm2"), changes)
    with pytest.raises(error, match=match):
        read_llm(folder).open_tensors()


ROPE = {"rope_theta": 5e4, "rope_type": "default", "partial_rotary_factor": 0.25}


@pytest.mark.parametrize(
    ("changes", "error", "match"),
    [
        ({"linear_num_key_heads": 4}, UnsupportedModelError, "6 heads of values for 4 of keys"),
        ({"linear_value_head_dim": 8}, UnsupportedModelError, "values of 8 for keys of 16"),
        ({"rms_norm_eps": 1e-5}, UnsupportedModelError, "rms_norm_eps 1e-05"),
        ({"attention_bias": True}, UnsupportedModelError, "attention_bias"),
        ({"layer_types": ["linear_attention"] * 4}, UnsupportedModelError, "each one in so many"),
        (
            {"layer_types": ["linear_attention", "linear_attention", "full_attention", "x"]},
            UnsupportedModelError,
            "each one in so many",
        ),
        ({"partial_rotary_factor": 0.5}, UnreadableCheckpointError, "is 0.5 and, in"),
        (
            {"rope_parameters": ROPE | {"partial_rotary_factor": 0.01}},
            UnsupportedModelError,
            "a rotary width of 0",
        ),
        (
            {"rope_parameters": ROPE | {"mrope_section": [1, 2, 1]}},
            UnsupportedModelError,
            r"mrope_section \[1, 2, 1\]",
        ),
        (
            {"rope_parameters": ROPE | {"mrope_section": [40, 2, 1]}},
            UnsupportedModelError,
            r"mrope_section \[40, 2, 1\]",
        ),
        ({"linear_conv_kernel_dim": 1}, UnreadableCheckpointError, "conv_kernel"),
        ({"architectures": ["Qwen3_5MoeForCausalLM"]}, UnsupportedModelError, "known: Llama"),
    ],
)
def test_a_qwen35_that_no_gguf_can_hold(
    make_llm: Callable[..., Path], changes: dict[str, Any], error: type[Exception], match: str
) -> None:
    folder = edited(make_llm("qwen3_5"), changes)
    with pytest.raises(error, match=match):
        read_llm(folder).open_tensors()


def test_a_qwen35_may_tell_its_layers_by_an_interval(make_llm: Callable[..., Path]) -> None:
    folder = make_llm("qwen3_5")
    stated = read_llm(folder).config
    edited(folder, {"full_attention_interval": 4}, drop=("layer_types",))
    assert read_llm(folder).config == stated


@pytest.mark.parametrize("architecture", ["Qwen3_5ForConditionalGeneration", "Qwen3_5ForCausalLM"])
def test_a_qwen35_with_pictures_gives_its_text_model(
    make_llm: Callable[..., Path], tmp_path: Path, architecture: str
) -> None:
    folder = make_llm("qwen3_5")
    alone = export_llm(folder, tmp_path / "alone.gguf", check_logits=False).path
    weights = folder / "model.safetensors"
    tensors = {
        name.replace("model.", "model.language_model.", 1): values
        for name, values in load_file(weights).items()
    }
    others = {"model.visual.blocks.0.norm1.weight": torch.ones(2), "mtp.norm.weight": torch.ones(3)}
    save_file(tensors | others, weights)
    if architecture == "Qwen3_5ForConditionalGeneration":
        text = json.loads((folder / "config.json").read_text())
        whole = {"architectures": [architecture], "model_type": "qwen3_5", "text_config": text}
        (folder / "config.json").write_text(json.dumps(whole | {"tie_word_embeddings": True}))
    whole_export = export_llm(folder, tmp_path / "whole.gguf")
    assert whole_export.path.read_bytes() == alone.read_bytes()
    if architecture == "Qwen3_5ForCausalLM":
        with pytest.raises(UnsupportedModelError, match="no vision-language model"):
            find_layout(folder)
    save_file(tensors | {"model.language_model.extra": torch.ones(2)}, weights)
    with pytest.raises(LeftoverTensorError, match="extra"):
        read_llm(folder).open_tensors()
