import struct
from pathlib import Path

import gguf
import pytest

from edge_et.bundle import check_gguf, file_ref
from edge_et.errors import ModelFileError

# GGUF, version 3, one tensor, two keys.
START = b"GGUF" + struct.pack("<IQQ", 3, 1, 2)
_STRING, _ARRAY, _UINT32 = 8, 9, 4


def text(content: bytes) -> bytes:
    return struct.pack("<Q", len(content)) + content


def key(name: bytes, kind: int, value: bytes) -> bytes:
    return text(name) + struct.pack("<I", kind) + value


ARCHITECTURE = key(b"general.architecture", _STRING, text(b"other"))
ALIGNMENT = key(b"general.alignment", _UINT32, struct.pack("<I", 64))
TENSOR = text(b"t") + struct.pack("<IQIQ", 1, 8, 0, 0)


def texts(*items: bytes) -> bytes:
    return key(b"words", _ARRAY, struct.pack("<IQ", _STRING, len(items)) + b"".join(items))


def write(folder: Path, *parts: bytes) -> Path:
    path = folder / "model.gguf"
    head = b"".join(parts)
    path.write_bytes(head + b"\0" * (-len(head) % 64) + b"\1" * 32)
    return path


def test_the_head_ends_where_the_tensors_begin(built: Path, tmp_path: Path) -> None:
    for name in ("perceiver.gguf", "perceiver-lora.gguf"):
        first = min(tensor.data_offset for tensor in gguf.GGUFReader(built / name).tensors)
        assert check_gguf(built / name) == first
        head = file_ref(built / name).head
        assert head is not None
        assert head.size_bytes == first
    assert check_gguf(write(tmp_path, START, ARCHITECTURE, ALIGNMENT, TENSOR)) == 192
    assert file_ref(built / "tokenizer.json").head is None


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        ((b"GGML",), "begin with GGUF"),
        ((b"GGUF" + struct.pack("<IQQ", 9, 1, 2), ARCHITECTURE, ALIGNMENT, TENSOR), "version 9"),
        ((START, ARCHITECTURE, ARCHITECTURE, TENSOR), "twice"),
        ((START, ARCHITECTURE, key(b"k", 99, b""), TENSOR), "type 99"),
        ((START, ARCHITECTURE, text(b"k")[:-1] + b"\xff" * 9), "not there|type"),
        ((START, ARCHITECTURE, ALIGNMENT, text(b"t") + struct.pack("<I", 7)), "7 dimensions"),
        ((START, ARCHITECTURE, ALIGNMENT, TENSOR[:-8] + struct.pack("<Q", 6400)), "begins at"),
        ((START, ARCHITECTURE, key(b"split.count", _UINT32, b"\2\0\0\0"), TENSOR), "several files"),
        ((START, key(b"a", _UINT32, b"1234"), ALIGNMENT, TENSOR), "no architecture"),
        ((START, ARCHITECTURE, texts(text(b"a"), text(b"b\0c")), TENSOR), "null character"),
        (
            (START, ARCHITECTURE, texts(text(b"a"), text(b"b")[:-1] + b"\xff" * 9), TENSOR),
            "not there",
        ),
        ((START, ARCHITECTURE, texts(text(b"a"), struct.pack("<Q", 2**64 - 1))), "not there"),
    ],
)
def test_a_head_that_is_none(tmp_path: Path, parts: tuple[bytes, ...], reason: str) -> None:
    with pytest.raises(ModelFileError, match=reason):
        check_gguf(write(tmp_path, *parts))


def test_a_head_that_is_cut_off(built: Path, tmp_path: Path) -> None:
    whole = (built / "perceiver.gguf").read_bytes()
    path = tmp_path / "cut.gguf"
    for size in (0, 3, 10, 20, 200, check_gguf(built / "perceiver.gguf") - 100):
        path.write_bytes(whole[:size])
        with pytest.raises(ModelFileError, match="cut"):
            check_gguf(path)


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    import os

    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", "missing", "."):
        with pytest.raises(ModelFileError, match="no such file"):
            check_gguf(tmp_path / name)


def test_a_model_without_its_sizes(built: Path, tmp_path: Path) -> None:
    whole = (built / "perceiver.gguf").read_bytes()
    for name in (b"llama.block_count", b"llama.context_length", b"llama.embedding_length"):
        path = tmp_path / "renamed.gguf"
        path.write_bytes(whole.replace(name, name[:-1] + b"_", 1))
        with pytest.raises(ModelFileError, match=f"{name.decode()}' is missing"):
            check_gguf(path)
