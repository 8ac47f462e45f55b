"""`edge-et build`: from checkpoints in folders and on a stand-in hub to bundles that answer."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny.anyres import golden, golden_image
from tiny.hub import COMMIT, running_hub, use_hub
from tiny.idefics3 import Kind, picture, write_idefics3
from tiny.places import GOLDEN
from tiny.vlm import TOWER, llava_tensors, write_checkpoint, write_onevision
from transformers import (
    AutoTokenizer,
    SiglipVisionConfig,
    SiglipVisionModel,
)

import edge_et
from edge_et.bundle import Manifest, ThinkSpec, load_bundle, save_manifest
from edge_et.errors import OptionError
from edge_et.export.building.build_bundle import Built, build_bundle
from edge_et.export.building.build_files import BuildOptions
from edge_et.export.building.evaluation_prompts import check_reasoner_tokens
from edge_et.export.building.stage_specs import StageModel, plan_stages
from edge_et.export.chat.llm_chat_format import read_llm_chat_format
from edge_et.export.chat.reference import TransformersReference
from edge_et.export.errors import (
    AssemblyError,
    CheckpointError,
    DiskSpaceError,
    LeftoverTensorError,
    QuantizationError,
    UnknownQuantizationError,
    UnreadableCheckpointError,
    UnsupportedModelError,
)
from edge_et.llm import Tokenizer
from edge_et.results import Answer, ReasoningToken

PERCEIVER = GOLDEN / "llava_qwen3_tiny"
SO400M = "google/siglip-so400m-patch14-384"
SMALL = BuildOptions(quantization="Q8_0", max_tiles=5)
FEW = {"max_extraction_tokens": 6, "max_thinking_tokens": 6, "max_answer_tokens": 4, "seed": 1}


@pytest.fixture(scope="session")
def pair(reasoner: Path, tmp_path_factory: pytest.TempPathFactory) -> Built:
    out = tmp_path_factory.mktemp("built") / "pair"
    return build_bundle(str(PERCEIVER), out, reasoner=str(reasoner), options=SMALL)


def manifest_of(out: Path) -> Manifest:
    return load_bundle(out).manifest


def leftovers(out: Path) -> list[str]:
    return [path.name for path in out.parent.iterdir() if path != out]


def test_the_manifest_tells_what_was_built_and_measured(pair: Built) -> None:
    manifest = manifest_of(pair.path)
    assert manifest.name == "llava_qwen3_tiny--Reasoner-Tiny"
    vision = manifest.vision
    assert (vision.arrangement, vision.image_tokens_per_tile, vision.embedding_width) == (
        "unpadded", 729, 128,
    )  # fmt: skip
    assert vision.processing.tiling is not None
    assert (vision.processing.tiling.max_tiles, vision.processing.tiling.shrink_over_tiles) == (
        5,
        9,
    )
    assert manifest.perceiver.chat.system == "You are a helpful assistant."
    assert manifest.extract.prompt.startswith("{image}\nDescribe the fine-grained content")
    assert manifest.reasoner is not None
    assert manifest.reasoner.chat.system is None
    thoughts = manifest.think.thoughts
    assert thoughts is not None
    assert (thoughts.start, thoughts.end, thoughts.default) == ("<think>", "</think>", False)
    perceiver, thinker = manifest.sources
    assert (perceiver.name, thinker.name) == ("llava_qwen3_tiny", "Reasoner-Tiny")
    assert (perceiver.license, thinker.license) == ("unknown: see the folder", "mit")
    assert perceiver.version.startswith("sha256:")
    checks = {check.name: check for check in manifest.checks}
    assert list(checks) == [
        "perceiver prompt tokens",
        "reasoner prompt tokens",
        "perceiver vision float32",
        "perceiver vision int8 dynamic",
        "perceiver llm F16",
        "perceiver llm Q8_0",
        "reasoner llm F16",
        "reasoner llm Q8_0",
    ]
    assert checks["perceiver prompt tokens"].value == checks["reasoner prompt tokens"].value == 0
    assert 0 < checks["perceiver llm Q8_0"].value < 0.1
    assert checks["perceiver llm Q8_0"].unit == "mean KL, nats"
    assert [report.name for report in pair.reports] == [*checks, "bundle"]
    assert leftovers(pair.path) == []


def test_contexts_hold_prompts_and_budgets(pair: Built) -> None:
    manifest = manifest_of(pair.path)
    seen, thought = pair.contexts
    # All of the picture and a grid of 2 x 2, 4 x 1 or 1 x 4, with its newlines.
    assert 729 + 4 * 729 + 27 * 4 + 1024 < seen.tokens < 6144
    assert seen.tokens == manifest.perceiver.context_length
    assert seen.kv_bytes == seen.tokens * 4 * 2 * 64 * 2 * 2
    assert manifest.reasoner is not None
    assert thought.tokens == manifest.reasoner.context_length


def test_the_bundle_answers(pair: Built) -> None:
    with edge_et.load(pair.path, threads=2) as pipe:
        answer = pipe.answer(golden_image("tiny"), "What is this?", max_tiles=2, **FEW)
    assert answer.usage["extract"].generated_tokens == 6
    assert answer.text
    assert answer.usage["vision"].evaluated_tokens > 729


def test_a_reasoner_whose_template_opens_the_thought(
    pair: Built, reasoner: Path, tmp_path: Path
) -> None:
    """Its thoughts are closed and told as reasoning, and left out where nobody wants them."""
    checkpoint = Path(shutil.copytree(reasoner, tmp_path / "checkpoint"))
    (checkpoint / "chat_template.jinja").write_text(
        "{% for message in messages %}{{ '<|im_start|>' + message.role + '\n' + message.content"
        " + '<|im_end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n<think>\n' }}{% endif %}"
    )
    planned = plan_reasoner(checkpoint)
    thoughts = planned.thoughts
    assert thoughts is not None
    assert (thoughts.start + thoughts.start_suffix, thoughts.default) == ("<think>\n", True)
    bundle = Path(shutil.copytree(pair.path, tmp_path / "bundle"))
    save_manifest(msgspec.structs.replace(manifest_of(bundle), think=planned), bundle)
    with edge_et.load(bundle, threads=2) as pipe:
        image = pipe.encode_image(golden_image("tiny"), max_tiles=1)
        *events, answer = pipe.stream(image, "What is this?", **FEW)
        assert isinstance(answer, Answer)
        assert answer.reasoning
        assert answer.text
        assert answer.finish_reasons["think"] == "length"
        told = "".join(event.text for event in events if isinstance(event, ReasoningToken))
        assert told.strip() == answer.reasoning
        thought = read_by_reasoner(pipe)
        assert "assistant\n<think>\n" in thought
        assert thought.count("<think>") == thought.count("</think>") == 1
        silent = pipe.answer(image, "What is this?", thinking=False, **FEW)
        assert silent.text
        assert "assistant\n<think>\n\n</think>\n\n" in read_by_reasoner(pipe)


ROLE = (
    "You are an excellent text-based reasoning expert. You are required to answer the question "
    "based on the detailed description of the image.\n\n"
)
STEPS = "Please reason step by step, and give the final answer on the last line by itself in the"
END = 'format of "Answer:". Do not add anything other than the'
OPEN = {
    False: f'Answer directly in the {END} answer after "Answer:".',
    True: f'{STEPS} {END} answer after "Answer:".',
}
LETTER = {
    False: f'Answer directly with the option\'s letter in the {END} letter answer after "Answer:".',
    True: f'{STEPS} {END} letter answer after "Answer:".',
}
SIGN = "What does the sign say?"


@pytest.mark.parametrize("thinks", [False, True])
def test_whole_prompts_are_those_that_transformers_writes(
    pair: Built, reasoner: Path, tmp_path: Path, thinks: bool
) -> None:
    """The open one, the one with choices, and that of the paper's protocol for any question."""
    reference = AutoTokenizer.from_pretrained(reasoner)

    def expected(extraction: str, question: str, tail: str) -> list[int]:
        content = f"{ROLE}Description: {extraction}\nQuestion: {question}\n{tail}"
        text = reference.apply_chat_template(
            [{"role": "user", "content": content}],
            tokenize=False,
            add_generation_prompt=True,
            enable_thinking=thinks,
        )
        ids: list[int] = reference(text + "<think>" * thinks).input_ids
        return ids

    def check(pipe: edge_et.ExtractThink, told: str, tail: str, **options: Any) -> Answer:
        image = pipe.encode_image(golden_image("tiny"), max_tiles=1)
        answer = pipe.answer(image, SIGN, thinking=thinks, **FEW, **options)
        ids = expected(answer.extraction, told, tail)
        held = held_by_reasoner(pipe)
        assert held[: len(ids)] == ids
        return answer

    with edge_et.load(pair.path, threads=2) as pipe:
        assert check(pipe, SIGN, OPEN[thinks]).text
        check(pipe, SIGN, OPEN[thinks], kind="yes/no")
        told = SIGN + "\nOptions: A: STOP, B: GO, {now}"
        answer = check(pipe, told, LETTER[thinks], choices=["STOP", "GO, {now}"])
        assert answer.text in ("STOP", "GO, {now}")
        assert answer.usage["think"].answer_tokens == 1
    bundle = Path(shutil.copytree(pair.path, tmp_path / "paper"))
    think = plan_reasoner(reasoner, paper_protocol=True)
    save_manifest(msgspec.structs.replace(manifest_of(bundle), think=think), bundle)
    with edge_et.load(bundle, threads=2) as pipe:
        check(pipe, SIGN, LETTER[thinks])
        check(pipe, told, LETTER[thinks], choices=["STOP", "GO, {now}"])


