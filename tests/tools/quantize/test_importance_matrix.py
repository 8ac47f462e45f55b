"""The importance matrix: collected by llama.cpp, compared with torch, used by the quantizer."""

import ctypes
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from numpy.typing import NDArray
from transformers import AutoModelForCausalLM

from edge_et.cli.app import app
from edge_et.export.errors import NativeModelError, QuantizationError
from edge_et.export.llm.compare_logits import PROMPTS, encode_prompts
from edge_et.export.llm.export_llm import export_llm
from edge_et.image import ImageTokens
from edge_et.llm import ImageSegment, Segment, TokenSegment
from edge_et.quantize import ggml_tensors as ggml
from edge_et.quantize.importance_matrix import collect_importance
from edge_et.quantize.quantize_llm import TYPES_BY_IMPORTANCE, quantize_llm

NAMES = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def token_prompts(folder: Path, texts: Sequence[str] = PROMPTS) -> list[tuple[Segment, ...]]:
    return [(TokenSegment(tuple(ids)),) for ids in encode_prompts(folder / "tokenizer.json", texts)]


def mean_squares(folder: Path, prompts: Sequence[Sequence[Segment]]) -> dict[str, NDArray[Any]]:
    """By torch, of what comes into each linear of the layers."""
    model = AutoModelForCausalLM.from_pretrained(folder)
    seen: dict[str, list[torch.Tensor]] = {}
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear):
            module.register_forward_pre_hook(
                lambda module, args, name=name: seen.setdefault(name, []).append(args[0][0])
            )
    for prompt in prompts:
        parts = []
        for segment in prompt:
            if isinstance(segment, ImageSegment):
                parts.append(torch.tensor(segment.image.rows))
            else:
                parts.append(model.get_input_embeddings()(torch.tensor(segment.ids)))
        with torch.inference_mode():
            model(inputs_embeds=torch.cat(parts)[None])
    return {name: torch.cat(rows).square().mean(0).numpy() for name, rows in seen.items()}


@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_it_is_the_mean_square_of_what_comes_in(
    family: Any, make_llm: Callable[..., Path], tmp_path: Path
) -> None:
    folder = make_llm(family)
    gguf = export_llm(folder, tmp_path / "f32.gguf", dtype="F32", check_logits=False).path
    prompts = token_prompts(folder)
    rows = np.random.default_rng(1).standard_normal((20, 64), dtype=np.float32)
    prompts[1] = (*prompts[0], ImageSegment(ImageTokens(rows, "random")), *prompts[1])
    # llama.cpp computes what comes in by each channel only where somebody wants logits: of the
    # last layer behind attention, not at images.
    expected = mean_squares(folder, prompts)
    found = collect_importance(gguf, prompts)
    assert found.keys() == {f"blk.{layer}.{name}.weight" for layer in (0, 1) for name in NAMES}
    for name, means in found.items():
        _, layer, kind, _ = name.split(".")
        if layer == "0" or kind in ("attn_q", "attn_k", "attn_v"):
            reference = expected[f"model.layers.{layer}.{NAMES[kind]}"]
            np.testing.assert_allclose(means, reference, rtol=1e-3, atol=1e-6, err_msg=name)


@pytest.fixture
def uneven(make_llm: Callable[..., Path]) -> tuple[Path, list[tuple[Segment, ...]]]:
    """A model whose channels differ in loudness by orders of magnitude, and prompts for it."""
    folder = make_llm(
        "qwen3", hidden_size=256, head_dim=64, intermediate_size=256, initializer_range=0.05
    )
    model = AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "layernorm" in name:
                parameter.copy_(torch.logspace(-2, 1, len(parameter)).roll(len(name)))
    model.save_pretrained(folder)
    gguf = export_llm(folder, folder / "f32.gguf", dtype="F32", check_logits=False).path
    return gguf, token_prompts(folder)


