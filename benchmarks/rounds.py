"""Rounds of samples: each round measures every configuration once.

In: a job of each configuration. Out: its samples. So a machine whose speed drifts, or a neighbour
on the same processor, affects all configurations alike.
"""

import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from edge_et.benchmarks.busy import busy_processes
from edge_et.benchmarks.document import Configuration, Measured, Sample
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
        busy: processes beside which a warm process is measured once more; 0: it is not.
        absent: why it cannot be measured; None: it can.
        versions: of programs that took part.
    """

    name: str
    note: str
    job: Job
    cache_dir: Path | None = None
    busy: int = 0
    absent: str | None = None
    versions: dict[str, str] = field(default_factory=dict)
    _cold: list[Measured] = field(default_factory=list)
    _restart: list[Measured] = field(default_factory=list)
    _warm: list[Measured] = field(default_factory=list)
    _busy: list[Measured] = field(default_factory=list)

    def run_one(self, tell: Callable[[str], None]) -> None:
        """Run a round: a cold process, one that finds the picture on disk, and a warm one or two.

        Args:
            tell: called with what runs next: cold, restart, warm or busy.

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
        if self.busy:
            tell("busy")
            with busy_processes(self.busy):
                self._busy.append(_run_worker(self.job))

    def configuration(self) -> Configuration:
        """Put together what was measured; nothing of it where the configuration is absent."""
        if self.absent is not None:
            return Configuration(name=self.name, note=self.note, absent=self.absent)
        everything = (*self._cold, *self._restart, *self._warm, *self._busy)
        first, second = _answers(self._warm)
        busy_first, busy_second = _answers(self._busy)
        return Configuration(
            name=self.name,
            note=self.note,
            absent=None,
            cold=_answers(self._cold)[0],
            restart=_answers(self._restart)[0],
            first=first,
            second=second,
            busy_first=busy_first,
            busy_second=busy_second,
            busy_ratios={
                "first": _ratios(busy_first, first),
                "second": _ratios(busy_second, second),
            }
            if self._busy
            else {},
            peak_memory_bytes=tuple(measured.peak_memory_bytes for measured in everything),
            models=self._warm[-1].models if self._warm else (),
        )


def _answers(processes: Sequence[Measured]) -> tuple[tuple[Sample, ...], tuple[Sample, ...]]:
    """Return the samples of first and of second questions."""
    return (
        tuple(sample for measured in processes for sample in measured.first),
        tuple(sample for measured in processes for sample in measured.second),
    )


def _ratios(busy: Sequence[Sample], idle: Sequence[Sample]) -> tuple[float, ...]:
    return tuple(one.total_s / other.total_s for one, other in zip(busy, idle, strict=True))


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