def plan_reasoner(checkpoint: Path, *, paper_protocol: bool = False) -> ThinkSpec:
    """Return stage 2 as a build plans it, after its check of the prompts' tokens."""
    found = read_llm_chat_format(checkpoint)
    assert found.chat.assistant_start_suffix == ""
    model = StageModel(
        chat=found.chat,
        tokenizer=Tokenizer(checkpoint / "tokenizer.json"),
        parameters=1000,
        longest=8192,
        thoughts=found.thoughts,
    )
    perceiver = dataclasses.replace(model, image_prefix="{image}")
    think = plan_stages(perceiver, model, 800, None, paper_protocol=paper_protocol).think
    reference = TransformersReference(checkpoint)
    assert check_reasoner_tokens(reference, model, think).error == 0
    return think


def held_by_reasoner(pipe: edge_et.ExtractThink) -> list[int]:
    held = pipe._models.thinking_model.kv_cache._cached  # type: ignore[attr-defined]
    return [at if isinstance(at, int) else at[1] for at in held]


def read_by_reasoner(pipe: edge_et.ExtractThink) -> str:
    return pipe._models.thinking_model.tokenizer.decode(held_by_reasoner(pipe))


def test_float_models_give_the_references_image_tokens(tmp_path: Path) -> None:
    options = BuildOptions(quantization="F32", vision_quantization="none")
    built = build_bundle(str(PERCEIVER), tmp_path / "one", options=options)
    manifest = manifest_of(built.path)
    assert manifest.reasoner is None
    assert manifest.think.sees == "conversation"
    assert manifest.vision.processing.tiling is not None
    assert manifest.vision.processing.tiling.max_tiles is None
    with edge_et.load(built.path, threads=2) as pipe:
        rows = pipe.encode_image(golden_image("tiny")).rows
    np.testing.assert_allclose(rows, golden("tiny")["packed"], atol=1e-4)
    assert {report.name: report.limit for report in built.reports}["perceiver llm F32"] == 2e-3


