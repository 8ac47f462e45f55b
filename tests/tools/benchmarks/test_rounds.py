"""Rounds of samples: which processes a round runs, and what a failed one says."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from edge_et.benchmarks import rounds
from edge_et.benchmarks.document import Measured, Sample, Tokens, Work
from edge_et.benchmarks.rounds import Rounds
from edge_et.benchmarks.subject import Job
from edge_et.errors import BenchError

JOB = Job(
    bundle="/nowhere",
    engine="edge-et",
    threads=1,
    reuse=True,
    warm=True,
    work=Work(
        picture="a.png",
        picture_sha256="",
        questions=("What?", "Why?"),
        extraction_tokens=2,
        thinking_tokens=2,
        answer_tokens=1,
    ),
)


def measured(number: int, *, warm: bool) -> Measured:
    sample = Sample(
        phases_s={},
        first_extraction_s=1.0,
        first_thinking_s=2.0,
        total_s=float(number),
        tokens=Tokens(**dict.fromkeys(Tokens.__struct_fields__, 1)),
        energy_j=None,
        temperature_c=None,
    )
    second = (sample,) if warm else ()
    versions = {"program": str(number)}
    return Measured(first=(sample,), second=second, peak_memory_bytes=number, versions=versions)


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> list[Job]:
    """Jobs in the order of their processes, which are not started; each measures its number."""
    done: list[Job] = []

    def run_worker(job: Job) -> Measured:
        done.append(job)
        return measured(len(done), warm=job.warm)

    monkeypatch.setattr(rounds, "_run_worker", run_worker)
    return done


def totals(samples: tuple[Sample, ...]) -> list[float]:
    return [sample.total_s for sample in samples]


def test_a_round_is_a_cold_process_and_a_warm_one(jobs: list[Job]):
    told: list[str] = []
    kept = Rounds(name="kept", note="what it does", job=JOB)
    kept.run_one(told.append)
    kept.run_one(told.append)
    assert told == ["cold", "warm"] * 2
    assert [job.warm for job in jobs] == [False, True] * 2
    assert {job.cache_dir for job in jobs} == {None}
    found = kept.configuration()
    assert (found.name, found.note, found.absent) == ("kept", "what it does", None)
    assert totals(found.cold) == [1, 3]
    assert totals(found.first) == totals(found.second) == [2, 4]
    assert found.restart == ()
    assert (found.busy_first, found.busy_second, found.busy_ratios) == ((), (), {})
    assert found.peak_memory_bytes == (1, 3, 2, 4)
    assert kept.versions == {"program": "4"}


def test_a_restart_finds_what_one_earlier_process_left(jobs: list[Job], tmp_path: Path):
    kept = Rounds(name="kept", note="", job=JOB, cache_dir=tmp_path)
    for _ in range(2):
        kept.run_one(lambda what: None)
    folders = [None if job.cache_dir is None else Path(job.cache_dir) for job in jobs]
    assert folders == [None, tmp_path, tmp_path, None, None, tmp_path, None]
    # The process that left the picture is no sample.
    assert totals(kept.configuration().restart) == [3, 6]


def test_a_busy_machine_is_measured_in_turn_with_an_idle_one(
    jobs: list[Job], monkeypatch: pytest.MonkeyPatch
):
    beside: list[int] = []

    @contextmanager
    def fake_processes(count: int) -> Iterator[None]:
        beside.extend([count, len(jobs)])
        yield
        beside.append(len(jobs))

    monkeypatch.setattr(rounds, "busy_processes", fake_processes)
    told: list[str] = []
    kept = Rounds(name="kept", note="", job=JOB, busy=2)
    for _ in range(2):
        kept.run_one(told.append)
    assert told == ["cold", "warm", "busy"] * 2
    assert beside == [2, 2, 3, 2, 5, 6]  # the third process of each round
    found = kept.configuration()
    assert totals(found.first) == totals(found.second) == [2, 5]
    assert totals(found.busy_first) == totals(found.busy_second) == [3, 6]
    assert found.busy_ratios == {"first": (1.5, 1.2), "second": (1.5, 1.2)}
    assert found.peak_memory_bytes == (1, 4, 2, 5, 3, 6)


def test_what_is_absent_has_no_samples(jobs: list[Job]):
    gone = Rounds(name="gone", note="", job=JOB)
    gone.run_one(lambda what: None)
    gone.absent = "out of memory"
    found = gone.configuration()
    assert found.absent == "out of memory"
    assert (found.cold, found.first, found.second, found.peak_memory_bytes) == ((), (), (), ())


def test_a_process_that_fails_says_why():
    with pytest.raises(BenchError, match="/nowhere"):
        Rounds(name="", note="", job=JOB).run_one(lambda what: None)


@pytest.mark.parametrize(
    ("body", "match"),
    [
        ("kill -9 $$", "ended by signal 9; out of memory"),
        ("echo first >&2; echo last >&2; exit 3", "^last$"),
        ("exit 3", "ended with status 3"),
    ],
)
def test_a_process_that_ends_early_is_told(
    body: str, match: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    program = tmp_path / "python"
    program.write_text(f"#!/bin/sh\ncat > /dev/null\n{body}\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    with pytest.raises(BenchError, match=match):
        Rounds(name="", note="", job=JOB).run_one(lambda what: None)
