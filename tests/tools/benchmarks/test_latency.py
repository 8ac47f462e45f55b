"""The benchmark of latency, on tiny bundles: structure and counts, never times."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import click
import msgspec
import pytest
from click.testing import CliRunner

from edge_et.benchmarks import latency, rounds
from edge_et.benchmarks.document import (
    PHASES,
    TEMPERATURES,
    Bounds,
    Document,
    Measured,
    Sample,
    Tokens,
    read_document,
)
from edge_et.benchmarks.forced_decoding import draw_forced_tokens
from edge_et.benchmarks.latency import BASELINES, RUNTIME, RUNTIMES, Setup, run_latency
from edge_et.benchmarks.measure import measure
from edge_et.benchmarks.picture import draw_picture
from edge_et.benchmarks.runtime import open_subject
from edge_et.benchmarks.subject import Job
from edge_et.bundle import load_bundle
from edge_et.cli.bench import bench
from edge_et.cli.measured import drawn_size
from edge_et.errors import BenchError, ImageFileError
from edge_et.llm import Tokenizer
from edge_et.options import EngineName
from edge_et.pipeline import kv_cache_bytes

ANY_BOUNDS = Bounds(memory_bytes_per_s=1e10, gemm_flops_per_s=1e11)
ANY_SAMPLE = Sample(
    phases_s={},
    first_extraction_s=1.0,
    first_thinking_s=2.0,
    total_s=3.0,
    tokens=Tokens(**dict.fromkeys(Tokens.__struct_fields__, 1)),
    energy_j=None,
    temperature_c=None,
)
COUNTS = {"extraction_tokens": 6, "thinking_tokens": 5, "answer_tokens": 3}


@pytest.fixture(scope="module")
def document(tiny_bundle: Path) -> Document:
    return run_latency(
        load_bundle(tiny_bundle), threads=1, samples=1, **COUNTS, baselines=IN_THE_RUNTIME
    )


IN_THE_RUNTIME = tuple(found for found in BASELINES if found.key in ("reuse-off", "torch"))
BROKEN = Setup(key="broken", name="broken", note="", engine="nothing", reuse=True)


@pytest.fixture(scope="module")
def pair_document(tiny_pair: Path) -> Iterator[Document]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(latency, "measure_bounds", lambda threads: ANY_BOUNDS)
        baselines = (BASELINES[0], BROKEN)
        yield run_latency(
            load_bundle(tiny_pair), threads=1, samples=1, **COUNTS, baselines=baselines
        )


def all_samples(document: Document) -> list[Sample]:
    return [
        sample
        for found in document.configurations
        for temperature in TEMPERATURES
        for sample in found.samples(temperature)
    ]


def test_every_configuration_has_its_samples(document: Document):
    assert [found.name for found in document.configurations] == [
        setup.name for setup in (RUNTIME, *IN_THE_RUNTIME)
    ]
    for found in document.configurations:
        assert found.absent is None
        assert (len(found.cold), len(found.first), len(found.second)) == (1, 1, 1)
        restarts = int(found.name == RUNTIME.name)
        assert len(found.restart) == restarts
        assert len(found.peak_memory_bytes) == 2 + restarts
        assert min(found.peak_memory_bytes) > 10e6


def test_phases_follow_each_other_and_fill_the_time(document: Document):
    for found in document.configurations:
        for sample in (*found.cold, *found.restart):
            assert tuple(sample.phases_s) == PHASES
        for sample in (*found.first, *found.second):
            assert tuple(sample.phases_s) == PHASES[2:]
    for sample in all_samples(document):
        assert min(sample.phases_s.values()) >= 0
        assert sum(sample.phases_s.values()) == pytest.approx(sample.total_s)
        assert sample.first_extraction_s < sample.first_thinking_s < sample.total_s


@pytest.mark.parametrize("name", ["document", "pair_document"])
def test_all_configurations_do_the_same_work(name: str, request: pytest.FixtureRequest):
    documents: Document = request.getfixturevalue(name)
    kept, *others = documents.configurations
    others = [found for found in others if found.absent is None]
    for sample in all_samples(documents):
        tokens = sample.tokens
        assert (tokens.image, tokens.extraction, tokens.thinking, tokens.answer) == (16, 6, 5, 3)
    for temperature in ("cold", "first", "second"):
        runtime = kept.samples(temperature)[0].tokens
        for found in others:
            theirs = found.samples(temperature)[0].tokens
            assert theirs.prompt_evaluated == runtime.prompt_evaluated + runtime.prompt_reused
            assert theirs.prompt_reused == theirs.handover_reused == 0
            handover = runtime.handover_evaluated + runtime.handover_reused
            assert theirs.handover_evaluated == pytest.approx(handover, abs=8)


def test_reuse_shows_in_what_is_evaluated(document: Document):
    kept, emptied = document.configurations[:2]
    assert kept.first[0].tokens.prompt_reused == 0
    assert kept.second[0].tokens.prompt_reused > 16
    assert kept.cold[0].tokens.prompt_reused == 0
    assert kept.restart[0].tokens.prompt_reused > 16
    assert kept.first[0].tokens.handover_reused > kept.first[0].tokens.handover_evaluated
    assert kept.second[0].tokens.prompt_evaluated < emptied.second[0].tokens.prompt_evaluated


def test_the_document_tells_where_it_comes_from(document: Document, tiny_bundle: Path):
    assert document.bundle.name == "tiny"
    assert document.bundle.models[0].shape["layers"] == 2
    assert {"python", "numpy", "onnxruntime", "llama-cpp-python"} <= set(document.versions)
    assert document.machine.cpu
    assert document.bounds.memory_bytes_per_s > 1e8
    assert document.bounds.gemm_flops_per_s > 1e8


def test_the_document_tells_what_was_opened(document: Document, tiny_bundle: Path):
    own, off, torch = document.configurations
    (model,) = own.models
    bundle = load_bundle(tiny_bundle)
    sizes = {file.role: file.ref.size_bytes for file in bundle.files}
    assert (model.role, model.weights) == ("perceiver", "as stored")
    assert model.file_bytes == sizes["perceiver.weights"] + sizes["perceiver.adapter"]
    assert model.token_bytes == document.bundle.models[0].weight_bytes < model.file_bytes
    assert model.engine_version == document.versions["llama-cpp-python"]
    assert (off.models, torch.models) == (own.models, ())
    tower = [size for role, size in sizes.items() if role.startswith("vision")]
    assert document.bundle.tower_bytes == sum(tower) > 0
    assert document.bundle.kv_cache_bytes == kv_cache_bytes(bundle, "f16")


def test_a_document_survives_a_file(document: Document, tmp_path: Path):
    path = tmp_path / "bench.json"
    path.write_bytes(msgspec.json.encode(document))
    assert read_document(path) == document
    path.write_text('{"format": "edge-et-bench"}')
    with pytest.raises(BenchError, match="no document"):
        read_document(path)
    with pytest.raises(BenchError, match="cannot be read"):
        read_document(tmp_path / "none.json")


def test_a_context_that_is_too_short_is_told(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(latency, "measure_bounds", lambda threads: ANY_BOUNDS)
    counts = COUNTS | {"extraction_tokens": 600}
    with pytest.raises(BenchError, match="context"):
        run_latency(load_bundle(tiny_bundle), threads=1, samples=1, **counts, baselines=())


def test_a_picture_that_is_not_there_starts_no_process(tiny_bundle: Path, tmp_path: Path):
    bundle = load_bundle(tiny_bundle)
    with pytest.raises(ImageFileError):
        run_latency(bundle, threads=1, samples=1, **COUNTS, picture=tmp_path / "none.png")


def test_a_baseline_that_cannot_run_is_absent_and_says_why(pair_document: Document):
    *others, broken = pair_document.configurations
    assert [found.absent for found in others] == [None, None]
    assert "KeyError" in (broken.absent or "")
    assert broken.cold == ()


def test_configurations_take_turns(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch):
    """A machine that slows down must not slow down the last of them alone."""
    ran: list[tuple[str, str]] = []

    def run_worker(job: Job) -> Measured:
        kind = "warm" if job.warm else "restart" if job.cache_dir else "cold"
        ran.append((job.engine, kind))
        if len(ran) > 12 and job.engine == "fails-later":
            raise BenchError("out of memory")
        second = (ANY_SAMPLE,) if job.warm else ()
        return Measured(
            first=(ANY_SAMPLE,), second=second, peak_memory_bytes=7, versions={job.engine: "1"}
        )

    monkeypatch.setattr(latency, "measure_bounds", lambda threads: ANY_BOUNDS)
    monkeypatch.setattr(rounds, "_run_worker", run_worker)
    later = Setup(key="later", name="later", note="", engine="fails-later", reuse=True)
    document = run_latency(
        load_bundle(tiny_bundle), threads=1, samples=3, **COUNTS, baselines=(BASELINES[0], later)
    )
    runtime, reuse_off, failed = document.configurations
    one_round = [("edge-et", kind) for kind in ("cold", "restart", "warm", "cold", "warm")]
    others = [("fails-later", "cold"), ("fails-later", "warm")]
    first_round = [*one_round[:1], ("edge-et", "restart"), *one_round[1:], *others]
    assert ran == [*first_round, *one_round, *others[:1], *one_round]
    assert (len(runtime.cold), len(runtime.restart), len(runtime.first), len(runtime.second)) == (
        3,
        3,
        3,
        3,
    )
    assert (len(reuse_off.restart), len(runtime.peak_memory_bytes)) == (0, 9)
    assert (failed.absent, failed.cold) == ("out of memory", ())
    assert document.versions["fails-later"] == "1"


def test_forced_tokens_are_written_whatever_the_model_wants(tiny_bundle: Path, tmp_path: Path):
    bundle = load_bundle(tiny_bundle)
    picture = draw_picture(tmp_path / "picture.png")
    job = msgspec.convert(
        {
            "bundle": str(tiny_bundle),
            "engine": "edge-et",
            "threads": 1,
            "reuse": True,
            "warm": True,
            "work": {
                "picture": str(picture),
                "picture_sha256": "",
                "questions": ["What?", "Why?"],
                **COUNTS,
            },
        },
        Job,
    )
    assert measure(job, 0.0).first[0].tokens.extraction == 6
    with open_subject(bundle, job).pipeline as pipeline:
        answer = pipeline.answer(
            picture, "What?", max_extraction_tokens=6, max_thinking_tokens=5, max_answer_tokens=3
        )
    tokenizer = Tokenizer(bundle.path(bundle.manifest.perceiver.tokenizer))
    script = draw_forced_tokens(tokenizer, "Answer:", 14)
    written = " ".join((answer.extraction, answer.reasoning, answer.text))
    assert written == tokenizer.decode(script).strip()


def test_the_command_line_knows_all_baselines():
    option = next(option for option in bench.params if option.name == "baselines")
    assert isinstance(option.type, click.Choice)
    assert [*option.type.choices] == [baseline.key for baseline in BASELINES]


def test_the_command_line_knows_all_engines():
    option = next(option for option in bench.params if option.name == "engines")
    assert isinstance(option.type, click.Choice)
    assert (*option.type.choices,) == get_args(EngineName)
    assert [setup.key for setup in RUNTIMES] == [RUNTIME.key, *get_args(EngineName)]


def test_engines_take_turns_and_reuse_is_off_for_the_first(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
):
    ran: list[tuple[str, bool]] = []

    def run_worker(job: Job) -> Measured:
        if job.warm:
            ran.append((job.engine, job.reuse))
        elif job.cache_dir is not None:
            folders[job.engine] = job.cache_dir
        second = (ANY_SAMPLE,) if job.warm else ()
        return Measured(first=(ANY_SAMPLE,), second=second, peak_memory_bytes=7, versions={})

    folders: dict[str, str] = {}
    monkeypatch.setattr(latency, "measure_bounds", lambda threads: ANY_BOUNDS)
    monkeypatch.setattr(rounds, "_run_worker", run_worker)
    command = ["--model", str(tiny_bundle), "--samples", "2", "--threads", "1", "--json"]
    command += ["--engine", "prebuilt", "--engine", "llama", "--baseline", "reuse-off"]
    done = CliRunner().invoke(bench, command)
    assert done.exit_code == 0, done.exception
    assert ran == [("llama", True), ("prebuilt", True), ("llama", False)] * 2
    assert folders["llama"] != folders["prebuilt"]  # neither finds what the other one kept
    names = [found["name"] for found in json.loads(done.stdout)["configurations"]]
    assert names == ["edge-et, llama", "edge-et, prebuilt", "edge-et, reuse off"]


def test_measuring_this_runtime_loads_no_torch():
    modules = "latency", "plot", "report", "compare_documents", "synthetic.synthetic_bundle"
    code = "".join(f"import edge_et.benchmarks.{name}\n" for name in modules)
    code += "import sys; print('torch' in sys.modules, 'transformers' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False False\n"


def test_the_command_line_prints_one_document(tiny_bundle: Path, tmp_path: Path):
    command = [sys.executable, "-m", "edge_et", "bench", "--model", str(tiny_bundle)]
    command += ["--samples", "1", "--extraction-tokens", "2", "--thinking-tokens", "2", "--json"]
    command += ["--baseline", "reuse-off"]
    command += ["--threads", "1", "--plot", str(tmp_path / "phases.svg")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    document = json.loads(done.stdout)
    assert document["arguments"][:2] == ["bench", "--model"]
    assert (tmp_path / "phases.svg").read_text().startswith("<?xml")


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["--json", "--csv"], 2, "give one of them"),
        (["--plot", "phases.gif"], 1, "ends in .png or .svg"),
        (["--compare", "a.json", "b.json"], 1, "a.json cannot be read"),
        (["--against", "a.json"], 1, "a.json cannot be read"),
        (["--against", "a.json", "--compare", "a.json", "b.json"], 2, "leave out --compare"),
    ],
)
def test_wrong_use_is_told_in_a_line(arguments: list[str], status: int, said: str, tmp_path: Path):
    command = [sys.executable, "-m", "edge_et", "bench", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert (done.returncode, done.stdout) == (status, "")
    assert said in done.stderr


def test_the_picture_fits_what_is_measured():
    assert drawn_size(None) == (640, 480)
    assert drawn_size("smolvlm2-256m") == (640, 480)
    assert drawn_size("internvl3.5-1b") == (896, 448)  # of which llama.cpp makes as many tiles
