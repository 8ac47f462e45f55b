"""`edge-et build --tower FILE --llm FILE --processor PLACE`: bundles of ready-made files."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from PIL import Image
from tiny.hub import COMMIT, Hub, Repository, running_hub, use_hub
from tiny.idefics3 import write_idefics3
from tiny.lfm2_vl import write_lfm2_vl
from tiny.ready_parts import write_gguf, write_tower_alone, write_vision_encoder
from tiny.vlm import LLAVA, edit_config, edit_tensors
from transformers import SiglipVisionConfig, SiglipVisionModel

import edge_et
from edge_et.bundle import load_bundle
from edge_et.export.building.build_bundle import build_bundle
from edge_et.export.building.build_files import BuildOptions
from edge_et.export.building.build_from_files import build_from_files
from edge_et.export.building.bundle_plan import PlanOptions
from edge_et.export.building.ready_files import ReadyParts, read_processor
from edge_et.export.building.vlm_checkpoint import load_tower, read_vlm
from edge_et.export.errors import (
    AssemblyError,
    HubFileError,
    HubNameError,
    LicenseError,
    MissingTensorError,
    ParityError,
    ToolError,
    UnreadableCheckpointError,
    UnsupportedModelError,
)
from edge_et.export.vision.onnx_graph import open_session, run_outputs

FEW = {"max_extraction_tokens": 6, "max_thinking_tokens": 6, "max_answer_tokens": 4, "seed": 1}
QUESTION = "What is on the table?"
TOWER_TENSORS = "model.vision_tower."


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of SmolVLM, and the same as others publish it."""
    folder = tmp_path_factory.mktemp("ready")
    checkpoint = write_idefics3(folder / "Smol")
    write_vision_encoder(checkpoint, folder / "vision_encoder.onnx")
    write_gguf(checkpoint, folder / "Smol-F32.gguf")
    return folder


@pytest.fixture(scope="session")
def reasoner_gguf(reasoner: Path) -> Path:
    path = reasoner.parent / "reasoner.gguf"
    write_gguf(reasoner, path)
    return path


@pytest.fixture
def parts(made: Path, tmp_path: Path) -> ReadyParts:
    """Copies, which a test may damage, of the three parts."""
    for name in ("vision_encoder.onnx", "Smol-F32.gguf"):
        shutil.copy(made / name, tmp_path)
    shutil.copytree(made / "Smol", tmp_path / "Smol")
    return ReadyParts(
        tower=str(tmp_path / "vision_encoder.onnx"),
        llm=str(tmp_path / "Smol-F32.gguf"),
        processor=str(tmp_path / "Smol"),
    )


def picture() -> Image.Image:
    pixels = np.random.default_rng(2).integers(0, 256, (40, 64, 3), np.uint8)
    return Image.fromarray(pixels)


def answer(bundle: Path) -> edge_et.Answer:
    with edge_et.load(bundle, threads=2) as pipe:
        return pipe.answer(picture(), QUESTION, **FEW)


def test_it_is_the_bundle_that_the_checkpoint_gives(
    made: Path, parts: ReadyParts, tmp_path: Path
) -> None:
    options = BuildOptions(quantization="F32", vision_quantization="none")
    expected = build_bundle(str(made / "Smol"), tmp_path / "expected", options=options)
    built = build_from_files(parts, tmp_path / "bundle")
    manifest, known = (load_bundle(each.path).manifest for each in (built, expected))
    for field in ("extract", "think", "direct", "perceiver"):
        assert getattr(manifest, field) == getattr(known, field), field
    assert manifest.vision.processing == known.vision.processing
    assert manifest.vision.markup == known.vision.markup
    random = np.random.default_rng(4)
    tiles = random.standard_normal((3, 3, 32, 32), np.float32)
    outputs = [run_outputs(open_session(each.path / "vision.onnx"), tiles) for each in
               (built, expected)]  # fmt: skip
    assert np.abs(outputs[0]["image_tokens"] - outputs[1]["image_tokens"]).max() < 1e-4
    assert np.array_equal(outputs[0]["image_markup"], outputs[1]["image_markup"])
    assert answer(built.path).text == answer(expected.path).text
    errors = {report.name: report.error for report in built.reports}
    assert errors["perceiver prompt tokens"] == 0
    assert errors["perceiver ready-made tower float32"] < 1e-4
    assert {context.role for context in built.contexts} == {"perceiver"}


def test_sources_tell_files_and_hashes(parts: ReadyParts, tmp_path: Path) -> None:
    built = build_from_files(parts, tmp_path / "bundle")
    bundle = load_bundle(built.path)
    tower, llm, processor = bundle.manifest.sources
    assert (tower.name, llm.name, processor.name) == (
        "vision_encoder.onnx",
        "Smol-F32.gguf",
        "Smol",
    )
    assert (
        llm.used_for
        == f"perceiver: language model; SHA-256 {bundle.manifest.perceiver.weights.sha256}"
    )
    assert processor.version.startswith("sha256:")


