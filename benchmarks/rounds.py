"""Rounds of samples: each round measures every configuration once.

In: a job of each configuration. Out: its samples. So a machine whose speed drifts, or a neighbour
on the same processor, affects all configurations alike.
"""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from edge_et.benchmarks.document import Configuration, Measured
from edge_et.benchmarks.subject import Job
from edge_et.errors import BenchError


@dataclass(slots=True, kw_only=True)
class Rounds:
    """The samples of one configuration so far.

    Attributes:
        name: of the configuration.
        note: what it is.
        job: of its warm processes.
        cache_dir: a folder of its own for what survives processes; None: it keeps nothing there.
        absent: why it cannot be measured; None: it can.
        versions: of programs that took part.
    """

    name: str
    note: str
    job: Job
    cache_dir: Path | None = None
    absent: str | None = None
    versions: dict[str, str] = field(default_factory=dict)
    _cold: list[Measured] = field(default_factory=list)
    _restart: list[Measured] = field(default_factory=list)
    _warm: list[Measured] = field(default_factory=list)

    def run_one(self, tell: Callable[[str], None]) -> None:
        """Run a round: a cold process, one that finds the picture on disk, and a warm one.

        Args:
            tell: called with what runs next: cold, restart or warm.

        Raises:
            BenchError: a process failed.
        """
        once = msgspec.structs.replace(self.job, warm=False)
        tell("cold")
        self._cold.append(_run_worker(once))
        if self.cache_dir is not None:
            tell("restart")
            again = msgspec.structs.replace(once, cache_dir=str(self.cache_dir))
            if not self._restart:
                _run_worker(again)  # leaves the picture there
            self._restart.append(_run_worker(again))
        tell("warm")
        self._warm.append(_run_worker(self.job))
        self.versions |= self._warm[-1].versions

    def configuration(self) -> Configuration:
        """Put together what was measured; nothing of it where the configuration is absent."""
        if self.absent is not None:
            return Configuration(name=self.name, note=self.note, absent=self.absent)
        everything = (*self._cold, *self._restart, *self._warm)
        return Configuration(
            name=self.name,
            note=self.note,
            absent=None,
            cold=tuple(sample for measured in self._cold for sample in measured.first),
            restart=tuple(sample for measured in self._restart for sample in measured.first),
            first=tuple(sample for measured in self._warm for sample in measured.first),
            second=tuple(sample for measured in self._warm for sample in measured.second),
            peak_memory_bytes=tuple(measured.peak_memory_bytes for measured in everything),
        )


def _run_worker(job: Job) -> Measured:
    """Run a worker process to its end.

    Raises:
        BenchError: it failed; the message is what it said last.
    """
    done = subprocess.run(
        [sys.executable, "-m", "edge_et.benchmarks.worker"],
        input=msgspec.json.encode(job),
        capture_output=True,
    )
    if done.returncode < 0:
        raise BenchError(f"the process was ended by signal {-done.returncode}; out of memory?")
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise BenchError(said or f"the process ended with status {done.returncode}")
    return msgspec.json.decode(done.stdout, type=Measured)
