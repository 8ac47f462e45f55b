"""Metadata of models with a recurrent state that llama.cpp would end the process over."""

from collections.abc import Callable
from pathlib import Path

import pytest
from tiny.hybrid import write_lfm2, write_qwen35
from tiny.llama import Tensors
from tiny.tokenizer import write_tokenizer

from edge_et.bundle import check_gguf, read_gguf
from edge_et.errors import ModelFileError


def written(folder: Path, write: Callable[..., Tensors]) -> Path:
    write_tokenizer(folder / "tokenizer.json")
    write(folder / "model.gguf", folder / "tokenizer.json", seed=1)
    return folder / "model.gguf"


@pytest.mark.parametrize("write", [write_lfm2, write_qwen35])
def test_whole_models_pass(tmp_path: Path, write: Callable[..., Tensors]) -> None:
    path = written(tmp_path, write)
    assert check_gguf(path) == min(tensor.start for tensor in read_gguf(path).tensors)


def test_short_lists_are_told(tmp_path: Path) -> None:
    values = read_gguf(written(tmp_path, write_lfm2)).values
    assert values["lfm2.attention.head_count_kv"] == (0, 2, 0, 2)
    assert values["tokenizer.ggml.tokens"] is None


@pytest.mark.parametrize(
    ("key", "old", "new", "match"),
    [
        ("shortconv.l_cache", 3, 1, "l_cache is 1, expected 2"),
        ("attention.value_length", 8, 4, "keys of 8 have values of 4"),
        ("attention.head_count_kv", (0, 2, 0, 2), (0, 2, 0, -2), "expected a list of 4"),
        ("attention.head_count_kv", (0, 2, 0, 2), (0, 2, 0, 1), "0 and another number"),
        ("attention.head_count_kv", (0, 2, 0, 2), (2, 2, 2, 2), "0 and another number"),
        ("attention.head_count_kv", (0, 2, 0, 2), (0, 0, 0, 0), "0 and another number"),
        ("attention.head_count_kv", (0, 2, 0, 2), (0, 3, 0, 3), "4 heads of 8"),
        ("block_count", 4, 5, "expected a list of 5"),
    ],
)
def test_sizes_of_an_lfm2_that_do_not_go_together(
    tmp_path: Path, key: str, old: int | tuple[int, ...], new: int | tuple[int, ...], match: str
) -> None:
    path = written(tmp_path, write_lfm2)
    replace_value(path, f"lfm2.{key}", old, new)
    with pytest.raises(ModelFileError, match=match):
        check_gguf(path)


@pytest.mark.parametrize(
    ("key", "old", "new", "match"),
    [
        ("ssm.conv_kernel", 4, 1, "1, 8, 2, 4, 32"),
        ("ssm.group_count", 2, 3, "4, 8, 3, 4, 32"),
        ("ssm.group_count", 2, 0, "group_count' is 0"),
        ("ssm.state_size", 8, 16, "4, 16, 2, 4, 32"),
        ("ssm.inner_size", 32, 64, "4, 8, 2, 4, 64"),
        ("full_attention_interval", 4, 0, "full_attention_interval' is 0"),
        ("full_attention_interval", 4, 5, "is 5, of 4 layers"),
        ("rope.dimension_sections", (2, 1, 1, 0), (0, 0, 0, 0), "sections are"),
        ("rope.dimension_sections", (2, 1, 1, 0), (20, 1, 1, 0), "sections are"),
        ("attention.value_length", 16, 8, "keys of 16 have values of 8"),
    ],
)
def test_sizes_of_a_qwen35_that_do_not_go_together(
    tmp_path: Path, key: str, old: int | tuple[int, ...], new: int | tuple[int, ...], match: str
) -> None:
    path = written(tmp_path, write_qwen35)
    replace_value(path, f"qwen35.{key}", old, new)
    with pytest.raises(ModelFileError, match=match):
        check_gguf(path)


def test_a_qwen35_without_a_size(tmp_path: Path) -> None:
    path = written(tmp_path, write_qwen35)
    path.write_bytes(path.read_bytes().replace(b"qwen35.ssm.inner_size", b"qwen35.ssm.outer_size"))
    with pytest.raises(ModelFileError, match="inner_size' is missing"):
        check_gguf(path)


def replace_value(
    path: Path, key: str, old: int | tuple[int, ...], new: int | tuple[int, ...]
) -> None:
    """Write other numbers of 32 bits over those that stand behind a key."""
    before, after = _bytes(old), _bytes(new)
    content = path.read_bytes()
    kind = content.index(key.encode()) + len(key)
    at = content.index(before, kind + 4)
    path.write_bytes(content[:at] + after + content[at + len(before) :])


def _bytes(numbers: int | tuple[int, ...]) -> bytes:
    every = (numbers,) if isinstance(numbers, int) else numbers
    return b"".join(number.to_bytes(4, "little", signed=True) for number in every)
