"""The rival OpenVINO GenAI and its converter, without either: what they are told and what is heard.

Neither is among the packages of the tests; docs/benchmarks.md tells how to measure the real ones.
"""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest
from tiny import shapes
from tiny.shapes import IDEFICS3, TOWER
from tokenizers import Tokenizer as TokenizerOfFile

from edge_et.benchmarks import latency
from edge_et.benchmarks.document import Bounds, Measured
from edge_et.benchmarks.latency import BASELINES, run_latency
from edge_et.benchmarks.measure import measure
from edge_et.benchmarks.picture import draw_picture
from edge_et.benchmarks.rivals.conversation import Conversation
from edge_et.benchmarks.rivals.openvino_convert import (
    group_size,
    preprocessor,
    shape_of,
    tokenizer_content,
)
from edge_et.benchmarks.rivals.openvino_files import WEIGHTS, converted_folder
from edge_et.benchmarks.subject import Job
from edge_et.benchmarks.synthetic.shapes import SHAPES, BundleShape
from edge_et.benchmarks.synthetic.synthetic_bundle import synthetic_bundle
from edge_et.benchmarks.synthetic.synthetic_tokenizer import write_tokenizer
from edge_et.bundle import Bundle
from edge_et.errors import BenchError

LLM = replace(shapes.LLM, vocabulary=1277)
ONE = BundleShape(name="one", tower=TOWER, perceiver=LLM, context_length=512)
RIVAL = "edge_et.benchmarks.rivals.openvino"
QUESTIONS = ("What is the shape in the middle?", "Why?")
PROMPT_TOKENS = 100


class FakePipeline:
    """Writes as many tokens as it is told to, and keeps what it was told."""

    def __init__(self, folder: str, device: str, **properties: int) -> None:
        self.opened = (Path(folder).name, device, properties)
        self.template = ""
        self.calls: list[SimpleNamespace] = []
        opened.append(self)

    def get_tokenizer(self) -> "FakePipeline":
        return self

    def set_chat_template(self, template: str) -> None:
        self.template = template

    def generate(self, history: list[Any], **options: Any) -> SimpleNamespace:
        self.calls.append(SimpleNamespace(history=list(history), **options))
        count = options["generation_config"].max_new_tokens
        options["streamer"].write(7)
        options["streamer"].write([7] * (count - 1))
        options["streamer"].end()
        metrics = SimpleNamespace(
            get_num_input_tokens=lambda: PROMPT_TOKENS,
            vlm_raw_metrics=SimpleNamespace(prepare_embeddings_durations=[0.0]),
        )
        return SimpleNamespace(texts=[" written"], perf_metrics=metrics)


opened: list[FakePipeline] = []


