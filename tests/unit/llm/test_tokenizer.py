import json
from pathlib import Path

import pytest
from tiny.alarms import check_handlers_pass
from tiny.fakes import new_tokenizer
from tiny.places import ROOT
from tiny.tokenizer import SPECIAL

from edge_et.errors import ModelFileError
from edge_et.llm import TextStream, Tokenizer

QWEN = ROOT / "tests" / "data" / "golden" / "llava_qwen3_tiny" / "tokenizer.json"
SMOLLM = ROOT / "models" / "mini" / "edge_et_mini" / "tokenizer.json"
TEXTS = ("What is on the table?", "naïve café", "日本語", "👩‍👩‍👧 ok", " \n\t", "")


@pytest.fixture
def tokenizer(tmp_path: Path) -> Tokenizer:
    return new_tokenizer(tmp_path)


@pytest.mark.parametrize("text", TEXTS)
def test_text_survives(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_truncation_and_padding_of_the_file_are_ignored(tokenizer: Tokenizer) -> None:
    assert len(tokenizer.encode("a b c d e f g h i j k l")) > 8
    assert len(tokenizer.encode("a")) == 1


@pytest.mark.parametrize("text", [*SPECIAL, "<think>"])
def test_added_tokens_are_plain_text_when_encoded(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(f"a {text} b")
    assert tokenizer.special_id(text) not in ids
    assert tokenizer.decode(ids) == f"a {text} b"


def test_trusted_text_is_split_at_added_tokens(tokenizer: Tokenizer) -> None:
    start, think = tokenizer.special_id("<|im_start|>"), tokenizer.special_id("<think>")
    assert tokenizer.split_special("<|im_start|>user\n<think>") == [start, "user\n", think]
    assert tokenizer.split_special("no token") == ["no token"]
    assert tokenizer.split_special("") == []


def test_special_tokens_have_no_text_and_other_added_tokens_have(tokenizer: Tokenizer) -> None:
    ids = [tokenizer.special_id(text) for text in ("<|im_end|>", "<think>")]
    assert tokenizer.decode([number for number in ids if number is not None]) == "<think>"


def test_a_stream_never_gives_half_a_character(tokenizer: Tokenizer) -> None:
    text = "👩‍👩‍👧 é 日本"
    stream = TextStream(tokenizer)
    pieces = [stream.push(token) for token in tokenizer.encode(text)]
    assert "".join(pieces) == text
    assert stream.finish() == ""
    assert "\N{REPLACEMENT CHARACTER}" not in "".join(pieces)


def test_a_stream_that_ends_inside_a_character_says_so(tokenizer: Tokenizer) -> None:
    stream = TextStream(tokenizer)
    assert stream.push(tokenizer.encode("日")[0]) == ""
    assert stream.finish() == "\N{REPLACEMENT CHARACTER}"


def test_size_counts_added_tokens(tokenizer: Tokenizer) -> None:
    assert tokenizer.size == tokenizer.special_id("</think>") + 1  # type: ignore[operator]


def test_a_token_of_other_characters_stands_for_its_own_text(tmp_path: Path) -> None:
    """As in the reference, where no byte stands for a character of it: '漢' is no byte's."""
    new_tokenizer(tmp_path)
    path = tmp_path / "tokenizer.json"
    content = json.loads(path.read_text())
    number = max(content["model"]["vocab"].values()) + 50
    content["model"]["vocab"]["a 漢"] = number
    path.write_text(json.dumps(content))
    assert Tokenizer(path).decode([number]) == "a 漢"


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    new_tokenizer(tmp_path)
    content = json.loads(path.read_text())
    bad = [
        "{",
        "[]",
        "{}",
        json.dumps(content | {"decoder": {"type": "WordPiece", "prefix": "#", "cleanup": True}}),
        json.dumps(content | {"model": {"type": "unknown"}}),
        *(
            json.dumps(
                content | {"added_tokens": [{"id": 1, "content": "x", "special": True} | new]}
            )
            for new in ({"content": 5}, {"content": ""}, {"id": -1}, {"id": "1"}, {"special": None})
        ),
    ]
    for text in bad:
        path.write_text(text)
        with pytest.raises(ModelFileError) as caught:
            Tokenizer(path)
        assert caught.value.path == path
    with pytest.raises(ModelFileError):
        Tokenizer(tmp_path / "none.json")


def test_what_a_handler_raises_while_a_tokenizer_is_opened_comes_as_it_is() -> None:
    check_handlers_pass(lambda: Tokenizer(SMOLLM), after_s=0.03)
