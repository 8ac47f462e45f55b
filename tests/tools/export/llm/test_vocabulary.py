"""The vocabulary of a GGUF: which token is of which type."""

import json
from pathlib import Path

import gguf
import pytest

from edge_et.export.errors import UnknownPreTokenizerError
from edge_et.export.llm.vocabulary import read_vocabulary

ROWS = 9


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    content = {
        "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"]},
        "added_tokens": [
            {"id": 3, "content": "<|end|>", "special": True},
            {"id": 4, "content": "<|fim|>", "special": False},
            {"id": 6, "content": "<think>", "special": False},
        ],
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                {"type": "Digits", "individual_digits": True},
                {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True, "trim": 1},
            ],
        },
    }
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    return tmp_path


def test_every_row_of_the_embeddings_has_a_token(folder: Path) -> None:
    found = read_vocabulary(folder, ROWS)
    assert found.tokens == [
        *("a", "b", "ab", "<|end|>", "<|fim|>"),
        *("[PAD5]", "<think>", "[PAD7]", "[PAD8]"),
    ]


def test_types_decide_what_llama_cpp_hides(folder: Path) -> None:
    normal, control = gguf.TokenType.NORMAL, gguf.TokenType.CONTROL
    unused, defined = gguf.TokenType.UNUSED, gguf.TokenType.USER_DEFINED
    # <|fim|> is a control token, whatever tokenizer.json says of it.
    expected = [normal, normal, normal, control, control, unused, defined, unused, unused]
    assert read_vocabulary(folder, ROWS).types == expected


def test_the_pre_tokenizer_is_recognised_by_its_rules(folder: Path) -> None:
    assert read_vocabulary(folder, ROWS).pre_tokenizer == "smollm"
    assert read_vocabulary(folder, ROWS, "qwen2").pre_tokenizer == "qwen2"
    with pytest.raises(UnknownPreTokenizerError, match="'gpt5'; known: smollm, qwen2"):
        read_vocabulary(folder, ROWS, "gpt5")
    path = folder / "tokenizer.json"
    path.write_text(path.read_text().replace('"individual_digits": true', '"individual_digits": 0'))
    with pytest.raises(UnknownPreTokenizerError, match="not recognised; name the pre-tokenizer"):
        read_vocabulary(folder, ROWS)