def test_the_same_checkpoints_give_the_same_bytes(
    pair: Built, reasoner: Path, tmp_path: Path
) -> None:
    again = build_bundle(str(PERCEIVER), tmp_path / "again", reasoner=str(reasoner), options=SMALL)
    names = sorted(path.name for path in pair.path.iterdir())
    assert sorted(path.name for path in again.path.iterdir()) == names
    for name in names:
        assert (again.path / name).read_bytes() == (pair.path / name).read_bytes(), name


def test_own_pictures_and_importance(tmp_path: Path) -> None:
    options = BuildOptions(
        quantization="Q4_0",
        importance=True,
        pictures=GOLDEN / "images",
        context_length=5120,
        max_tiles=2,
        paper_protocol=True,
    )
    built = build_bundle(str(PERCEIVER), tmp_path / "guided", options=options)
    assert "perceiver llm Q4_0 by importance" in [report.name for report in built.reports]
    manifest = manifest_of(built.path)
    assert manifest.perceiver.context_length == 5120
    assert 256 < manifest.think.max_thinking_tokens < 1024
    assert "option's letter" in manifest.think.prompt


def test_llava_onevision(tmp_path: Path) -> None:
    folder = write_onevision(tmp_path / "onevision")
    options = BuildOptions(quantization="BF16", vision_quantization="none", max_tiles=1)
    built = build_bundle(str(folder), tmp_path / "out", options=options)
    manifest = manifest_of(built.path)
    assert manifest.extract.prompt.startswith("{image}\nDescribe")
    assert manifest.perceiver.architecture == "qwen3"
    with edge_et.load(built.path, threads=2) as pipe:
        assert pipe.answer(golden_image("tiny"), "What is this?", **FEW).text


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["Idefics3", "SmolVLM"])
def test_idefics3_with_a_reasoner(reasoner: Path, tmp_path: Path, kind: Kind) -> None:
    folder = write_idefics3(tmp_path / "checkpoint", kind)
    options = BuildOptions(quantization="Q8_0")
    built = build_bundle(str(folder), tmp_path / "out", reasoner=str(reasoner), options=options)
    checks = {check.name: check for check in manifest_of(built.path).checks}
    assert checks["perceiver prompt tokens"].value == 0
    assert checks["perceiver vision float32"].value < 1e-4
    assert any(name.startswith("perceiver vision int8") for name in checks)
    with edge_et.load(built.path, threads=2) as pipe:
        answer = pipe.answer(picture(96, 64), "What is this?", **FEW)
        again = pipe.answer(picture(96, 64), "Is there a cat?", **FEW)
    assert answer.text
    assert again.usage["extract"].reused_tokens > again.usage["vision"].reused_tokens > 0


