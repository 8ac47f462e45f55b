import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from edge_et.errors import TuningError
from edge_et.export.errors import (
    LeftoverTensorError,
    MissingTensorError,
    TensorShapeError,
    UnreadableCheckpointError,
    UnsupportedModelError,
)
from edge_et.export.llm.compare_logits import gguf_against_checkpoint
from edge_et.export.llm.export_llm import MAX_LOGIT_ERROR, export_llm
from edge_et.export.llm.export_lora import export_lora
from edge_et.tuning.training.lora_file import read_adapter

LINEARS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def save_adapter(base: Path, folder: Path, **options: Any) -> Path:
    torch.manual_seed(11)
    settings: dict[str, Any] = {"r": 4, "lora_alpha": 8, "target_modules": LINEARS} | options
    config = LoraConfig(**settings)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), config)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(str(folder))
    return folder


@pytest.fixture
def adapter(llama_folder: Path, tmp_path: Path) -> Path:
    return save_adapter(llama_folder, tmp_path / "peft")


@pytest.mark.parametrize(
    ("family", "tied", "options"),
    [
        ("llama", True, {}),
        ("qwen3", True, {"use_rslora": True}),
        ("llama", False, {"target_modules": ["k_proj", "down_proj"]}),
        ("qwen3", True, {"target_modules": r"model\.layers\.1\..*k_proj"}),
    ],
)
def test_adapted_logits_are_those_of_peft(
    make_llm: Callable[..., Path], tmp_path: Path, family: str, tied: bool, options: dict[str, Any]
) -> None:
    base = make_llm(family, tied=tied)
    model = export_llm(base, tmp_path / "model.gguf", dtype="F32", check_logits=False).path
    adapter = save_adapter(base, tmp_path / "peft", **options)
    out = export_lora(adapter, base, tmp_path / "lora.gguf", dtype="F32").path
    adapted = gguf_against_checkpoint(model, base, gguf_adapter=out, peft_adapter=adapter)
    plain = gguf_against_checkpoint(model, base, peft_adapter=adapter)
    assert adapted.max_abs < MAX_LOGIT_ERROR
    assert plain.max_abs > 0.5
    by_gguf = export_lora(adapter, model, tmp_path / "by_gguf.gguf", dtype="F32").path
    assert by_gguf.read_bytes() == out.read_bytes()


def test_half_precision_is_close_and_half_as_large(
    llama_folder: Path, llama_gguf: Path, adapter: Path, tmp_path: Path
) -> None:
    whole = export_lora(adapter, llama_folder, tmp_path / "f32.gguf", dtype="F32")
    half = export_lora(adapter, llama_gguf, tmp_path / "f16.gguf")
    assert half.size_bytes < 0.65 * whole.size_bytes
    assert half.details == {"rank": 4, "alpha": 8.0, "adapted_linears": 14}
    difference = gguf_against_checkpoint(
        llama_gguf, llama_folder, gguf_adapter=half.path, peft_adapter=adapter
    )
    assert difference.mean_kl < 1e-3


@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_an_adapter_comes_back_from_its_file(
    make_llm: Callable[..., Path], tmp_path: Path, family: str
) -> None:
    base = make_llm(family)
    model = export_llm(base, tmp_path / "model.gguf", dtype="F32", check_logits=False).path
    adapter = save_adapter(base, tmp_path / "peft")
    out = export_lora(adapter, model, tmp_path / "lora.gguf", dtype="F32").path
    again = read_adapter(out, model)
    expected = load_file(adapter / "adapter_model.safetensors")
    assert again.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(again[name], tensor, rtol=0, atol=0)


def test_a_model_is_no_adapter(llama_gguf: Path) -> None:
    with pytest.raises(TuningError, match="no LoRA adapter"):
        read_adapter(llama_gguf, llama_gguf)


def refused(adapter: Path, base: Path, error: type[Exception], match: str) -> None:
    out = adapter.parent / "refused" / "lora.gguf"
    with pytest.raises(error, match=match):
        export_lora(adapter, base, out)
    assert not out.parent.exists() or list(out.parent.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "error", "match"),
    [
        ({"use_dora": True}, UnsupportedModelError, "use_dora"),
        ({"peft_type": "LOHA"}, UnsupportedModelError, "'LOHA'"),
        ({"modules_to_save": ["lm_head"]}, UnsupportedModelError, "modules_to_save"),
        ({"rank_pattern": {"q_proj": 8}}, UnsupportedModelError, "rank_pattern"),
        ({"target_modules": ["embed_tokens"]}, UnsupportedModelError, "not a linear"),
        ({"target_modules": ["nothing"]}, UnsupportedModelError, "no such linear"),
        ({"target_modules": "("}, UnreadableCheckpointError, "target_modules"),
        ({"target_modules": ["q_proj"]}, LeftoverTensorError, "down_proj"),
        ({"r": 8}, TensorShapeError, r"lora_A\.weight has shape \[4, 64\].*\[8, 64\]"),
        ({"r": "four"}, UnreadableCheckpointError, r"\$\.r"),
    ],
)
def test_adapter_configs_that_do_not_fit_are_refused(
    adapter: Path, llama_folder: Path, changes: dict[str, Any], error: type[Exception], match: str
) -> None:
    path = adapter / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    refused(adapter, llama_folder, error, match)


def test_half_a_pair_is_refused(adapter: Path, llama_folder: Path) -> None:
    path = adapter / "adapter_model.safetensors"
    tensors = load_file(path)
    del tensors["base_model.model.model.layers.0.mlp.up_proj.lora_B.weight"]
    save_file(tensors, path)
    refused(adapter, llama_folder, MissingTensorError, r"up_proj\.lora_B")


def test_an_adapter_for_another_model_is_refused(
    adapter: Path, make_llm: Callable[..., Path]
) -> None:
    other = make_llm("llama", num_hidden_layers=1)
    refused(adapter, other, LeftoverTensorError, r"layers\.1\.")


def test_a_base_that_is_no_gguf_is_refused(adapter: Path, tmp_path: Path) -> None:
    base = tmp_path / "base.gguf"
    refused(adapter, base, UnreadableCheckpointError, "cannot be read as a GGUF")
    base.write_bytes(b"GGUF\x03\x00\x00\x00" + b"\x7f" * 64)
    refused(adapter, base, UnreadableCheckpointError, "cannot be read as a GGUF")
