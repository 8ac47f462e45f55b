"""Runs held against a stored document: what is measured, what is refused, what is a step back."""

import json
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result

from edge_et.benchmarks import latency, rounds
from edge_et.benchmarks.against import hold, ratios
from edge_et.benchmarks.document import PHASES, Bounds, Document, Measured, Sample, Tokens
from edge_et.benchmarks.latency import BASELINES, RUNTIME
from edge_et.benchmarks.subject import Job
from edge_et.cli.bench import bench

WORK = ["--extraction-tokens", "6", "--thinking-tokens", "5", "--answer-tokens", "3"]
MEASURED = ["--samples", "3", "--threads", "1", *WORK, "--baseline", "reuse-off"]


def sample(seconds: float, *, cold: bool) -> Sample:
    """A sample whose phases take so many seconds each."""
    phases = PHASES if cold else PHASES[2:]
    return Sample(
        phases_s=dict.fromkeys(phases, seconds),
        first_extraction_s=seconds * (len(phases) - 4),
        first_thinking_s=seconds * (len(phases) - 2),
        total_s=seconds * len(phases),
        tokens=Tokens(**dict.fromkeys(Tokens.__struct_fields__, 7)),
        energy_j=None,
        temperature_c=None,
    )


@pytest.fixture
def seconds(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """Seconds of a phase by configuration and question; no process is started."""
    told = {"edge-et": 0.2, "edge-et second": 0.1, "reuse off": 0.4}

    def run_worker(job: Job) -> Measured:
        name = "edge-et" if job.reuse else "reuse off"
        later = sample(told.get(f"{name} second", told[name]), cold=False)
        return Measured(
            first=(sample(told[name], cold=not job.warm),),
            second=(later,) if job.warm else (),
            peak_memory_bytes=7,
            versions={},
        )

    bounds = Bounds(memory_bytes_per_s=1e10, gemm_flops_per_s=1e11)
    monkeypatch.setattr(latency, "measure_bounds", lambda threads: bounds)
    monkeypatch.setattr(rounds, "_run_worker", run_worker)
    monkeypatch.setattr(rounds, "busy_processes", nullcontext)
    return told


@pytest.fixture
def run(tiny_bundle: Path) -> Callable[..., Result]:
    def invoke(*arguments: object) -> Result:
        return CliRunner().invoke(bench, ["--model", str(tiny_bundle), *map(str, arguments)])

    return invoke


@pytest.fixture
def stored(seconds: dict[str, float], run: Callable[..., Result], tmp_path: Path) -> Path:
    done = run(*MEASURED, "--busy", 2, "--json")
    assert done.exit_code == 0, done.output
    path = tmp_path / "stored.json"
    path.write_text(done.stdout)
    return path


def change(path: Path, **changes: Any) -> None:
    document = msgspec.json.decode(path.read_bytes(), type=Document)
    path.write_bytes(msgspec.json.encode(msgspec.structs.replace(document, **changes)))


def test_the_same_speed_passes_on_any_machine(
    stored: Path, seconds: dict[str, float], run: Callable[..., Result]
):
    for name in seconds:
        seconds[name] *= 3
    done = run("--against", stored, "--samples", 4)
    assert (done.exit_code, done.exception) == (0, None)
    assert "edge-et to edge-et, reuse off: first, hand-over" in done.stdout
    assert "worse" not in done.stdout


def test_what_got_slower_is_told_and_fails(
    stored: Path, seconds: dict[str, float], run: Callable[..., Result]
):
    seconds["edge-et second"] *= 1.2
    done = run("--against", stored, "--json")
    document = msgspec.json.decode(done.stdout, type=Document)  # is written as ever
    before = msgspec.json.decode(stored.read_bytes(), type=Document)
    worse = {one.name for one in hold(before, document) if one.verdict == "more"}
    assert worse == {
        "edge-et to edge-et, reuse off: second, to the extraction",
        "edge-et to edge-et, reuse off: second, answer",
        "edge-et, second question to first: to the extraction",
        "edge-et, second question to first: answer",
    }
    assert "4 of 10 ratios are worse beyond the noise" in str(done.exception)
    for name in worse:
        assert name in str(done.exception)
    assert "edge-et, second question to first: answer: 0.500 stored, 0.600 now" in str(
        done.exception
    )


def test_what_got_faster_passes(
    stored: Path, seconds: dict[str, float], run: Callable[..., Result]
):
    seconds["edge-et"] *= 0.8
    seconds["edge-et second"] *= 0.7
    done = run("--against", stored)
    assert done.exit_code == 0
    assert "better" in done.stdout


def test_what_the_stored_document_measured_is_measured(stored: Path, run: Callable[..., Result]):
    done = run("--against", stored, "--json")
    document = msgspec.json.decode(done.stdout, type=Document)
    before = msgspec.json.decode(stored.read_bytes(), type=Document)
    assert [found.name for found in document.configurations] == [
        RUNTIME.name,
        BASELINES[0].name,
    ]
    assert (document.threads, document.busy) == (1, 2)
    assert document.work.extraction_tokens == before.work.extraction_tokens == 6
    assert len(document.configurations[0].busy_first) == 5


def test_ratios_are_of_one_round_each(stored: Path):
    found = ratios(msgspec.json.decode(stored.read_bytes(), type=Document))
    assert found["edge-et to edge-et, reuse off: second, answer"] == pytest.approx((0.25,) * 3)
    assert found["edge-et, second question to first: to the extraction"] == pytest.approx(
        (0.5,) * 3
    )
    assert found["edge-et, first question busy to idle: answer"] == pytest.approx((1.0,) * 3)
    assert not any(name.startswith("edge-et, reuse off") for name in found)


def test_what_cannot_be_compared_is_told_before_anything_is_measured(
    stored: Path, run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    def told(**changes: Any) -> str:
        path = tmp_path / "other.json"
        path.write_bytes(stored.read_bytes())
        change(path, **changes)
        return str(run("--against", path).exception)

    document = msgspec.json.decode(stored.read_bytes(), type=Document)
    replace = msgspec.structs.replace
    monkeypatch.setattr(rounds, "_run_worker", None)
    own, off = document.configurations
    assert "is of the bundle tiny" in told(bundle=replace(document.bundle, sha256="0" * 64))
    other = replace(document.work, picture="mine.png", picture_sha256="0" * 64)
    assert "another picture, mine.png" in told(work=other)
    assert "other questions" in told(work=replace(document.work, questions=("Who?", "Why?")))
    assert "is of 500 threads" in told(threads=500)
    assert "itself was not measured in it; store" in told(configurations=(off,))
    few = replace(own, first=own.first[:2], second=own.second[:2], busy_ratios={})
    assert "edge-et has 2 samples in it" in told(configurations=(few,))
    assert "--samples of at least 3" in told(configurations=(few,))
    assert "does not know: new" in told(configurations=(own, replace(off, name="new")))
    assert "expected at least 3" in str(run("--against", stored, "--samples", 2).exception)


def test_a_drawn_picture_is_known_by_its_name(stored: Path, run: Callable[..., Result]):
    """Versions of Pillow compress the same pixels to other files."""
    work = msgspec.json.decode(stored.read_bytes(), type=Document).work
    change(stored, work=msgspec.structs.replace(work, picture_sha256="0" * 64))
    assert run("--against", stored).exit_code == 0


@pytest.mark.parametrize(
    "option", [["--threads", "1"], ["--busy", "1"], ["--baseline", "torch"], WORK[:2]]
)
def test_options_that_the_document_says_are_refused(option: list[str], run: Callable[..., Result]):
    done = run("--against", "stored.json", *option)
    assert done.exit_code == 2
    assert f"leave out {option[0]}" in done.stderr


def scale(samples: list[dict[str, Any]], factor: float) -> None:
    for one in samples:
        one["total_s"] *= factor
        one["first_extraction_s"] *= factor
        one["phases_s"]["handover"] *= factor


@pytest.mark.slow
@pytest.mark.parametrize(("factor", "status"), [(0.05, 1), (20, 0)])
def test_the_command_fails_where_the_stored_document_was_better(
    factor: float, status: int, tiny_bundle: Path, tmp_path: Path
):
    """Twenty times better or worse, so that no noise decides."""
    command = [sys.executable, "-m", "edge_et", "bench", "--model", str(tiny_bundle)]
    first = subprocess.run([*command, *MEASURED, "--json"], capture_output=True, check=True)
    document = json.loads(first.stdout)
    own, off = document["configurations"]
    scale(own["second"], factor)
    scale(off["cold"] + off["first"], 1 / factor)
    stored = tmp_path / "stored.json"
    stored.write_text(json.dumps(document))
    command += ["--samples", "3", "--against", str(stored), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stderr
    assert len(json.loads(done.stdout)["configurations"]) == 2
    assert ("worse beyond the noise" in done.stderr) == bool(status)
