import struct
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from tiny.llama import write_adapter, write_llama
from tiny.tokenizer import write_tokenizer

from edge_et.bundle import read_gguf
from edge_et.errors import ModelFileError
from edge_et.weights import (
    Distance,
    Unsupported,
    compare,
    merge,
    merged_bytes,
    reference_logits,
)

F32, F16, Q8_0 = 0, 1, 8


@pytest.fixture
def tokenizer(tmp_path: Path) -> Path:
    write_tokenizer(tmp_path / "tokenizer.json")
    return tmp_path / "tokenizer.json"


def add_key(path: Path, key: str, value: int) -> None:
    """Put a number before the other metadata."""
    data, head = path.read_bytes(), read_gguf(path)
    count = struct.pack("<Q", head.key_count + 1)
    name = key.encode()
    new = struct.pack("<Q", len(name)) + name + struct.pack("<II", 4, value)
    start = head.metadata.start
    begin = data[: start - 8] + count + new
    rest = data[start : head.size_bytes].rstrip(b"\0")
    listed = begin + rest
    # The list ends with an offset, whose zeros were stripped.
    end = start + len(new) + (_end_of_list(path) - start)
    listed += bytes(end - len(listed))
    path.write_bytes(listed + bytes(-len(listed) % 32) + data[head.size_bytes :])


def _end_of_list(path: Path) -> int:
    head = read_gguf(path)
    sizes = [8 + len(t.name) + 4 + 8 * len(t.shape) + 12 for t in head.tensors]
    return int(head.metadata.stop) + sum(sizes)


def text(content: bytes) -> bytes:
    """Return a text as it lies in a GGUF."""
    return struct.pack("<Q", len(content)) + content


def values_of(path: Path) -> dict[str, Any]:
    reader = gguf.GGUFReader(path)
    return {t.name: gguf.dequantize(t.data, t.tensor_type) for t in reader.tensors}


@pytest.mark.parametrize(("width", "kind"), [(32, Q8_0), (48, F16)])
def test_matrices_change_and_the_rest_stays(
    tmp_path: Path, tokenizer: Path, width: int, kind: int
) -> None:
    weights, adapter = tmp_path / "a.gguf", tmp_path / "lora.gguf"
    write_llama(weights, tokenizer, seed=1, width=width)
    write_adapter(adapter, seed=2, width=width)
    for name in ("b.gguf", "c.gguf"):
        merge(weights, adapter, tmp_path / name)
    merged = (tmp_path / "b.gguf").read_bytes()
    assert merged == (tmp_path / "c.gguf").read_bytes()
    old, new = read_gguf(weights), read_gguf(tmp_path / "b.gguf")
    assert merged[new.metadata] == weights.read_bytes()[old.metadata]
    assert [(t.name, t.shape) for t in old.tensors] == [(t.name, t.shape) for t in new.tensors]
    kinds = {t.name: t.kind for t in new.tensors}
    assert kinds["blk.0.attn_norm.weight"] == F32
    assert kinds["blk.0.attn_q.weight"] == kind
    assert kinds["blk.0.ffn_down.weight"] == Q8_0  # its rows are 64 wide
    assert abs(merged_bytes(weights) - len(merged)) < 2000
    before, after = values_of(weights), values_of(tmp_path / "b.gguf")
    halves = values_of(adapter)
    name = "blk.1.attn_q.weight"
    # The rank is 4 and alpha, too.
    expected = before[name] + halves[f"{name}.lora_b"] @ halves[f"{name}.lora_a"]
    assert np.abs(after[name] - expected).max() < 0.03
    assert np.abs(before[name] - expected).max() > 1


def test_a_scale_other_than_one_is_applied(tmp_path: Path, tokenizer: Path) -> None:
    weights, adapter = tmp_path / "a.gguf", tmp_path / "lora.gguf"
    write_llama(weights, tokenizer, seed=1)
    write_adapter(adapter, seed=2, rank=4)
    data = adapter.read_bytes()
    assert data.count(struct.pack("<f", 4.0)) >= 1
    key = b"adapter.lora.alpha" + struct.pack("<I", 6)
    adapter.write_bytes(data.replace(key + struct.pack("<f", 4.0), key + struct.pack("<f", 2.0)))
    merge(weights, adapter, tmp_path / "b.gguf")
    before, after, halves = (values_of(p) for p in (weights, tmp_path / "b.gguf", adapter))
    name = "blk.0.attn_q.weight"
    expected = before[name] + 0.5 * (halves[f"{name}.lora_b"] @ halves[f"{name}.lora_a"])
    assert np.abs(after[name] - expected).max() < 0.03
    found = reference_logits(weights, adapter, np.arange(20, 40))
    merged = reference_logits(tmp_path / "b.gguf", None, np.arange(20, 40))
    assert not isinstance(found, Unsupported)
    assert not isinstance(merged, Unsupported)
    assert compare(found[:, :-8], merged[:, :-8]).kl < 0.05  # the rest is padding, and huge
    without = reference_logits(weights, None, np.arange(20, 40))
    assert not isinstance(without, Unsupported)
    assert compare(found[:, :-8], without[:, :-8]).kl > 0.5