def test_a_reasoner(parts: ReadyParts, reasoner: Path, reasoner_gguf: Path, tmp_path: Path) -> None:
    pair = replace(parts, reasoner_llm=str(reasoner_gguf), reasoner_processor=str(reasoner))
    built = build_from_files(pair, tmp_path / "bundle", options=PlanOptions(context_length=2048))
    manifest = load_bundle(built.path).manifest
    assert manifest.reasoner is not None
    assert manifest.reasoner.architecture == "qwen3"
    assert manifest.perceiver.context_length <= 2048
    assert {source.used_for.partition(";")[0] for source in manifest.sources} >= {
        "reasoner: language model",
        "reasoner: tokenizer",
    }
    assert answer(built.path).extraction


def test_a_tower_of_optimum_gets_the_papers_projector(tmp_path: Path) -> None:
    """The checkpoint holds no tower, and takes the one before the last layer of the hub's."""
    checkpoint = Path(shutil.copytree(LLAVA, tmp_path / "Llava"))
    edit_tensors(
        checkpoint, lambda t: [t.pop(name) for name in list(t) if name.startswith(TOWER_TENSORS)]
    )
    torch.manual_seed(8)
    settings = {
        "hidden_size": 64,
        "intermediate_size": 80,
        "num_hidden_layers": 3,
        "num_attention_heads": 16,
        "image_size": 384,
        "patch_size": 14,
        "vision_use_head": False,
    }
    model = SiglipVisionModel(SiglipVisionConfig(**settings)).eval()
    for name, parameter in model.named_parameters():
        if "norm" in name:  # the exporter stores equal ones once, under one of their names
            torch.nn.init.uniform_(parameter, 0.5, 1.5)
    model.save_pretrained(tmp_path / "tower")
    write_tower_alone(model, 384, tmp_path / "model.onnx")
    write_gguf(checkpoint, tmp_path / "llava.gguf")
    parts = ReadyParts(
        tower=str(tmp_path / "model.onnx"),
        llm=str(tmp_path / "llava.gguf"),
        processor=str(checkpoint),
    )
    built = build_from_files(parts, tmp_path / "bundle")
    tower = load_tower(read_vlm(checkpoint, vision_tower=tmp_path / "tower"))
    pixel_values = torch.randn(2, 3, 384, 384)
    with torch.inference_mode():
        expected = [each.numpy() for each in tower(pixel_values)]
    found = run_outputs(open_session(built.path / "vision.onnx"), pixel_values.numpy())
    for name, values in zip(("image_tokens", "image_newline"), expected, strict=True):
        assert np.abs(found[name] - values).max() < 1e-4, name
    assert answer(built.path).text


# From the hub