def test_what_matters_is_rounded_more_carefully(
    uneven: tuple[Path, list[tuple[Segment, ...]]], tmp_path: Path
) -> None:
    source, prompts = uneven
    importance = collect_importance(source, prompts[:2])
    for name in ("Q2_K", "Q3_K_M", "Q4_K_M", "Q4_0"):
        without = quantize_llm(source, tmp_path / "a.gguf", name, prompts=prompts[2:])
        guided = quantize_llm(
            source, tmp_path / "b.gguf", name, prompts=prompts[2:], importance=importance
        )
        assert without.error is not None
        assert guided.error is not None
        assert guided.error < without.error, name
        assert abs(guided.size_bytes - without.size_bytes) < 0.1 * without.size_bytes


def test_the_smallest_types_need_it(
    uneven: tuple[Path, list[tuple[Segment, ...]]], tmp_path: Path
) -> None:
    source, prompts = uneven
    out = tmp_path / "out.gguf"
    importance = collect_importance(source, prompts)
    for name in TYPES_BY_IMPORTANCE:
        with pytest.raises(QuantizationError, match=f"{name} needs an importance matrix"):
            quantize_llm(source, out, name)
    for name in ("Q2_K_S", "IQ3_XXS"):  # the others take long
        report = quantize_llm(source, out, name, importance=importance, prompts=prompts[:1])
        assert report.size_bytes < source.stat().st_size / 4
    partial = {name: means for name, means in importance.items() if "blk.1" not in name}
    with pytest.raises(QuantizationError, match="Missing importance matrix"):
        quantize_llm(source, tmp_path / "partial.gguf", "IQ3_XXS", importance=partial)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.gguf", "qwen3"]


def test_the_same_prompts_give_the_same_file(
    uneven: tuple[Path, list[tuple[Segment, ...]]], tmp_path: Path
) -> None:
    source, prompts = uneven
    files = []
    for number in range(2):
        importance = collect_importance(source, prompts, threads=1 + number)
        out = tmp_path / f"{number}.gguf"
        quantize_llm(source, out, "Q2_K", importance=importance, prompts=prompts[:1])
        files.append(out.read_bytes())
    assert files[0] == files[1]


def test_tensors_in_another_form_are_refused(
    llama_gguf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Shifted(ctypes.Structure):
        _fields_ = (("inserted", ctypes.c_void_p), *ggml.Tensor._fields_)

    monkeypatch.setattr(ggml, "Tensor", Shifted)
    with pytest.raises(NativeModelError, match=r"form that is not known.*0\.3\.36"):
        collect_importance(llama_gguf, [(TokenSegment((1, 2)),)])


def test_an_error_inside_the_callback_comes_out(
    llama_gguf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(tensor: Any) -> Any:
        raise ValueError("broken")

    monkeypatch.setattr("edge_et.quantize.importance_matrix.rows_of", broken)
    with pytest.raises(ValueError, match="broken"):
        collect_importance(llama_gguf, [(TokenSegment((1, 2)),)])


def test_no_prompts_are_no_evidence(llama_gguf: Path) -> None:
    with pytest.raises(QuantizationError, match="needs prompts"):
        collect_importance(llama_gguf, [])


def test_the_command_reads_prompts_from_a_file(llama_gguf: Path, tmp_path: Path) -> None:
    prompts, out = tmp_path / "prompts.txt", tmp_path / "out.gguf"
    prompts.write_text("<|im_start|>user\nWhat is this?<|im_end|>\n\n\nTwo people wait.\n")
    arguments = ["quantize", "llm", str(llama_gguf), "Q4_0", "--out", str(out)]
    result = CliRunner().invoke(app, [*arguments, "--importance", str(prompts)])
    assert result.exit_code == 0, result.output
    guided = out.read_bytes()
    assert CliRunner().invoke(app, arguments).exit_code == 0
    assert out.read_bytes() != guided
    prompts.write_bytes(b"\xff")
    with pytest.raises(QuantizationError, match="cannot be read"):
        CliRunner().invoke(app, [*arguments, "--importance", str(prompts)], catch_exceptions=False)