def test_a_tower_that_lies_beside_is_fetched_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tensors = {name: t for name, t in llava_tensors().items() if not name.startswith(TOWER)}
    torch.manual_seed(8)
    tower = SiglipVisionModel(
        SiglipVisionConfig(
            hidden_size=64,
            intermediate_size=172,
            num_hidden_layers=4,
            num_attention_heads=16,
            image_size=384,
            patch_size=14,
        )
    )
    tower.save_pretrained(tmp_path / "tower")
    with running_hub() as hub:
        use_hub(hub.url, tmp_path / "cache", monkeypatch)
        folder = write_checkpoint(tmp_path / "blind", PERCEIVER, tensors)
        hub.add("paper/blind", folder, card={"license": "apache-2.0"})
        hub.add(SO400M, tmp_path / "tower", card={"license": "apache-2.0"})
        built = build_bundle(
            "hf:paper/blind",
            tmp_path / "out",
            options=BuildOptions(quantization="BF16", vision_quantization="none"),
        )
    assert [source.name for source in built.sources] == ["paper/blind", SO400M]
    assert built.sources[1].used_for == "perceiver: vision tower"
    assert manifest_of(built.path).sources == built.sources


# From the hub, as a command


@pytest.fixture
def command(reasoner: Path, tmp_path: Path) -> Iterator[tuple[list[str], dict[str, str]]]:
    """The command that builds from a hub, and its environment."""
    with running_hub() as hub:
        hub.add("paper/Perceiver-Tiny", PERCEIVER, card={"license": "apache-2.0"})
        hub.add("paper/Reasoner-Tiny", reasoner, card={"license": "mit"})
        environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf")}
        arguments = [sys.executable, "-m", "edge_et", "build", "--perceiver"]
        arguments += ["hf:paper/Perceiver-Tiny", "--reasoner", "hf:paper/Reasoner-Tiny@main"]
        arguments += ["--quant", "Q8_0", "--max-tiles", "2", "--out", str(tmp_path / "b" / "tiny")]
        yield arguments, environment


def run(command: tuple[list[str], dict[str, str]], *more: str) -> subprocess.CompletedProcess[str]:
    arguments, environment = command
    return subprocess.run(
        [*arguments, *more], env=environment, capture_output=True, text=True, check=False
    )


def test_from_the_hub_with_one_document_on_stdout_or_an_error(
    command: tuple[list[str], dict[str, str]], tmp_path: Path
) -> None:
    done = run(command, "--perceiver", "hf:paper/Missing")
    assert (done.returncode, done.stdout) == (1, "")
    assert "hf:paper/Missing is not on http" in done.stderr
    assert not (tmp_path / "b").exists()
    done = run(command, "--json", "--paper-protocol")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["bundle"] == str(tmp_path / "b" / "tiny")
    assert {step["name"] for step in document["steps"]} >= {"perceiver prompt tokens", "bundle"}
    assert [context["role"] for context in document["contexts"]] == ["perceiver", "reasoner"]
    manifest = manifest_of(tmp_path / "b" / "tiny")
    assert "option's letter" in manifest.think.prompt
    assert manifest.think.max_answer_tokens == 1024
    perceiver, _ = manifest.sources
    assert (perceiver.name, perceiver.version) == ("paper/Perceiver-Tiny", COMMIT)
    assert perceiver.license == "apache-2.0"
    assert perceiver.url.endswith(f"/paper/Perceiver-Tiny/tree/{COMMIT}")
    assert leftovers(tmp_path / "b" / "tiny") == []


