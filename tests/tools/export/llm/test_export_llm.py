import json
import shutil
from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny.places import ROOT
from transformers import AutoModelForCausalLM

from edge_et.export.errors import (
    LeftoverTensorError,
    MissingTensorError,
    NativeModelError,
    ParityError,
    TensorShapeError,
    TensorValueError,
    UnknownPreTokenizerError,
    UnknownQuantizationError,
    UnreadableCheckpointError,
    UnsupportedModelError,
    VocabularyError,
)
from edge_et.export.llm.compare_logits import checkpoint_logits
from edge_et.export.llm.export_llm import MAX_LOGIT_ERROR, export_llm
from edge_et.export.llm.llama_logits import llama_logits

GOLDEN = ROOT / "tests" / "tools" / "data" / "llama_tiny"

DOUBLE = torch.zeros(64, dtype=torch.float64)

FAMILIES = ["llama", "qwen2", "qwen3", "qwen3_5", "lfm2"]

Edit = Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("tied", [True, False])
def test_float32_logits_are_those_of_transformers(
    make_llm: Callable[..., Path], tmp_path: Path, family: str, tied: bool
) -> None:
    report = export_llm(make_llm(family, tied=tied), tmp_path / "out.gguf", dtype="F32")
    assert report.error is not None
    assert report.error < MAX_LOGIT_ERROR
    assert report.size_bytes == report.path.stat().st_size
    assert report.details["same_top_token_share"] == 1.0
    names = {tensor.name for tensor in gguf.GGUFReader(report.path).tensors}
    assert ("output.weight" in names) is not tied


@pytest.mark.parametrize("family", FAMILIES)
def test_bfloat16_shards(make_llm: Callable[..., Path], tmp_path: Path, family: str) -> None:
    folder = make_llm(family, tied=False, dtype=torch.bfloat16, shard_bytes=60_000)
    assert len(list(folder.glob("model-*.safetensors"))) > 1
    report = export_llm(folder, tmp_path / "out.gguf", dtype="F32")
    assert report.error is not None
    assert report.error < MAX_LOGIT_ERROR


@pytest.mark.parametrize("dtype", ["F16", "BF16"])
def test_half_precision_keeps_the_distributions(
    llama_folder: Path, tmp_path: Path, dtype: str
) -> None:
    report = export_llm(llama_folder, tmp_path / "out.gguf", dtype=dtype)
    assert report.measure == "mean KL, nats"
    assert report.error is not None
    assert 0 < report.error < 1e-2
    stored = {tensor.name: tensor for tensor in gguf.GGUFReader(report.path).tensors}
    assert stored["blk.0.attn_q.weight"].tensor_type.name == dtype
    assert stored["blk.0.attn_norm.weight"].tensor_type.name == "F32"


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("tied", [True, False])
def test_the_reference_needs_one_tensor_at_a_time_and_changes_no_bit(
    make_llm: Callable[..., Path], family: str, tied: bool
) -> None:
    folder = make_llm(family, tied=tied, dtype=torch.bfloat16)
    sequences = [[3, 4, 5, 6], [7, 8]]
    whole = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    for sequence, logits in zip(sequences, checkpoint_logits(folder, sequences), strict=True):
        with torch.inference_mode():
            expected = whole(torch.tensor([sequence])).logits[0].numpy()
        np.testing.assert_array_equal(logits, expected)


def test_logits_recorded_by_the_reference(tmp_path: Path) -> None:
    report = export_llm(GOLDEN, tmp_path / "out.gguf", dtype="F32", check_logits=False)
    golden = np.load(GOLDEN / "golden.npz")
    sequences = [golden[f"s{number}_ids"].tolist() for number in range(3)]
    for number, logits in enumerate(llama_logits(report.path, sequences)):
        at, expected = golden[f"s{number}_logits_pos"], golden[f"s{number}_logits"]
        assert np.abs(logits[at] - expected).max() < MAX_LOGIT_ERROR


