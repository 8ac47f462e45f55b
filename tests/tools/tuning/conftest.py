"""What the rooms of tuning are tested with."""

from collections.abc import Callable
from pathlib import Path

import pytest
from tiny.mini_training import tiny_llm, write_shards
from tiny.mini_vision import set_recipe, split_tiny
from tiny.tokenizer import write_tokenizer
from transformers import LlamaForCausalLM

from edge_et.tuning.mini.vision.vision_head import VisionHead


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory: pytest.TempPathFactory):
    made = write_tokenizer(tmp_path_factory.mktemp("tokenizer") / "tokenizer.json")
    made.no_truncation()
    made.no_padding()
    return made


@pytest.fixture
def llm() -> LlamaForCausalLM:
    return tiny_llm()


@pytest.fixture
def vision(monkeypatch: pytest.MonkeyPatch) -> Callable[[], tuple]:
    """Makes trunk, head and exported tower."""
    set_recipe(monkeypatch)
    return split_tiny


@pytest.fixture
def head(vision) -> VisionHead:
    return vision()[1]


@pytest.fixture(scope="session")
def shards(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_shards(tmp_path_factory.mktemp("shards"))
