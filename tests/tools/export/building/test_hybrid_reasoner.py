"""Bundles whose reasoner keeps a recurrent state: built, and the same whatever was asked before."""

import shutil
from itertools import islice
from pathlib import Path

import pytest
import torch
from tiny.engine import ON_PREBUILT
from tiny.places import EXAMPLES, GOLDEN
from transformers import Lfm2Config, Lfm2ForCausalLM, Qwen3_5ForCausalLM, Qwen3_5TextConfig

import edge_et
from edge_et.bundle import load_bundle
from edge_et.export.building.build_bundle import build_bundle
from edge_et.export.building.build_files import BuildOptions
from edge_et.results import Answer, ReasoningToken

pytestmark = pytest.mark.skipif(ON_PREBUILT, reason="llama.cpp alone has such models")

PICTURE = EXAMPLES / "cat.png"
FEW = {"max_extraction_tokens": 6, "max_thinking_tokens": 9, "max_answer_tokens": 4, "seed": 1}
SIZES = {
    "vocab_size": 2048,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 40_960,
    "tie_word_embeddings": True,
    "bos_token_id": 1974,
    "eos_token_id": 1976,
    "initializer_range": 0.15,
}


def lfm2() -> Lfm2ForCausalLM:
    kinds = ["conv", "full_attention", "conv", "full_attention"]
    return Lfm2ForCausalLM(
        Lfm2Config(**SIZES, head_dim=16, layer_types=kinds, block_multiple_of=16)
    )


def qwen3_5() -> Qwen3_5ForCausalLM:
    heads = {"linear_num_key_heads": 2, "linear_num_value_heads": 4}
    widths = {"linear_key_head_dim": 16, "linear_value_head_dim": 16}
    return Qwen3_5ForCausalLM(Qwen3_5TextConfig(**SIZES, head_dim=32, **heads, **widths))


@pytest.fixture(scope="module", params=[lfm2, qwen3_5])
def bundle(
    request: pytest.FixtureRequest, reasoner: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("models") / request.param.__name__
    shutil.copytree(reasoner, folder)
    torch.manual_seed(3)
    request.param().save_pretrained(folder)
    options = BuildOptions(quantization="F32", vision_quantization="none", max_tiles=1)
    perceiver, out = str(GOLDEN / "llava_qwen3_tiny"), folder.parent / "built"
    return build_bundle(perceiver, out, reasoner=str(folder), options=options).path


def told(answer: Answer) -> tuple[str, str, str]:
    return answer.extraction, answer.reasoning, answer.text


def fresh(bundle: Path, question: str) -> Answer:
    with edge_et.load(bundle, threads=2) as pipe:
        return pipe.answer(PICTURE, question, thinking=True, **FEW)


def test_the_manifest_names_the_architecture(bundle: Path) -> None:
    reasoner = load_bundle(bundle).manifest.reasoner
    assert reasoner is not None
    assert reasoner.architecture in ("lfm2", "qwen35")


def test_what_was_asked_before_changes_no_word(bundle: Path) -> None:
    questions = ("What is this?", "How many are there?", "What is this?")
    expected = {question: fresh(bundle, question) for question in questions}
    assert all(answer.reasoning for answer in expected.values())
    with edge_et.load(bundle, threads=2) as pipe:
        for question in questions:
            answer = pipe.answer(PICTURE, question, thinking=True, **FEW)
            assert told(answer) == told(expected[question])
            again = pipe.rethink(question, answer.extraction, thinking=True, **FEW)
            assert told(again) == told(answer)
        assert answer.usage["extract"].reused_tokens > 0


def test_a_thought_that_is_left_changes_no_word(bundle: Path) -> None:
    expected = fresh(bundle, "What is this?")
    with edge_et.load(bundle, threads=2) as pipe:
        for left in range(1, 8):
            with pipe.stream(PICTURE, "How many are there?", thinking=True, **FEW) as events:
                thoughts = (event for event in events if isinstance(event, ReasoningToken))
                for _ in islice(thoughts, left):
                    pass
            answer = pipe.answer(PICTURE, "What is this?", thinking=True, **FEW)
            assert told(answer) == told(expected)
