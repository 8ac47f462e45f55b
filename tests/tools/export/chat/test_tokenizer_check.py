from collections.abc import Callable
from pathlib import Path

import pytest
from tiny.children import die
from tiny.places import ROOT
from tiny.vlm import LLAVA

from edge_et.export.building.build_bundle import build_bundle
from edge_et.export.building.build_from_files import build_from_files
from edge_et.export.building.ready_files import ReadyParts
from edge_et.export.chat import tokenizer_check
from edge_et.export.errors import VocabularyError


def test_a_tokenizer_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    tokenizer_check.check_tokenizers([LLAVA, tmp_path])
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(VocabularyError, match=r"tokenizer\.json cannot be read: "):
        tokenizer_check.check_tokenizers([LLAVA, tmp_path])


def build_ready(folder: Path) -> None:
    for name in ("tower.onnx", "llm.gguf"):
        (folder / name).touch()
    parts = ReadyParts(
        tower=str(folder / "tower.onnx"), llm=str(folder / "llm.gguf"), processor=str(LLAVA)
    )
    build_from_files(parts, folder / "bundle")


def build_by_name(folder: Path) -> None:
    build_bundle(str(LLAVA), folder / "bundle")


@pytest.mark.parametrize("build", [build_ready, build_by_name])
def test_a_build_outlives_a_tokenizer_that_ends_its_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, build: Callable[[Path], None]
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests"))
    monkeypatch.setattr(tokenizer_check, "_load", die)
    with pytest.raises(VocabularyError, match=r"tokenizer\.json ends the process that loads it"):
        build(tmp_path)
    assert not (tmp_path / "bundle").exists()
