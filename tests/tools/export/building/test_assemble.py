import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from edge_et.bundle import load_bundle
from edge_et.errors import MissingPackageError, ModelFileError, WidthMismatchError
from edge_et.export.building.assemble import (
    BundleTemplate,
    ModelFiles,
    PackageFile,
    assemble_bundle,
    read_template,
)
from edge_et.export.errors import AssemblyError, GraphError, UnreadableCheckpointError
from edge_et.export.llm.export_llm import export_llm
from edge_et.export.llm.export_lora import export_lora
from edge_et.export.steps import StepReport
from edge_et.export.vision.onnx_graph import open_session, run_graph

CHAT = {
    "turn_start": "<|im_start|>{role}\n",
    "turn_end": "<|im_end|>\n",
    "system": None,
    "stop_tokens": ["<|im_end|>"],
}
GREEDY = {"temperature": 0.0, "top_p": 1.0, "seed": None}
TEMPLATE: dict[str, Any] = {
    "name": "tiny",
    "version": "1",
    "description": "A random model.",
    "processing": {
        "height": 56,
        "width": 56,
        "mean": [0.5, 0.5, 0.5],
        "std": [0.5, 0.5, 0.5],
        "rescale": 1 / 255,
        "resample": "bicubic",
        "fit": "squash",
    },
    "perceiver": {"context_length": 128, "chat": CHAT},
    "reasoner": None,
    "extract": {
        "prompt": "{image}Describe: {question}",
        "max_extraction_tokens": 8,
        "sampling": GREEDY,
    },
    "think": {
        "prompt": "{question}",
        "max_thinking_tokens": 8,
        "answer_marker": "Answer:",
        "max_answer_tokens": 8,
        "sampling": GREEDY,
    },
    "direct": None,
    "sources": [
        {
            "name": "seeds",
            "version": "1",
            "license": "Apache-2.0",
            "url": "https://example.org",
            "used_for": "weights",
        }
    ],
}


def template(tmp_path: Path, **changes: Any) -> BundleTemplate:
    path = tmp_path / "template.json"
    path.write_text(json.dumps(TEMPLATE | changes))
    return read_template(path)


@pytest.fixture
def files(llama_folder: Path, llama_gguf: Path) -> ModelFiles:
    return ModelFiles(weights=llama_gguf, tokenizer=llama_folder / "tokenizer.json")


def test_a_bundle_tells_what_its_files_are(
    vision_graph: Path, llama_folder: Path, llama_gguf: Path, tmp_path: Path
) -> None:
    config = LoraConfig(r=2, target_modules=["q_proj"])
    base = AutoModelForCausalLM.from_pretrained(llama_folder)
    get_peft_model(base, config).save_pretrained(str(tmp_path / "peft"))
    adapter = export_lora(tmp_path / "peft", llama_gguf, tmp_path / "lora.gguf").path
    measured = StepReport(
        name="vision int8",
        path=vision_graph,
        size_bytes=1,
        measure="share",
        error=0.001,
        limit=0.01,
        seconds=1,
    )
    told = StepReport(name="adapter", path=adapter, size_bytes=1, seconds=1)
    report = assemble_bundle(
        template(tmp_path),
        tmp_path / "bundle",
        vision=vision_graph,
        perceiver=ModelFiles(
            weights=llama_gguf, tokenizer=llama_folder / "tokenizer.json", adapter=adapter
        ),
        reports=[measured, told],
    )
    bundle = load_bundle(tmp_path / "bundle")
    manifest = bundle.manifest
    assert (manifest.vision.embedding_width, manifest.vision.image_tokens_per_tile) == (64, 4)
    assert manifest.perceiver.architecture == "llama"
    assert manifest.perceiver.embedding_width == 64
    assert manifest.perceiver.vocabulary_size == 420
    assert [(check.name, check.value, check.limit) for check in manifest.checks] == [
        ("vision int8", 0.001, 0.01)
    ]
    names = {path.name for path in bundle.folder.iterdir()}
    assert names == {
        "bundle.json",
        "vision.onnx",
        "vision.onnx.data",
        "perceiver.gguf",
        "perceiver-lora.gguf",
        "tokenizer.json",
    }
    assert report.size_bytes == sum(path.stat().st_size for path in bundle.folder.iterdir())


def test_the_weights_of_the_tower_lie_beside_its_graph(
    vision_graph: Path, files: ModelFiles, tmp_path: Path
) -> None:
    once, twice = tmp_path / "once", tmp_path / "twice"
    assemble_bundle(template(tmp_path), once, vision=vision_graph, perceiver=files)
    assemble_bundle(template(tmp_path), twice, vision=once / "vision.onnx", perceiver=files)
    pixel_values = np.random.default_rng(0).normal(0, 1, (2, 3, 56, 56)).astype(np.float32)
    expected = run_graph(open_session(vision_graph), pixel_values)
    for folder in (once, twice):
        graph = folder / "vision.onnx"
        data = folder / "vision.onnx.data"
        assert graph.stat().st_size < 100_000 < data.stat().st_size
        assert np.array_equal(run_graph(open_session(graph), pixel_values), expected)
    assert load_bundle(once).manifest.vision == load_bundle(twice).manifest.vision


def test_files_of_the_work_folder_are_moved(
    vision_graph: Path, files: ModelFiles, tmp_path: Path
) -> None:
    work = tmp_path / "work"
    work.mkdir()
    graph = shutil.copy(vision_graph, work / "vision.onnx")
    out = tmp_path / "bundle"
    assemble_bundle(template(tmp_path), out, vision=Path(graph), perceiver=files, take_from=work)
    assert list(work.iterdir()) == []
    assert files.weights.exists()  # type: ignore[union-attr]


