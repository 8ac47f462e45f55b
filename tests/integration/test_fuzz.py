"""Damaged bundles, snapshots and pictures, by the hundred: no signal, no hang, no traceback."""

import logging
import os
import selectors
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from tiny.places import ROOT

KINDS = ("manifest", "tokenizer", "text", "weights", "graph", "snapshot", "picture")
PATIENCE_S = 60

logger = logging.getLogger(__name__)


class Worker:
    """A process that takes one mutation after the other, and is replaced when it dies."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._started = 0
        self._process: subprocess.Popen[str] | None = None

    def take(self, kind: str, seed: int) -> str:
        """Return what became of a mutation."""
        if self._process is None:
            self._start()
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(f"{kind} {seed}\n")
        self._process.stdin.flush()
        line = self._line()
        if line:
            return line
        self._process.kill()
        status, self._process = self._process.wait(), None
        return f"wrong: it ended with {status}, or had to be killed"

    def stop(self) -> None:
        if self._process is not None:
            self._process.communicate()

    def _start(self) -> None:
        self._started += 1
        folder = self._folder / str(self._started)
        folder.mkdir()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tiny.mutations", str(folder)],
            env={**os.environ, "PYTHONPATH": str(ROOT / "tests")},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self._line() == "ready"

    def _line(self) -> str:
        """Return what the process says next; nothing if it ends or hangs."""
        assert self._process is not None
        assert self._process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            if not selector.select(PATIENCE_S):
                return ""
        return self._process.stdout.readline().strip()


@pytest.mark.parametrize("count", [200, pytest.param(850, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", KINDS)
def test_mutations_are_answered_or_refused(tmp_path: Path, kind: str, count: int) -> None:
    worker = Worker(tmp_path)
    outcomes = {seed: worker.take(kind, seed) for seed in range(count)}
    worker.stop()
    logger.info("%s: %s", kind, Counter(outcomes.values()))
    assert {seed: said for seed, said in outcomes.items() if said.startswith("wrong")} == {}
    if kind not in ("text", "snapshot"):  # no JSON survives that; every snapshot is made again
        assert len(set(outcomes.values())) > 1
