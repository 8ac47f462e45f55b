import json
import subprocess
import sys
from pathlib import Path

import pytest

from edge_et.benchmarks.concurrency import MOMENTS


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edge_et", "bench", "concurrency", *arguments]
    return subprocess.run(command, capture_output=True, text=True)


def test_every_moment_and_the_throughput_are_measured(tiny_bundle: Path) -> None:
    told = run("--model", str(tiny_bundle), "--threads", "1", "--samples", "2", "--json")
    assert told.returncode == 0, told.stderr
    document = json.loads(told.stdout)
    moments = [(one["measure"], one["moment"]) for one in document["samples"]]
    assert len(set(moments)) == 2 * len(MOMENTS)
    assert all(len(one["seconds"]) == 2 for one in document["samples"])
    assert all(seconds > 0 for one in document["samples"] for seconds in one["seconds"])
    assert len(document["throughput"]) == 2


def test_it_is_printed_as_tables(tiny_bundle: Path) -> None:
    told = run("--model", str(tiny_bundle), "--threads", "1", "--samples", "1")
    assert told.returncode == 0, told.stderr
    assert "an urgent question begins" in told.stdout
    assert "throughput of two contexts, by that of one:" in told.stdout


@pytest.mark.parametrize("arguments", [("--model", "a", "--synthetic", "b"), ("--samples", "0")])
def test_what_makes_no_sense_is_refused(arguments: tuple[str, ...]) -> None:
    told = run(*arguments)
    assert (told.returncode, told.stdout) == (2, "")