def test_two_models_and_replacing_a_bundle(
    vision_graph: Path, files: ModelFiles, make_llm: Callable[..., Path], tmp_path: Path
) -> None:
    folder = make_llm("qwen3", hidden_size=96)
    weights = export_llm(folder, tmp_path / "qwen3.gguf", check_logits=False).path
    out = tmp_path / "bundle"
    assemble_bundle(template(tmp_path), out, vision=vision_graph, perceiver=files)
    assemble_bundle(
        template(tmp_path, reasoner={"context_length": 64, "chat": CHAT}),
        out,
        vision=vision_graph,
        perceiver=files,
        reasoner=ModelFiles(weights=weights, tokenizer=folder / "tokenizer.json"),
    )
    reasoner = load_bundle(out).manifest.reasoner
    assert reasoner is not None
    assert (reasoner.architecture, reasoner.embedding_width) == ("qwen3", 96)
    assert (out / "reasoner.gguf").is_file()
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_weights_of_a_package_are_named_and_not_copied(
    vision_graph: Path,
    files: ModelFiles,
    llama_gguf: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    package = tmp_path / "packages" / "some_llm_package"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise ImportError('must not be imported')")
    shutil.copy(llama_gguf, package / "model.gguf")
    monkeypatch.syspath_prepend(str(package.parent))
    out = tmp_path / "bundle"
    assemble_bundle(
        template(tmp_path),
        out,
        vision=vision_graph,
        perceiver=ModelFiles(
            weights=PackageFile(package="some_llm_package", path="model.gguf"),
            tokenizer=files.tokenizer,
        ),
    )
    weights = load_bundle(out).manifest.perceiver.weights
    assert (weights.package, weights.path) == ("some_llm_package", "model.gguf")
    assert not list(out.glob("*.gguf"))
    assert "some_llm_package" not in sys.modules
    with pytest.raises(MissingPackageError, match="other_package"):
        assemble_bundle(
            template(tmp_path),
            out,
            vision=vision_graph,
            perceiver=ModelFiles(
                weights=PackageFile(package="other_package", path="model.gguf"),
                tokenizer=files.tokenizer,
            ),
        )
    assert load_bundle(out).manifest.perceiver.weights == weights


def refused(
    tmp_path: Path, error: type[Exception], match: str, graph: Path, parts: ModelFiles,
    **changes: Any,
) -> None:  # fmt: skip
    out = tmp_path / "refused" / "bundle"
    with pytest.raises(error, match=match):
        assemble_bundle(template(tmp_path, **changes), out, vision=graph, perceiver=parts)
    assert not out.parent.exists() or list(out.parent.iterdir()) == []


def test_a_model_of_another_width_is_refused(
    vision_graph: Path, make_llm: Callable[..., Path], tmp_path: Path
) -> None:
    folder = make_llm("llama", hidden_size=128)
    weights = export_llm(folder, tmp_path / "wide.gguf", check_logits=False).path
    wide = ModelFiles(weights=weights, tokenizer=folder / "tokenizer.json")
    refused(tmp_path, WidthMismatchError, "64 wide.*128 wide", vision_graph, wide)


def test_parts_that_are_missing_or_damaged_are_refused(
    vision_graph: Path, files: ModelFiles, tmp_path: Path
) -> None:
    garbage = tmp_path / "garbage"
    garbage.write_bytes(b"garbage")
    tokenizer = files.tokenizer
    refused(tmp_path, GraphError, "cannot be opened", garbage, files)
    no_model = ModelFiles(weights=garbage, tokenizer=tokenizer)
    refused(tmp_path, UnreadableCheckpointError, "as a GGUF", vision_graph, no_model)
    missing = ModelFiles(weights=files.weights, tokenizer=tmp_path / "missing.json")
    refused(tmp_path, AssemblyError, "missing.json does not exist", vision_graph, missing)
    no_tokenizer = ModelFiles(weights=files.weights, tokenizer=garbage)
    refused(tmp_path, ModelFileError, "tokenizer", vision_graph, no_tokenizer)
    no_adapter = ModelFiles(weights=files.weights, tokenizer=tokenizer, adapter=garbage)
    refused(tmp_path, ModelFileError, "lora", vision_graph, no_adapter)


def test_templates_that_do_not_fit_are_refused(
    vision_graph: Path, files: ModelFiles, tmp_path: Path
) -> None:
    other_size = TEMPLATE["processing"] | {"height": 64, "width": 64}
    refused(tmp_path, ModelFileError, "pixel_values", vision_graph, files, processing=other_size)
    chat = CHAT | {"stop_tokens": ["<|nothing|>"]}
    model = {"context_length": 128, "chat": chat}
    refused(tmp_path, ModelFileError, "nothing", vision_graph, files, perceiver=model)
    model = {"context_length": 128, "chat": CHAT}
    refused(tmp_path, AssemblyError, "both", vision_graph, files, reasoner=model)
    with pytest.raises(AssemblyError, match=r"unknown field `nonsense`"):
        template(tmp_path, nonsense=1)


def test_a_folder_that_is_no_bundle_is_left_alone(
    vision_graph: Path, files: ModelFiles, tmp_path: Path
) -> None:
    out = tmp_path / "precious"
    out.mkdir()
    (out / "thesis.txt").write_text("years of work")
    with pytest.raises(AssemblyError, match="left alone"):
        assemble_bundle(template(tmp_path), out, vision=vision_graph, perceiver=files)
    assert (out / "thesis.txt").read_text() == "years of work"
