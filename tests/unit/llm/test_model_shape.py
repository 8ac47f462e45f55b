import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import get_args

import gguf
import pytest
from tiny.hybrid import write_lfm2, write_qwen35
from tiny.llama import write_llama
from tiny.tokenizer import write_tokenizer

from edge_et.errors import DecodeError, ModelFileError
from edge_et.llm import ModelShape, read_shape
from edge_et.options import KvType

QWEN3 = {
    "general.architecture": "qwen3",
    "qwen3.block_count": "28",
    "qwen3.embedding_length": "1024",
    "qwen3.attention.head_count": "16",
    "qwen3.attention.head_count_kv": "8",
    "qwen3.attention.key_length": "128",
    "qwen3.attention.value_length": "128",
    "qwen3.feed_forward_length": "3072",
}
"""Of Qwen3-0.6B."""


def shape(**changes: str) -> ModelShape:
    metadata = QWEN3 | {f"qwen3.{key}".replace("__", "."): text for key, text in changes.items()}
    return ModelShape.of(lambda key: metadata.get(key, ""), Path("a.gguf"))


def test_a_kv_cache_of_qwen3_06b() -> None:
    assert shape().kv_bytes(1, "f16") == 112 * 1024
    assert shape().kv_bytes(729, "f32") == 2 * 729 * 112 * 1024
    assert shape().cache_bytes(1000, "f16") == shape().kv_bytes(1024, "f16")


def test_what_metadata_leaves_out_follows_from_the_rest() -> None:
    left_out = shape(
        attention__key_length="", attention__value_length="", attention__head_count_kv=""
    )
    assert (left_out.kv_heads, left_out.key_width, left_out.value_width) == (16, 64, 64)


@pytest.mark.parametrize("text", ["", "0", "-3", "[8, 4]", "many"])
def test_metadata_that_is_no_number_is_named(text: str) -> None:
    with pytest.raises(ModelFileError, match=r"qwen3\.block_count") as caught:
        shape(block_count=text)
    assert caught.value.path == Path("a.gguf")


def test_the_work_of_a_prefill() -> None:
    """Of Qwen3-0.6B: two operations for each of 440 million weights, and attention behind it."""
    weights = 28 * (1024 * 128 * (16 + 8 + 8 + 16) + 3 * 1024 * 3072)
    assert weights == 440_401_920
    assert shape().prefill_flops(1) == pytest.approx(2 * weights, rel=1e-3)
    pairs = 4000 * 4000 / 2
    expected = 2 * weights * 4000 + 28 * 16 * 128 * 4 * pairs
    assert shape().prefill_flops(4000) == pytest.approx(expected)


def test_layers_with_a_state_hold_no_keys(tmp_path: Path) -> None:
    write_tokenizer(tmp_path / "tokenizer.json")
    for write in (write_lfm2, write_qwen35):
        write(tmp_path / f"{write.__name__}.gguf", tmp_path / "tokenizer.json", seed=1)
    lfm2 = read_shape(tmp_path / "write_lfm2.gguf")
    assert (lfm2.layers, lfm2.attention_layers, lfm2.kv_heads) == (4, 2, 2)
    assert lfm2.kv_bytes(10, "f16") == 10 * 2 * 2 * (8 + 8) * 2
    assert lfm2.state_bytes == 2 * 32 * 2 * 4
    qwen35 = read_shape(tmp_path / "write_qwen35.gguf")
    assert (qwen35.layers, qwen35.attention_layers, qwen35.kv_heads) == (4, 1, 2)
    assert qwen35.state_bytes == 3 * (3 * (32 + 2 * 16) + 32 * 8) * 4
    assert qwen35.states == 8
    assert qwen35.cache_bytes(1, "f32") == 256 * 2 * 32 * 4 + (2 + 8) * qwen35.state_bytes
    assert qwen35.copy_bytes(10, "f16") == qwen35.kv_bytes(10, "f16") + qwen35.state_bytes
    assert qwen35.recurrent is not None
    large = dataclasses.replace(qwen35.recurrent, state_bytes=100_000_000)
    assert dataclasses.replace(qwen35, recurrent=large).states == 2
    for model in (lfm2, qwen35):
        assert model.recurrent is not None
        matrices = model.prefill_flops(1) / 2 - model.layers * 3 * 32 * 64
        recurrent = model.recurrent.layers * model.recurrent.weights
        assert 0 < recurrent < matrices


def test_blocks_of_a_number_type_have_to_be_filled() -> None:
    narrow = shape(attention__value_length="80")
    for kv_type in get_args(KvType):
        shape().check_blocks(kv_type)
    narrow.check_blocks("f16")
    narrow.check_blocks("f32")
    with pytest.raises(DecodeError, match=r"values of 80 .* in q8_0: choose kv_type='f16'"):
        narrow.check_blocks("q8_0")


def test_sizes_are_read_without_any_engine(tmp_path: Path) -> None:
    write_tokenizer(tmp_path / "tokenizer.json")
    write_llama(tmp_path / "a.gguf", tmp_path / "tokenizer.json", seed=1)
    program = """
import sys
from pathlib import Path
from edge_et.llm import read_shape

print(read_shape(Path(sys.argv[1])))
print(sorted({"llama_cpp", "ik_llama_cpp", "onnxruntime"} & set(sys.modules)))
"""
    command = [sys.executable, "-c", program, str(tmp_path / "a.gguf")]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    expected = ModelShape(
        layers=2, width=32, heads=4, kv_heads=2, key_width=8, value_width=8, feed_forward=64
    )
    assert told == [str(expected), "[]"]


@pytest.mark.parametrize("name", ["block_count", "attention.head_count_kv"])
def test_a_size_that_differs_by_layer_is_refused(tmp_path: Path, name: str) -> None:
    writer = gguf.GGUFWriter(tmp_path / "a.gguf", "openelm")
    for key in ("block_count", "embedding_length", "attention.head_count", "feed_forward_length"):
        if key != name:
            writer.add_uint32(f"openelm.{key}", 8)
    writer.add_array(f"openelm.{name}", [4, 8])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    with pytest.raises(ModelFileError, match=f"{name} is a list"):
        read_shape(tmp_path / "a.gguf")