@pytest.fixture
def hub(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with running_hub() as hub:
        use_hub(hub.url, tmp_path / "cache", monkeypatch)
        files = {path.name: path.read_bytes() for path in (made / "Smol").iterdir()}
        files["onnx/vision_encoder.onnx"] = (made / "vision_encoder.onnx").read_bytes()
        apache = {"license": "apache-2.0"}
        hub.repositories["owner/Smol"] = Repository(files, apache)
        gguf = {"Smol-F32.gguf": (made / "Smol-F32.gguf").read_bytes()}
        hub.repositories["other/Smol-GGUF"] = Repository(gguf, apache)
        yield hub


PUBLISHED = ReadyParts(
    tower="hf:owner/Smol/onnx/vision_encoder.onnx",
    llm="hf:other/Smol-GGUF@main/Smol-F32.gguf",
    processor="hf:owner/Smol",
)


def test_of_the_hub_no_more_is_fetched_than_is_needed(
    hub: Hub, made: Path, parts: ReadyParts, tmp_path: Path
) -> None:
    built = build_from_files(PUBLISHED, tmp_path / "bundle")
    tower, llm, processor = load_bundle(built.path).manifest.sources
    assert tower.name == "owner/Smol/onnx/vision_encoder.onnx"
    assert (llm.name, llm.version) == ("other/Smol-GGUF/Smol-F32.gguf", COMMIT)
    assert processor.name == "owner/Smol"
    projector_bytes = 64 * 128 * 4
    header_bytes = 8 + int.from_bytes((made / "Smol/model.safetensors").read_bytes()[:8], "little")
    assert hub.sent["model.safetensors"] == projector_bytes + header_bytes
    reports = {report.name: report for report in built.reports}
    assert reports["perceiver ready-made tower float32"].error is not None
    again = build_from_files(parts, tmp_path / "local")
    assert answer(built.path).text == answer(again.path).text


def test_weights_beside_the_graph_come_with_it(hub: Hub, made: Path, tmp_path: Path) -> None:
    import onnx

    model = onnx.load(made / "vision_encoder.onnx")
    graph = tmp_path / "vision_encoder_fp32.onnx"
    onnx.save(
        model, graph, save_as_external_data=True, location=f"{graph.name}_data", size_threshold=64
    )
    files = hub.repositories["owner/Smol"].files
    for path in (graph, tmp_path / f"{graph.name}_data"):
        files[f"onnx/{path.name}"] = path.read_bytes()
    parts = replace(PUBLISHED, tower=f"hf:owner/Smol/onnx/{graph.name}")
    built = build_from_files(parts, tmp_path / "bundle")
    assert answer(built.path).text


def test_a_licence_stops_the_build_before_any_download(hub: Hub, tmp_path: Path) -> None:
    hub.repositories["other/Smol-GGUF"].card = {"license": "gemma"}
    with pytest.raises(LicenseError, match="gemma"):
        build_from_files(PUBLISHED, tmp_path / "bundle")
    assert hub.sent == {}
    assert not (tmp_path / "bundle").exists()


@pytest.mark.parametrize(
    ("changes", "error", "match"),
    [
        ({"tower": "hf:owner/Smol"}, HubNameError, "hf:owner/name/path/to/file.onnx"),
        ({"tower": "hf:owner/Smol/onnx/model.bin"}, HubNameError, "file.onnx"),
        ({"tower": "hf:owner/Smol/onnx/other.onnx"}, HubFileError, "no such file"),
        ({"tower": "hf:owner/Smol/../../x.onnx"}, HubFileError, "no such file"),
        ({"llm": "model.onnx"}, UnreadableCheckpointError, r"does not end with \.gguf"),
        ({"processor": "hf:other/Smol-GGUF"}, HubFileError, "no config.json"),
    ],
)
def test_places_that_are_refused(
    hub: Hub, tmp_path: Path, changes: dict[str, str], error: type[ToolError], match: str
) -> None:
    with pytest.raises(error, match=match):
        build_from_files(replace(PUBLISHED, **changes), tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


def test_a_server_without_ranges_is_told(hub: Hub, tmp_path: Path) -> None:
    hub.knows_ranges = False
    with pytest.raises(HubFileError, match="gives no parts of files"):
        build_from_files(PUBLISHED, tmp_path / "bundle")


# Files that do not belong together


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ({"hidden_size": 96}, "hidden_size 64, and .* says 96"),
        ({"rope_theta": 10_000.0}, "rope_theta 100000, and .* says 10000"),
        ({"num_hidden_layers": 3}, "num_hidden_layers 2"),
        ({"num_hidden_layers": "x"}, "num_hidden_layers"),
        ({"vocab_size": 481}, "vocab_size 480"),
        ({"hidden_act": "gelu"}, "'gelu'"),
        ({"model_type": "qwen2"}, "type 'qwen2' cannot be exported"),
        ({"attention_bias": True}, "attention_bias"),
        ({"rope_parameters": {"rope_type": "linear", "factor": 2.0}}, "rope type 'linear'"),
        ({"use_resampler": True}, "use_resampler"),
    ],
)
def test_a_gguf_of_another_model(
    parts: ReadyParts, tmp_path: Path, text: dict[str, Any], match: str
) -> None:
    path = Path(parts.processor, "config.json")
    settings = json.loads(path.read_text())["text_config"]
    if "rope_theta" in text:
        settings.pop("rope_parameters", None)
    edit_config(path.parent, text_config=settings | text)
    with pytest.raises(ToolError, match=match):
        build_from_files(parts, tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


def test_a_gguf_that_computes_what_no_config_asks_for(parts: ReadyParts, tmp_path: Path) -> None:
    """The same weights, with one more key or one tensor less."""
    source = gguf.GGUFReader(parts.llm)

    def rewritten(name: str, more: dict[str, float], without: str = "") -> ReadyParts:
        writer = gguf.GGUFWriter(tmp_path / name, "llama")
        for key, field in source.fields.items():
            if not key.startswith("GGUF.") and key != "general.architecture":
                kind, *inner = field.types
                writer.add_key_value(
                    key, field.contents(), kind, sub_type=inner[0] if inner else None
                )
        for key, value in more.items():
            writer.add_float32(key, value)
        for tensor in source.tensors:
            if tensor.name != without:
                writer.add_tensor(tensor.name, tensor.data)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return replace(parts, llm=str(tmp_path / name))

    build_from_files(rewritten("same.gguf", {}), tmp_path / "same")
    scaled = rewritten("scaled.gguf", {"llama.logit_scale": 2.0})
    with pytest.raises(UnsupportedModelError, match=r"the key llama\.logit_scale"):
        build_from_files(scaled, tmp_path / "bundle")
    tied = rewritten("tied.gguf", {}, without="output.weight")
    with pytest.raises(AssemblyError, match=r"no output\.weight"):
        build_from_files(tied, tmp_path / "bundle")
    less = rewritten("less.gguf", {}, without="blk.1.attn_q.weight")
    with pytest.raises(MissingTensorError, match=r"blk\.1\.attn_q"):
        build_from_files(less, tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


def test_a_tokenizer_of_another_model(parts: ReadyParts, tmp_path: Path) -> None:
    path = Path(parts.processor, "tokenizer.json")
    path.write_text(path.read_text().replace("<global-img>", "<global-pic>"))
    with pytest.raises(ToolError, match="global-"):
        build_from_files(parts, tmp_path / "bundle")
    content = json.loads(path.read_text().replace("<global-pic>", "<global-img>"))
    vocabulary = content["model"]["vocab"]
    first, second = (token for token, number in vocabulary.items() if number in (60, 61))
    vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]
    path.write_text(json.dumps(content))
    with pytest.raises(AssemblyError, match=r"token 6[01] is .*not of one model"):
        build_from_files(parts, tmp_path / "bundle")


def test_a_tower_with_another_projector(parts: ReadyParts, tmp_path: Path) -> None:
    def spoil(tensors: dict[str, torch.Tensor]) -> None:
        tensors["model.connector.modality_projection.proj.weight"] *= 1.1

    edit_tensors(Path(parts.processor), spoil)
    with pytest.raises(ParityError, match="its projector in numpy"):
        build_from_files(parts, tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


def test_a_projector_that_is_no_matrix(parts: ReadyParts, tmp_path: Path) -> None:
    name = "model.connector.modality_projection.proj.weight"
    edit_tensors(Path(parts.processor), lambda t: t.update({name: t[name].flatten()}))
    with pytest.raises(UnreadableCheckpointError, match=r"0\.weight of the projector is \["):
        build_from_files(parts, tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


def test_no_projector_is_needed_where_the_tower_has_it(parts: ReadyParts, tmp_path: Path) -> None:
    Path(parts.processor, "model.safetensors").unlink()
    built = build_from_files(parts, tmp_path / "bundle")
    reports = {report.name: report for report in built.reports}
    assert reports["perceiver ready-made tower float32"].error is None
    assert answer(built.path).text


# The command


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a process that has neither torch nor transformers."""
    program = (
        "import sys\n"
        "sys.modules |= dict.fromkeys(('torch', 'transformers', 'onnxscript'))\n"
        "from edge_et.cli import main\n"
        "main()"
    )
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )


def test_the_command_needs_no_torch(parts: ReadyParts, tmp_path: Path) -> None:
    places = ("--tower", parts.tower, "--llm", parts.llm, "--processor", parts.processor)
    done = run("build", *places, "--out", str(tmp_path / "bundle"), "--max-tiles", "5", "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["sources"][0]["name"] == "vision_encoder.onnx"
    tiling = load_bundle(tmp_path / "bundle").manifest.vision.processing.tiling
    assert tiling is not None
    assert tiling.max_tiles == 5
    refused = run("build", "--perceiver", parts.processor, "--out", str(tmp_path / "other"))
    assert refused.returncode == 1
    assert 'pip install "edge-et[export]"' in refused.stderr


@pytest.mark.parametrize(
    ("more", "match"),
    [
        ((), "--llm and --processor and --out missing"),
        (("--llm", "b.gguf", "--processor", "c"), "--out missing"),
        (("--llm", "b.gguf", "--processor", "c", "--out", "d", "paper-0.6b"), "either NAME or"),
        (
            ("--llm", "b.gguf", "--processor", "c", "--out", "d", "--quant", "F16"),
            "--quant is for weights that are made",
        ),
        (
            ("--llm", "b.gguf", "--processor", "c", "--out", "d", "--reasoner-llm", "e.gguf"),
            "--reasoner-processor missing",
        ),
    ],
)
def test_usage(more: tuple[str, ...], match: str) -> None:
    done = run("build", "--tower", "a.onnx", *more)
    assert done.returncode == 2
    assert match in done.stderr


def test_a_processor_with_tiles_of_many_sizes(tmp_path: Path) -> None:
    folder = write_lfm2_vl(tmp_path / "checkpoint")
    with pytest.raises(UnsupportedModelError, match="tiles of many sizes"):
        read_processor(folder, None)
