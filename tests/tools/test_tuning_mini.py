"""The mini model's parts: tower, tokenizer, and how answers are judged."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from edge_et.errors import AssetError, TuningError
from edge_et.tuning.assets import IconLibrary
from edge_et.tuning.evaluate import (
    Accuracy,
    Trial,
    guessing,
    held_out_questions,
    is_right,
    table,
)
from edge_et.tuning.language_model import build_tokenizer, find_llm
from edge_et.tuning.questions import Example
from edge_et.tuning.tower import find_tower_graph, load_tower, patch_features


def test_the_tower_is_the_backbone_of_the_graph(tmp_path: Path):
    import onnxruntime

    model = onnx.load(find_tower_graph())
    normalised = next(
        node.output[0] for node in reversed(model.graph.node) if "/backbone/layernorm" in node.name
    )
    model.graph.output.append(onnx.helper.make_empty_tensor_value_info(normalised))
    onnx.save(model, tmp_path / "graph.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "graph.onnx")
    pixels = np.random.default_rng(0).standard_normal((1, 3, 224, 224), dtype=np.float32)
    (expected,) = session.run([normalised], {"input_image": pixels})
    with torch.no_grad():
        found = patch_features(load_tower(find_tower_graph()), torch.from_numpy(pixels)).numpy()
    assert found.shape == (1, 256, 384)
    np.testing.assert_allclose(found, expected[:, 1:], atol=2e-3)


def test_another_graph_is_refused(tmp_path: Path):
    model = onnx.load(find_tower_graph())
    del model.graph.initializer[5]
    onnx.save(model, tmp_path / "graph.onnx")
    with pytest.raises(TuningError, match="DINOv2-small"):
        load_tower(tmp_path / "graph.onnx")


def test_the_tokenizer_splits_as_llama_cpp_does():
    from llama_cpp import Llama

    tokenizer = build_tokenizer(find_llm())
    reference = Llama(str(find_llm()), vocab_only=True, verbose=False)
    for text in (
        " dog",
        "What is at 123 the top-left?\n\n  Hi there\u2019s",
        "naïve 日本 12.5%",
        "<|im_start|>user\nHello<|im_end|>\n",
    ):
        expected = reference.tokenize(text.encode(), add_bos=False, special=True)
        assert tokenizer.encode(text).ids == expected


@pytest.mark.parametrize(
    ("answered", "expected", "right"),
    [
        ("dog", "dog", True),
        ("A dog.", "dog", True),
        (" The Top Left ", "top left", True),
        ("hot dog", "dog", False),
        ("", "dog", False),
        ("2", "3", False),
    ],
)
def test_answers_agree_apart_from_case_article_and_stop(answered, expected, right):
    assert is_right(answered, expected) is right


def test_the_interval_is_wilsons():
    low, high = Accuracy(right=81, asked=263).interval
    assert low == pytest.approx(0.2553, abs=1e-4)
    assert high == pytest.approx(0.3662, abs=1e-4)


def test_the_table_counts_both_ways_of_answering():
    def trial(answer: str, answered: str, directly: str) -> Trial:
        example = Example(kind="exists", question="?", extraction="", reasoning="", answer=answer)
        return Trial(
            example=example,
            extracted="",
            answered=answered,
            answered_directly=directly,
            seconds=1.0,
        )

    trials = [trial("yes", "yes", "no"), trial("yes", "yes", "yes"), trial("no", "yes", "yes")]
    trials.append(trial("yes", "Yes.", "no"))
    assert guessing(trials) == 0.75
    row = table({"exists": trials}).splitlines()[-1]
    assert row == "| exists | 4 | 75% | 30% to 95% | 25% | 75% |"


def test_unknown_kinds_and_styles_are_told_apart_from_the_known(tmp_path: Path):
    with pytest.raises(TuningError, match=r"'smell'.*name, colour"):
        next(held_out_questions("smell", 1, []))
    with pytest.raises(AssetError, match=r"'oil'.*noto"):
        IconLibrary("oil", tmp_path)
