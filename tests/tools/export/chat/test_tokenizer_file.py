import json
from pathlib import Path

import pytest
from tiny.internvl import write_internvl, write_older_tokenizer_files, write_original
from tokenizers import Tokenizer

from edge_et.export.building.vlm_checkpoint import check_prompt_tokens, read_vlm
from edge_et.export.chat.prompt_tokens import QUESTIONS
from edge_et.export.chat.tokenizer_file import with_tokenizer_file
from edge_et.export.errors import VocabularyError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_original(tmp_path / "original", write_internvl(tmp_path / "checkpoint"))


def test_the_older_files_become_the_same_tokenizer(folder: Path) -> None:
    with with_tokenizer_file(folder) as same:
        assert same == folder
    expected = Tokenizer.from_file(str(folder / "tokenizer.json"))
    facts = read_vlm(folder)
    write_older_tokenizer_files(folder)
    before = sorted(folder.iterdir())
    with with_tokenizer_file(folder) as view:
        found = Tokenizer.from_file(str(view / "tokenizer.json"))
        model = read_vlm(view)
        assert check_prompt_tokens(model, "{image}\nLook at {hint}.").error == 0
    assert (model.vision, model.chat_format.chat, model.llm.config) == (
        facts.vision,
        facts.chat_format.chat,
        facts.llm.config,
    )
    for text in (*QUESTIONS, "<|im_start|>user\n<img><IMG_CONTEXT></img>\n\n\nWORDS<|im_end|>\n"):
        assert found.encode(text).ids == expected.encode(text).ids
    assert sorted(folder.iterdir()) == before
    assert not view.exists()


def test_older_files_that_are_damaged(folder: Path) -> None:
    write_older_tokenizer_files(folder)
    (folder / "vocab.json").write_text(json.dumps(["a", "b"]))
    damaged = pytest.raises(VocabularyError, match=r"no tokenizer\.json, and its vocab\.json and")
    with damaged, with_tokenizer_file(folder):
        pass