def test_an_adapter_of_another_model_is_refused(tmp_path: Path, tokenizer: Path) -> None:
    weights, adapter = tmp_path / "a.gguf", tmp_path / "lora.gguf"
    write_llama(weights, tokenizer, seed=1)
    write_adapter(adapter, seed=2, width=48)
    with pytest.raises(ModelFileError, match=r"no adapter for these weights.*another shape"):
        merge(weights, adapter, tmp_path / "b.gguf")


@pytest.mark.parametrize(
    ("changes", "old", "new", "told"),
    [
        ({"architecture": "qwen2"}, b"", b"", "general.architecture is 'qwen2', not 'llama'"),
        ({}, text(b"adapter"), text(b"imatrix"), "general.type is 'imatrix', not 'adapter'"),
        ({}, text(b"lora"), text(b"lore"), "adapter.type is 'lore', not 'lora'"),
        ({"more": {"blk.0.attn_k.weight": ((4, 32), (16, 3))}}, b"", b"", "of the ranks 4 and 3"),
        ({"more": {"blk.0.attn_norm.weight": ((4, 32), (32, 4))}}, b"", b"", "another shape"),
    ],
)
def test_what_llama_cpp_refuses_as_an_adapter_is_refused(
    tmp_path: Path, tokenizer: Path, changes: dict[str, Any], old: bytes, new: bytes, told: str
) -> None:
    weights, adapter = tmp_path / "a.gguf", tmp_path / "lora.gguf"
    write_llama(weights, tokenizer, seed=1)
    write_adapter(adapter, seed=2, **changes)
    adapter.write_bytes(adapter.read_bytes().replace(old, new) if old else adapter.read_bytes())
    with pytest.raises(ModelFileError, match=told):
        merge(weights, adapter, tmp_path / "b.gguf")
    with pytest.raises(ModelFileError, match=told):
        reference_logits(weights, adapter, np.arange(20, 40))
    assert not (tmp_path / "b.gguf").exists()


def test_a_lora_for_a_norm_adds_nothing(tmp_path: Path, tokenizer: Path) -> None:
    weights, merged, logits = tmp_path / "a.gguf", [], []
    write_llama(weights, tokenizer, seed=1)
    for more in ({}, {"blk.0.attn_norm.weight": ((4, 32), (1, 4))}):
        write_adapter(tmp_path / "lora.gguf", seed=2, more=more)
        merge(weights, tmp_path / "lora.gguf", tmp_path / "b.gguf")
        merged.append((tmp_path / "b.gguf").read_bytes())
        logits.append(reference_logits(weights, tmp_path / "lora.gguf", np.arange(20, 40)))
    assert merged[0] == merged[1]
    np.testing.assert_array_equal(*logits)


def test_work_ends_where_it_is_told_to(tmp_path: Path, tokenizer: Path) -> None:
    class EndError(Exception):
        pass

    def end() -> None:
        raise EndError

    write_llama(tmp_path / "a.gguf", tokenizer, seed=1)
    with pytest.raises(EndError):
        merge(tmp_path / "a.gguf", None, tmp_path / "b.gguf", step=end)
    with pytest.raises(EndError):
        reference_logits(tmp_path / "a.gguf", None, np.arange(20, 40), step=end)


def test_what_is_not_known_is_told(tmp_path: Path, tokenizer: Path) -> None:
    write_llama(tmp_path / "a.gguf", tokenizer, seed=1)
    add_key(tmp_path / "a.gguf", "llama.expert_count", 2)
    found = reference_logits(tmp_path / "a.gguf", None, np.arange(20, 40))
    assert found == Unsupported("the key llama.expert_count")
    more = {"blk.0.attn_q_norm.weight": np.ones(8, np.float32)}
    write_llama(tmp_path / "b.gguf", tokenizer, seed=1, more=more)
    found = reference_logits(tmp_path / "b.gguf", None, np.arange(20, 40))
    assert found == Unsupported("the tensor blk.0.attn_q_norm.weight")


def test_a_model_that_is_cut_off_is_refused(tmp_path: Path, tokenizer: Path) -> None:
    write_llama(tmp_path / "a.gguf", tokenizer, seed=1)
    data = (tmp_path / "a.gguf").read_bytes()
    (tmp_path / "a.gguf").write_bytes(data[:-100])
    for use in (
        lambda: merge(tmp_path / "a.gguf", None, tmp_path / "b.gguf"),
        lambda: reference_logits(tmp_path / "a.gguf", None, np.arange(20, 40)),
    ):
        with pytest.raises(ModelFileError, match="is cut off"):
            use()


def test_distances() -> None:
    logits = np.array([[1.0, 2.0, 0.0], [0.0, 0.0, 5.0]], np.float32)
    assert compare(logits, logits + 7) == Distance(pytest.approx(0, abs=1e-9), 0.0)
    other = np.array([[2.0, 1.0, 0.0], [0.0, 0.0, 5.0]], np.float32)
    found = compare(logits, other)
    shares = np.exp([1, 2, 0]) / np.exp([1, 2, 0]).sum()
    assert found.kl == pytest.approx((shares[1] - shares[0]) / 2)
    assert found.flipped == pytest.approx(1.0)
    assert compare(logits, np.full_like(logits, np.nan)).kl == np.inf