def test_a_killed_build_leaves_no_bundle_and_the_next_one_works(
    command: tuple[list[str], dict[str, str]], tmp_path: Path
) -> None:
    arguments, environment = command
    out = tmp_path / "b" / "tiny"
    work = out.parent / ".tiny.building"
    process = subprocess.Popen(arguments, env=environment, stdout=subprocess.DEVNULL)
    try:
        while not list(work.glob("vision*")):
            assert process.poll() is None
            time.sleep(0.02)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert leftovers(out) == [work.name]
    assert not out.exists()
    done = run(command)
    assert done.returncode == 0, done.stderr
    assert "a context of" in done.stdout
    assert isinstance(manifest_of(out), Manifest)
    assert leftovers(out) == []


# What is refused


def refused(error: type[Exception], match: str, out: Path, perceiver: Path, **options: Any) -> None:
    settings = {"quantization": "Q8_0", "vision_quantization": "none", **options}
    with pytest.raises(error, match=match):
        build_bundle(str(perceiver), out, options=BuildOptions(**settings))
    assert not out.exists()
    assert leftovers(out) == [] if out.parent.exists() else True


def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(PERCEIVER, tmp_path / "copy"))


def test_hostile_checkpoints_leave_nothing(tmp_path: Path) -> None:
    out = tmp_path / "made" / "out"
    folder = copy(tmp_path)
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    refused(UnreadableCheckpointError, "cannot be read", out, folder)
    weights.write_bytes(whole)
    tensors = load_file(weights)
    save_file({**tensors, "model.extra.weight": torch.zeros(2)}, weights)
    refused(LeftoverTensorError, "model.extra.weight", out, folder)
    name = "model.layers.1.mlp.up_proj.weight"
    save_file({**tensors, name: torch.full_like(tensors[name], torch.nan)}, weights)
    refused(CheckpointError, "NaN", out, folder)
    weights.unlink()
    refused(UnreadableCheckpointError, "lacks", out, folder)


def test_what_is_no_pickle_of_tensors_is_refused(tmp_path: Path) -> None:
    folder = copy(tmp_path)
    (folder / "model.safetensors").unlink()
    witness = tmp_path / "witness"
    program = f"cposix\nsystem\n(S'touch {witness}'\ntR.".encode()
    (folder / "pytorch_model.bin").write_bytes(program)
    refused(CheckpointError, "pytorch_model.bin", tmp_path / "made" / "out", folder)
    assert not witness.exists()


def test_what_cannot_be_done_is_refused_before_anything_is_read(
    reasoner: Path, tmp_path: Path
) -> None:
    out, nowhere = tmp_path / "made" / "out", tmp_path / "nowhere"
    refused(UnknownQuantizationError, "Q9", out, nowhere, quantization="Q9")
    refused(UnknownQuantizationError, "int2", out, nowhere, vision_quantization="int2")
    refused(QuantizationError, "importance matrix", out, nowhere, quantization="IQ2_XXS")
    refused(QuantizationError, "not a folder", out, nowhere, pictures=nowhere)
    refused(OptionError, "max_tiles", out, nowhere, max_tiles=0)
    refused(UnreadableCheckpointError, "not a folder", out, nowhere)
    refused(UnsupportedModelError, "without eyes", out, reasoner)
    refused(AssemblyError, "too short", out, PERCEIVER, context_length=4096)
    out.mkdir(parents=True)
    (out / "thesis.txt").write_text("years of work")
    with pytest.raises(AssemblyError, match="left alone"):
        build_bundle(str(PERCEIVER), out)
    assert (out / "thesis.txt").read_text() == "years of work"


def test_a_full_disk_is_told_before_weights_are_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage(10, 5, 1000))
    refused(DiskSpaceError, "has 0.0 MB free", tmp_path / "made" / "out", PERCEIVER)
