from collections.abc import Callable
from pathlib import Path

import gguf
import pytest
from tiny.children import die
from tiny.places import ROOT

from edge_et.export.errors import (
    NativeModelError,
    ParityError,
    QuantizationError,
    UnknownQuantizationError,
)
from edge_et.export.llm.export_llm import export_llm
from edge_et.quantize import quantize_llm as quantize_llm_module
from edge_et.quantize.quantize_llm import TYPES, TYPES_BY_IMPORTANCE, quantize_llm


def test_quantized_files_are_smaller_and_tell_their_divergence(
    make_llm: Callable[..., Path], tmp_path: Path
) -> None:
    folder = make_llm("llama", hidden_size=256, intermediate_size=512, initializer_range=0.05)
    source = export_llm(folder, tmp_path / "f16.gguf", check_logits=False).path
    divergences: dict[str, float] = {}
    sizes: dict[str, int] = {}
    for name in ("Q8_0", "Q6_K", "Q4_K_M", "Q4_0", "Q2_K"):
        report = quantize_llm(source, tmp_path / f"{name}.gguf", name, threads=2)
        assert report.size_bytes == report.path.stat().st_size
        assert report.details["source_size_bytes"] == source.stat().st_size
        assert report.error is not None
        divergences[name], sizes[name] = report.error, report.size_bytes
    assert divergences["Q8_0"] < divergences["Q6_K"] < divergences["Q4_K_M"] < divergences["Q2_K"]
    assert sizes["Q2_K"] < sizes["Q4_K_M"] < sizes["Q6_K"] < sizes["Q8_0"] < source.stat().st_size
    tensors = {t.name: t for t in gguf.GGUFReader(tmp_path / "Q4_K_M.gguf").tensors}
    assert tensors["blk.0.attn_q.weight"].tensor_type.name == "Q4_K"


def test_every_type_is_one_of_llama_cpps() -> None:
    import llama_cpp

    every = TYPES + TYPES_BY_IMPORTANCE
    assert [name for name in every if not hasattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{name}")] == []


def test_too_much_divergence_is_an_error(llama_gguf: Path, tmp_path: Path) -> None:
    with pytest.raises(ParityError, match="mean KL"):
        quantize_llm(llama_gguf, tmp_path / "out.gguf", "Q4_0", max_mean_kl=1e-9)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_type_lists_the_known_ones(llama_gguf: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownQuantizationError, match=r"'Q9'; known: Q2_K, .* Q8_0") as caught:
        quantize_llm(llama_gguf, tmp_path / "out.gguf", "Q9")
    assert caught.value.valid == TYPES + TYPES_BY_IMPORTANCE


def test_sources_that_cannot_be_quantized(llama_gguf: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.gguf"
    with pytest.raises(QuantizationError, match="does not exist"):
        quantize_llm(tmp_path / "missing.gguf", out, "Q8_0")
    garbage = tmp_path / "garbage.gguf"
    garbage.write_bytes(b"garbage")
    with pytest.raises(NativeModelError, match=r"garbage\.gguf: it is no whole GGUF"):
        quantize_llm(garbage, out, "Q8_0")
    quantize_llm(llama_gguf, tmp_path / "once.gguf", "Q8_0")
    with pytest.raises(QuantizationError, match="requantizing"):
        quantize_llm(tmp_path / "once.gguf", out, "Q4_0")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["garbage.gguf", "once.gguf"]


def test_a_quantizer_that_dies_leaves_nothing(
    llama_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests"))
    monkeypatch.setattr(quantize_llm_module, "run_quantizer", die)
    with pytest.raises(NativeModelError, match=r"llama\.gguf made llama\.cpp end .*signal 6"):
        quantize_llm(llama_gguf, tmp_path / "out.gguf", "Q8_0")
    assert list(tmp_path.iterdir()) == []