def test_the_same_input_gives_the_same_bytes(llama_folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "elsewhere"
    shutil.copytree(llama_folder, copy)
    files = [
        export_llm(folder, tmp_path / f"{index}.gguf", dtype="BF16", check_logits=False).path
        for index, folder in enumerate([llama_folder, copy])
    ]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_rows_beyond_the_tokenizer_are_unused_tokens(llama_gguf: Path) -> None:
    fields = gguf.GGUFReader(llama_gguf).fields
    tokens = fields["tokenizer.ggml.tokens"].contents()
    types = fields["tokenizer.ggml.token_type"].contents()
    assert fields["tokenizer.ggml.pre"].contents() == "smollm"
    assert tokens[2] == "<|im_end|>"
    assert types[2] == gguf.TokenType.CONTROL
    assert types[tokens.index("<think>")] == gguf.TokenType.USER_DEFINED
    assert types[tokens.index("<|fim_pad|>")] == gguf.TokenType.CONTROL
    assert tokens[-1] == f"[PAD{len(tokens) - 1}]"
    assert types[-1] == gguf.TokenType.UNUSED
    assert fields["tokenizer.ggml.eos_token_id"].contents() == 2


def test_a_pre_tokenizer_is_recognised_or_named(
    make_llm: Callable[..., Path], tmp_path: Path
) -> None:
    folder = make_llm("qwen3")
    out = tmp_path / "out.gguf"
    export_llm(folder, out, check_logits=False)
    assert gguf.GGUFReader(out).fields["tokenizer.ggml.pre"].contents() == "qwen2"
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["pre_tokenizer"]["pretokenizers"][0]["pattern"] = {"Regex": "."}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(UnknownPreTokenizerError, match="smollm, qwen2, lfm2"):
        export_llm(folder, out, check_logits=False)
    with pytest.raises(UnknownPreTokenizerError, match=r"'gpt-9'.*smollm, qwen2, lfm2"):
        export_llm(folder, out, pre_tokenizer="gpt-9", check_logits=False)
    export_llm(folder, out, pre_tokenizer="qwen2", check_logits=False)


def edit_config(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def edit_tensors(folder: Path, edit: Edit) -> None:
    path = folder / "model.safetensors"
    save_file(edit(load_file(path)), path)


def refused(folder: Path, error: type[Exception], match: str, dtype: str = "F32") -> None:
    out = folder.parent / "refused" / "out.gguf"
    with pytest.raises(error, match=match):
        export_llm(folder, out, dtype=dtype)
    assert not out.parent.exists() or list(out.parent.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "error", "match"),
    [
        ({"architectures": ["MambaForCausalLM"]}, UnsupportedModelError, "known: Llama"),
        ({"architectures": []}, UnsupportedModelError, "known: Llama"),
        (
            {"rope_parameters": {"rope_type": "llama3", "rope_theta": 5e5}},
            UnsupportedModelError,
            "rope type 'llama3'",
        ),
        ({"attention_bias": True}, UnsupportedModelError, "attention_bias"),
        ({"hidden_act": "gelu"}, UnsupportedModelError, "activation 'gelu'"),
        ({"hidden_size": "wide"}, UnreadableCheckpointError, r"\$\.hidden_size"),
        ({"num_hidden_layers": 0}, UnreadableCheckpointError, r"\$\.num_hidden_layers"),
        ({"num_hidden_layers": 1}, LeftoverTensorError, r"model\.layers\.1\."),
        ({"num_hidden_layers": 3}, MissingTensorError, r"model\.layers\.2\.input_layernorm"),
        ({"tie_word_embeddings": False}, MissingTensorError, r"lm_head\.weight"),
        ({"max_position_embeddings": 10**10}, UnreadableCheckpointError, "max_position_embedd"),
        ({"vocab_size": 10**12}, UnreadableCheckpointError, "vocab_size"),
        ({"rms_norm_eps": 1e300}, UnreadableCheckpointError, "rms_norm_eps"),
        (
            {"rope_parameters": {"rope_theta": 1e300}},
            UnreadableCheckpointError,
            "1e[+]30",
        ),
        ({"intermediate_size": 90}, TensorShapeError, r"gate_proj.*\[96, 64\].*\[90, 64\]"),
    ],
)
def test_a_config_that_does_not_fit_is_refused(
    make_llm: Callable[..., Path], changes: dict[str, object], error: type[Exception], match: str
) -> None:
    folder = make_llm("llama")
    edit_config(folder, **changes)
    refused(folder, error, match)


def test_heads_that_a_qwen2_gguf_cannot_have_are_refused(make_llm: Callable[..., Path]) -> None:
    refused(make_llm("qwen2", head_dim=32), UnsupportedModelError, "4 heads of 32 are not 64")


def without(name: str) -> Edit:
    return lambda tensors: {key: tensor for key, tensor in tensors.items() if key != name}


def poisoned(value: float) -> Edit:
    def edit(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        tensors["model.layers.1.mlp.up_proj.weight"][3, 5] = value
        return tensors

    return edit


@pytest.mark.parametrize(
    ("edit", "error", "match"),
    [
        (lambda t: t | {"model.extra.weight": torch.zeros(2)}, LeftoverTensorError, "model.extra"),
        (without("model.norm.weight"), MissingTensorError, "model.norm"),
        (lambda t: t | {"model.norm.weight": torch.zeros(9)}, TensorShapeError, r"\[9\]"),
        (lambda t: t | {"model.norm.weight": DOUBLE}, UnreadableCheckpointError, "F64"),
        (poisoned(float("nan")), TensorValueError, r"up_proj\.weight holds NaN"),
        (poisoned(float("inf")), TensorValueError, r"up_proj\.weight holds NaN or infinity"),
        (lambda t: t | {"lm_head.weight": torch.zeros(420, 64)}, TensorValueError, "lm_head"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(
    make_llm: Callable[..., Path], edit: Edit, error: type[Exception], match: str
) -> None:
    folder = make_llm("llama")
    edit_tensors(folder, edit)
    refused(folder, error, match)


def test_a_value_beyond_half_precision_is_refused(make_llm: Callable[..., Path]) -> None:
    folder = make_llm("llama")
    edit_tensors(folder, poisoned(1e6))
    refused(folder, TensorValueError, r"blk\.1\.ffn_up\.weight.*BF16", dtype="F16")


def test_a_stored_copy_of_a_tied_table_is_accepted(
    make_llm: Callable[..., Path], tmp_path: Path
) -> None:
    folder = make_llm("llama")
    edit_tensors(folder, lambda t: t | {"lm_head.weight": t["model.embed_tokens.weight"].clone()})
    report = export_llm(folder, tmp_path / "out.gguf", check_logits=False)
    assert len(gguf.GGUFReader(report.path).tensors) == 2 * 9 + 2


@pytest.mark.parametrize(
    ("name", "content", "match"),
    [
        ("model.safetensors", b"garbage", "model.safetensors cannot be read"),
        ("model.safetensors", b"\xff" * 8 + b"{}", "model.safetensors cannot be read"),
        ("model.safetensors", None, "neither"),
        ("config.json", b"{", "config.json cannot be read as JSON"),
        ("config.json", b"[]", "list, not an object"),
        ("config.json", None, "config.json cannot be read"),
        ("config.json", b"[" * 100_000, "config.json cannot be read as JSON"),
        ("tokenizer.json", b"\xff\xfe", "tokenizer.json cannot be read"),
    ],
)
def test_damaged_files_are_refused(
    make_llm: Callable[..., Path], name: str, content: bytes | None, match: str
) -> None:
    folder = make_llm("llama")
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(content)
    refused(folder, UnreadableCheckpointError, match)


def test_a_truncated_file_is_refused(make_llm: Callable[..., Path]) -> None:
    folder = make_llm("llama")
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    refused(folder, UnreadableCheckpointError, "cannot be read")


@pytest.mark.parametrize(
    ("weight_map", "match"),
    [
        ({}, "no weight_map"),
        ({"a": "../other.safetensors"}, "points elsewhere"),
        ({"a": "missing.safetensors"}, "cannot be read"),
        ({"a": "shard.safetensors"}, "shards differ: a"),
        ({"a": "shard.safetensors", "b": "twin.safetensors"}, "b is in two files"),
    ],
)
def test_an_index_that_lies_is_refused(
    make_llm: Callable[..., Path], weight_map: dict[str, str], match: str
) -> None:
    folder = make_llm("llama")
    (folder / "model.safetensors").unlink()
    save_file({"b": torch.zeros(1)}, folder / "shard.safetensors")
    save_file({"b": torch.zeros(1)}, folder / "twin.safetensors")
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": weight_map}))
    refused(folder, UnreadableCheckpointError, match)


@pytest.mark.parametrize(
    ("path", "value", "match"),
    [
        (("model", "type"), "WordPiece", "not a BPE"),
        (("model", "vocab"), {"a": 0, "b": 0}, "id 0 is both 'a' and 'b'"),
        (("model", "vocab"), {"a": 9999}, "id 9999, the embedding table 420 rows"),
        (("model", "vocab"), None, "damaged"),
        (("model", "vocab"), {"a": 0, "a b": 1}, "'a b' holds a space"),
        (("model", "vocab"), {"a": "0"}, "the id of 'a' is '0'"),
        (("added_tokens",), [{"id": 5}], "damaged"),
        (("added_tokens",), [{"id": 5, "content": "other"}], "id 5 is both"),
    ],
)
def test_tokenizers_that_do_not_fit_are_refused(
    make_llm: Callable[..., Path], path: tuple[str, ...], value: object, match: str
) -> None:
    folder = make_llm("llama")
    content = json.loads((folder / "tokenizer.json").read_text())
    place = content
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    (folder / "tokenizer.json").write_text(json.dumps(content))
    refused(folder, VocabularyError, match)


def test_an_unknown_type_is_refused(llama_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownQuantizationError, match="'Q4_0'; known: F32, F16, BF16"):
        export_llm(llama_folder, tmp_path / "out.gguf", dtype="Q4_0")


def test_a_wrong_conversion_is_caught_and_removed(
    llama_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "edge_et.export.families.llm_llama.interleave_halves", lambda values, heads: values
    )
    out = tmp_path / "out.gguf"
    with pytest.raises(ParityError, match=r"max abs logit error .* nothing was written"):
        export_llm(llama_folder, out, dtype="F32")
    assert list(tmp_path.iterdir()) == []


def test_a_gguf_that_llama_cpp_refuses_is_our_error(tmp_path: Path) -> None:
    path = tmp_path / "bad.gguf"
    path.write_bytes(b"GGUF" + b"\xff" * 64)
    with pytest.raises(NativeModelError, match=r"cannot load .*bad\.gguf"):
        list(llama_logits(path, [[0]]))