@pytest.fixture
def genai(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module in the place of openvino_genai."""
    opened.clear()
    library, tensors = ModuleType("openvino_genai"), ModuleType("openvino")
    contents: dict[str, Any] = {
        "VLMPipeline": FakePipeline,
        "ChatHistory": list,
        "GenerationConfig": SimpleNamespace,
        "StreamerBase": object,
        "StreamingStatus": SimpleNamespace(RUNNING=0),
    }
    vars(library).update(contents)
    vars(tensors)["Tensor"] = np.array
    monkeypatch.setitem(sys.modules, "openvino_genai", library)
    monkeypatch.setitem(sys.modules, "openvino", tensors)
    monkeypatch.setitem(sys.modules, RIVAL, library)  # so that what is imported now goes again
    del sys.modules[RIVAL]
    return library


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    made = synthetic_bundle(ONE, tmp_path_factory.mktemp("synthetic"))
    converted_folder(made.folder, "int8").mkdir()
    return made


@pytest.fixture
def ask(bundle: Bundle, tmp_path: Path) -> Callable[[str], Measured]:
    def with_engine(engine: str) -> Measured:
        job = {
            "bundle": str(bundle.folder),
            "engine": engine,
            "threads": 2,
            "reuse": True,
            "warm": True,
            "work": {
                "picture": str(draw_picture(tmp_path / "picture.png")),
                "picture_sha256": "",
                "questions": QUESTIONS,
                "extraction_tokens": 6,
                "thinking_tokens": 5,
                "answer_tokens": 3,
            },
        }
        return measure(msgspec.convert(job, Job), None)

    return with_engine


@pytest.mark.usefixtures("genai")
def test_both_turns_hold_the_prompts_of_the_runtime(bundle: Bundle, ask: Callable[[str], Measured]):
    ask("openvino-int8")
    (pipeline,) = opened
    assert pipeline.opened == ("openvino-int8", "CPU", {"INFERENCE_NUM_THREADS": 2})
    extract, think = pipeline.calls[:2]
    conversation = Conversation(bundle)
    told = "".join(message["content"] for message in extract.history)
    assert told == conversation.extract(QUESTIONS[0]).with_picture("<image>")
    told = "".join(message["content"] for message in think.history)
    assert told == conversation.think(QUESTIONS[0], " written").with_picture("<image>")
    assert not hasattr(think, "images")  # the pipeline has seen it
    for call, count in ((extract, 6), (think, 8)):
        config = vars(call.generation_config)
        assert config == {
            "max_new_tokens": count,
            "min_new_tokens": count,
            "ignore_eos": True,
            "do_sample": False,
        }


@pytest.mark.usefixtures("genai")
def test_a_picture_is_new_for_the_first_question_and_known_for_the_second(
    ask: Callable[[str], Measured],
):
    ask("openvino-int8")
    pictures = [call.images[0] for call in opened[0].calls if hasattr(call, "images")]
    warm_first, warm_second, first, second = pictures
    assert first.shape == (1, 480, 640, 3)
    assert first.dtype == np.uint8
    assert np.array_equal(first, second)
    assert np.array_equal(warm_first, warm_second)
    rows, columns = np.nonzero((first != warm_first)[0, :, :, 0])
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (224, 255, 304, 335)


@pytest.mark.usefixtures("genai")
def test_tokens_and_phases_are_those_that_were_heard(ask: Callable[[str], Measured]):
    measured = ask("openvino-int8")
    (first,), (second,) = measured.first, measured.second
    assert (first.tokens.extraction, first.tokens.thinking, first.tokens.answer) == (6, 5, 3)
    assert first.tokens.image == TOWER.patches
    assert (first.tokens.prompt_evaluated, first.tokens.prompt_reused) == (PROMPT_TOKENS, 0)
    # Whole blocks of 32: of the picture and what is before it; of 100 + 5 in stage 2.
    assert (second.tokens.prompt_evaluated, second.tokens.prompt_reused) == (68, 32)
    assert (first.tokens.handover_evaluated, first.tokens.handover_reused) == (4, 96)
    assert list(first.phases_s)[:3] == ["image", "vision", "prefill"]
    assert sum(first.phases_s.values()) == pytest.approx(first.total_s)


def test_what_openvino_refuses_is_told_in_its_words(
    genai: ModuleType, ask: Callable[[str], Measured], monkeypatch: pytest.MonkeyPatch
):
    def refuse(*args: Any, **options: Any) -> None:
        raise RuntimeError("no such device\nat plugin.cpp:7")

    monkeypatch.setattr(FakePipeline, "generate", refuse)
    with pytest.raises(BenchError, match=r"^OpenVINO GenAI: no such device$"):
        ask("openvino-int8")
    monkeypatch.setattr(genai, "VLMPipeline", refuse)
    with pytest.raises(BenchError, match=r"^OpenVINO GenAI: no such device$"):
        ask("openvino-int8")


@pytest.mark.usefixtures("genai")
def test_a_bundle_that_was_not_converted_is_refused(ask: Callable[[str], Measured]):
    with pytest.raises(BenchError, match=r"no openvino-int4 in its folder; .*openvino_convert"):
        ask("openvino-int4")


def test_without_package_or_model_it_is_absent(bundle: Bundle, monkeypatch: pytest.MonkeyPatch):
    bounds = Bounds(memory_bytes_per_s=1e10, gemm_flops_per_s=1e11)
    monkeypatch.setattr(latency, "measure_bounds", lambda threads: bounds)
    setups = [found for found in BASELINES if found.key == "openvino-int4"]
    document = run_latency(
        bundle,
        threads=1,
        samples=1,
        extraction_tokens=2,
        thinking_tokens=2,
        answer_tokens=1,
        baselines=setups,
    )
    absent = document.configurations[1].absent
    assert absent is not None
    assert "openvino" in absent


def test_shapes_that_one_pipeline_can_hold(
    bundle: Bundle, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
):
    with pytest.raises(BenchError, match="is no synthetic bundle"):
        shape_of(tiny_bundle)
    with pytest.raises(BenchError, match="is no synthetic bundle"):
        shape_of(bundle.folder)
    monkeypatch.setitem(SHAPES, "one", replace(IDEFICS3, name="one"))
    with pytest.raises(BenchError, match="is no LLaVA"):
        shape_of(bundle.folder)
    assert WEIGHTS == ("int8", "int4")


def test_the_converted_model_has_the_bundles_dimensions(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(SHAPES, "one", ONE)
    assert shape_of(bundle.folder) is ONE
    shapes = [shape for shape in SHAPES.values() if shape.tower.projector == "mlp"]
    assert [group_size(shape.perceiver) for shape in shapes] == [64, 128, 128, 128, 32]
    settings = preprocessor(ONE)
    assert settings["size"] == {"shortest_edge": 36}
    assert settings["crop_size"] == {"height": 36, "width": 36}


def test_the_picture_has_a_token_that_fits_the_table(tmp_path: Path):
    write_tokenizer(tmp_path / "tokenizer.json", tokenizer_content(LLM))
    tokenizer = TokenizerOfFile.from_file(str(tmp_path / "tokenizer.json"))
    ids = tokenizer.encode("a<image>b").ids
    assert len(ids) == 3
    assert ids[1] == LLM.rows - 1
